//! Rotation under load: loads of changed Caddyfiles, open WebSockets at a drain, instances that hang.

use std::time::{Duration, Instant};

use crate::harness::Host;
use crate::recovery::QUICK;
use crate::site::{CONFIG_FILE, config_with, installed_with, turn};

/// Loads of a changed `[caddy]` in a row; the campaign has more.
const LOADS: usize = 5;
/// A connection opened at the very moment when the former servers end may be lost: one in some 40 loads.
const LOST: usize = 1;

#[test]
fn a_changed_caddyfile_loses_at_most_one_request_and_cuts_no_websocket() {
    let host = installed_with("loads", &config_with([QUICK]));
    let _turn = turn();
    let load = host.load(120).websockets(4).start();
    for nth in 0..LOADS {
        let extra = format!("tls = \"off\"\nextra = \"header X-Load {nth}\"");
        host.write(CONFIG_FILE, &config_with([QUICK, ("tls = \"off\"", &extra)]));
        host.agent(["reconcile"]).ok();
        let header = host.sh("curl -sSI -m 10 localhost/").ok().stdout;
        assert!(header.contains(&format!("X-Load: {nth}")), "{header}");
    }
    let report = load.stop();
    assert!(report.failed <= LOST, "{report:#?}");
    assert_eq!((report.websockets.failed, report.websockets.cuts.len()), (0, 0), "{report:#?}");
    host.assert_tidy();
}

/// After an install that took long, a boot, a crash of all instances.
#[test]
fn a_site_that_was_down_opens_websockets_as_soon_as_it_serves() {
    let host = installed_with("down", &config_with([QUICK]));
    // Two health checks of the address for streams fail, 6 s apart.
    host.sh("systemctl stop astra-app@1 astra-app@2; sleep 13; systemctl start astra-app@1 astra-app@2").ok();
    host.wait("curl -sSf -m 1 localhost/", Duration::from_secs(10));
    let handshake = "curl -s -o /dev/null -m 8 -w '%{http_code}' -H 'Connection: Upgrade' -H 'Upgrade: websocket' \
                     -H 'Sec-WebSocket-Version: 13' -H 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==' localhost/ws";
    assert_eq!(host.sh(handshake).stdout, "101");
}

#[test]
fn websockets_and_event_streams_delay_a_drain_no_longer_than_their_own_timeout() {
    let host = installed_with("streams", &config_with([QUICK]));
    let _turn = turn();
    let load = host.load(60).websockets(20).start();
    std::thread::sleep(Duration::from_secs(2));
    let begun = Instant::now();
    host.tag("latest", "v2");
    let deploy = host.sh("astra-agent deploy --json").ok().stdout;
    let took = begun.elapsed();
    let report = load.stop();
    assert_eq!(report.failed, 0, "{report:#?}");
    let answer: serde_json::Value = serde_json::from_str(&deploy).unwrap();
    assert!(answer["cut"].as_u64().is_some_and(|cut| cut >= 20), "{deploy}");
    // Two instances, 5 s for the streams of each; with drain_timeout it was 30 s each.
    assert!(took < Duration::from_secs(55), "{took:?}");
}

#[test]
fn an_instance_that_hangs_or_is_not_ready_leaves_rotation_within_five_seconds() {
    let host = installed_with("hangs", &config_with([QUICK]));
    let pid = host.sh("podman inspect --format '{{.State.Pid}}' astra-app-1").ok().stdout.trim().to_owned();
    host.sh(&format!("kill -STOP {pid}")).ok();
    std::thread::sleep(Duration::from_secs(5));
    let ask = "for i in $(seq 20); do curl -sS -m 2 -o /dev/null -w '%{http_code}\\n' localhost/; done | sort | uniq -c";
    assert_eq!(host.sh(ask).ok().stdout.trim(), "20 200");
    host.sh(&format!("kill -CONT {pid}")).ok();
    back_in_rotation(&host);

    // The next request skips a dead instance.
    let load = host.load(100).quick().start();
    std::thread::sleep(Duration::from_secs(1));
    host.sh("systemctl kill --signal=KILL astra-app@1; sleep 4").ok();
    let report = load.stop();
    // A request in flight is lost with the killed instance.
    assert!(report.failed <= 2, "{report:#?}");
}

/// While a container starts, podman listens on its published ports for 0.05 s, and answers nothing.
#[test]
fn no_request_hangs_on_a_container_that_starts() {
    let host = installed_with("starts", &config_with([QUICK]));
    let ask = "curl -s -m 8 -o /dev/null -w '%{exitcode} %{time_connect}\\n' 127.0.0.1:8001/version";
    let script = format!(
        "for kill in 1 2 3; do
            podman kill astra-app-1 >/dev/null
            for i in $(seq 400); do {ask} & sleep 0.008; done
        done; wait"
    );
    let answers = host.sh(&script).stdout;
    let hung = answers.lines().filter(|line| line.starts_with("28 ") && *line != "28 0.000000").count();
    let served = answers.lines().filter(|line| line.starts_with("0 ")).count();
    assert!(hung == 0 && served > 200, "{hung} hung, {served} served");
}

fn back_in_rotation(host: &Host) {
    host.wait("curl -sSf -m 2 127.0.1.1:9080/serves", Duration::from_secs(20));
}
