//! Events during a soak, and who is to blame.

use std::thread;
use std::time::Duration;

use crate::harness::{Host, Output};
use crate::site::{CONFIG_FILE, config_with, installed_with};

const LONG: [(&str, &str); 1] = [("soak = \"1s\"", "soak = \"4s\"")];

/// Deploys `version`, and does `act` to the first instance one second after the new release answers there.
fn deploy_and(host: &Host, version: &str, act: &str) -> Output {
    let moment = format!(
        "for _ in $(seq 600); do curl -s -m 1 localhost:8001/ | grep -q '^{version} ' && break; sleep 0.1; done"
    );
    thread::scope(|scope| {
        let acts = scope.spawn(|| host.sh(&format!("{moment}; sleep 1; {act}")));
        let deploy = host.deploy(version);
        acts.join().unwrap().ok();
        deploy
    })
}

#[test]
fn a_manual_restart_during_a_soak_is_waited_for() {
    let host = installed_with("soak", &config_with(LONG));
    let deploy = deploy_and(&host, "v2", "systemctl restart astra-app@1").ok();
    assert!(deploy.stdout.contains("release 2 is live"), "{}", deploy.stdout);
    assert_eq!(host.versions([1, 2]), ["v2", "v2"]);
    host.assert_tidy();
}

#[test]
fn a_killed_conmon_blames_the_host_and_a_killed_app_the_release() {
    let host = installed_with("killed", &config_with(LONG));
    let deploy = deploy_and(&host, "v2", "kill -9 $(systemctl show -P MainPID astra-app@1)");
    let said = deploy.text();
    assert_eq!(deploy.code(), 1, "{said}");
    for words in ["podman was killed (signal 9) while it ran astra-app@1", "journalctl -u astra-app@1"] {
        assert!(said.contains(words), "no {words:?} in {said}");
    }
    assert_eq!(host.status()["held"], serde_json::json!([]));
    assert_eq!(host.versions([1, 2]), ["v1", "v1"]);
    host.assert_tidy();

    let deploy = deploy_and(&host, "v2", "podman kill -s KILL astra-app-1");
    let said = deploy.text();
    assert_eq!(deploy.code(), 3, "{said}");
    assert!(said.contains("it exited with code 137 (SIGKILL; out of memory?)"), "{said}");
    assert_eq!(host.status()["held"].as_array().unwrap().len(), 1);
    host.assert_tidy();
}

#[test]
fn a_unit_stopped_by_hand_holds_nothing() {
    let host = installed_with("stopped", &config_with(LONG));
    let deploy = deploy_and(&host, "v2", "systemctl stop astra-app@1");
    let said = deploy.text();
    assert_eq!(deploy.code(), 1, "{said}");
    assert!(said.contains("astra-app@1 was stopped"), "{said}");
    assert_eq!(host.versions([1, 2]), ["v1", "v1"]);

    let drop_in = "/run/systemd/system/astra-migrate.service.d";
    host.sh(&format!(
        "mkdir -p {drop_in}; printf '[Service]\nExecStart=\nExecStart=/bin/sleep 60\n' >{drop_in}/x.conf; \
         systemctl daemon-reload"
    ))
    .ok();
    let migrates = "for _ in $(seq 600); do \
                    test $(systemctl show -P ActiveState astra-migrate) = activating && break; sleep 0.1; done";
    thread::scope(|scope| {
        let stops = scope.spawn(|| host.sh(&format!("{migrates}; systemctl stop astra-migrate")));
        let deploy = host.agent(["deploy", "--migrate"]);
        stops.join().unwrap().ok();
        let said = deploy.text();
        assert_eq!(deploy.code(), 1, "{said}");
        assert!(said.contains("migrating: another systemd job interfered"), "{said}");
    });
    assert_eq!(host.status()["held"], serde_json::json!([]));
    host.assert_tidy();
}

#[test]
fn a_release_that_answers_visitors_with_errors_is_taken_back() {
    let judged = ("soak = \"1s\"", "soak = \"3s\"\nmax_5xx = \"5%\"\nmax_p99 = \"2500ms\"");
    let host = installed_with("errors", &config_with([judged]));
    let good = host.read(CONFIG_FILE);
    host.write(CONFIG_FILE, &good.replace("[env]\n", "[env]\nAPP_ERRORS = \"0.5\"\n"));
    let load = host.load(50).websockets(0).start();
    host.wait("curl -sf --max-time 1 localhost/", Duration::from_secs(5));
    let broken = host.deploy("v2");
    assert_eq!(broken.code(), 3, "{}", broken.text());
    assert!(
        broken.text().contains("answers to visitors had a status of 5xx, limit 5 %"),
        "{}",
        broken.text()
    );
    assert_eq!(host.versions([1, 2]), ["v1", "v1"]);
    host.write(CONFIG_FILE, &good);
    let deployed = host.deploy("v2").ok();
    assert!(deployed.text().contains(" answers, 0 of them 5xx, 0 slower than 2.5s"), "{}", deployed.text());
    assert_eq!(host.versions([1, 2]), ["v2", "v2"]);
    host.assert_tidy();
    let report = load.stop();
    assert!(report.versions.contains_key("v2"), "{report:#?}");
}
