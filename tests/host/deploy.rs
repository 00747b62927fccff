//! Deploys under traffic: no request is lost.

use crate::harness::Host;
use crate::report::{Cut, Report};
use crate::site::{CONFIG, ENV_FILE, config_with, installed_with, turn};

/// Long enough for an event stream (5 s), so that at its end only WebSockets are still open.
pub const DRAIN: (&str, &str) = ("soak = \"1s\"", "soak = \"1s\"\ndrain_timeout = \"6s\"");
const SURGE: (&str, &str) = ("[deploy]", "[deploy]\nstrategy = \"surge\"");
const ALONE: (&str, &str) = ("instances = 2", "instances = 1");

/// Deploys v2 over v1 under `rate` requests a second.
pub fn deploy_under_load(host: &Host, rate: u32, websockets: usize) -> Report {
    let turn = turn();
    let load = host.load(rate).websockets(websockets).start();
    host.wait("curl -sf --max-time 1 localhost/", std::time::Duration::from_secs(5));
    let deploy = host.deploy("v2");
    println!("{}", deploy.text());
    let report = load.stop();
    drop(turn);
    assert!(deploy.ok().stdout.contains(" 0 failed (502-504 from Caddy)"));
    report
}

#[track_caller]
pub fn assert_v2_after_v1(host: &Host) {
    assert_eq!(host.env("APP_IMAGE"), host.image("v2"));
    assert_eq!(host.read("/etc/astra/last_app_image").trim(), host.image("v1"));
    host.assert_tidy();
}

#[test]
fn a_rolling_deploy_loses_no_request_and_cuts_only_drained_websockets() {
    let host = installed_with("rolling", &config_with([DRAIN]));
    let report = deploy_under_load(&host, 500, 10);
    report.assert_lossless();
    assert_v2_after_v1(&host);
    assert_eq!(host.versions([1, 2]), ["v2", "v2"]);
    assert!(report.versions.contains_key("v1") && report.versions.contains_key("v2"), "{report:#?}");

    // One instance after the other, each when its WebSockets' time was over.
    let cuts = &report.websockets.cuts;
    let mut drained: Vec<&str> = cuts.iter().map(|cut| cut.who.as_str()).collect();
    drained.dedup();
    assert_eq!(drained.len(), 2, "{cuts:#?}");
    assert!(drained.iter().all(|who| who.starts_with("v1 ")), "{cuts:#?}");
    let times: Vec<f64> = drained.iter().map(|who| first(cuts, who).at).collect();
    assert!(times[0] > 5.0 && times[1] - times[0] > 5.0, "{cuts:#?}");
}

fn first<'a>(cuts: &'a [Cut], who: &str) -> &'a Cut {
    cuts.iter().find(|cut| cut.who == who).unwrap()
}

#[test]
fn a_surge_deploy_loses_no_request_and_leaves_no_spare() {
    let kill = ("instances = 2", "instances = 2\nstop_timeout = \"4s\"");
    let host = installed_with("surge", &config_with([DRAIN, SURGE, kill]));
    deploy_under_load(&host, 500, 0).assert_lossless();
    assert_v2_after_v1(&host);
    assert_eq!(host.versions([1, 2]), ["v2", "v2"]);

    // A spare that has to be killed leaves no failed unit.
    host.deploy("ignores-term").ok();
    assert_eq!(host.status()["instances"].as_array().unwrap().len(), 2);
    assert_eq!(host.sh("systemctl is-system-running").stdout, "running\n");
}

#[test]
fn a_single_instance_is_deployed_with_a_spare_and_loses_no_request() {
    let host = installed_with("single", &config_with([DRAIN, ALONE]));
    deploy_under_load(&host, 500, 0).assert_lossless();
    assert_v2_after_v1(&host);
    assert_eq!(host.versions([1]), ["v2"]);
}

#[test]
fn manual_lines_of_the_env_file_stay() {
    let host = installed_with("env", CONFIG);
    let handmade = "# by hand, and odd\n\n  INDENTED=1\nEMPTY=\nEQUALS=a=b#c\nTAIL=last";
    let written = host.read(ENV_FILE);
    host.write(ENV_FILE, &format!("{handmade}\n{written}"));
    host.deploy("v2").ok();
    assert_eq!(unmanaged(&host.read(ENV_FILE)), unmanaged(&format!("{handmade}\n{written}")));
    assert_eq!(host.sh("podman exec astra-app-1 printenv EQUALS").ok().stdout, "a=b#c\n");

    // The operators' usual way.
    host.sh(&format!("sed -i s/^EMPTY=/EMPTY=no-longer/ {ENV_FILE}")).ok();
    host.sh("systemctl restart astra-app@1 astra-app@2 astra-caddy").ok();
    host.wait("curl -sSf localhost/readyz", std::time::Duration::from_secs(20));
    for instance in ["astra-app-1", "astra-app-2"] {
        let seen = host.sh(&format!("podman exec {instance} printenv EMPTY")).ok().stdout;
        assert_eq!(seen, "no-longer\n");
    }
    assert_eq!(host.versions([1, 2]), ["v2", "v2"]);
}

/// All lines except the agent's.
fn unmanaged(file: &str) -> String {
    let managed = ["APP_IMAGE=", "ASTRA_RELEASE=", "APP_ARGS=", "APP_COMMAND="];
    file.lines()
        .filter(|line| !managed.iter().any(|key| line.starts_with(key)))
        .collect::<Vec<_>>()
        .join("\n")
}

/// An app closes connections that were idle for 5 s (uvicorn), perhaps just when the next request is on its
/// way. A POST is not repeated.
#[test]
fn a_site_with_pauses_loses_no_post() {
    let host = installed_with("pauses", CONFIG);
    let burst = "curl -sS --parallel --parallel-immediate --parallel-max 60 --no-progress-meter \
                 -d hello -o /dev/null -w '%{http_code}\\n' 'http://localhost/echo?[1-60]'";
    let bursts = format!("for pause in 4.97 5 5.03 5.06; do {burst}; sleep $pause; done | sort | uniq -c");
    assert_eq!(host.sh(&bursts).ok().stdout.trim(), "240 200");
}
