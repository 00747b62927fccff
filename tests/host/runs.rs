//! A run as seen by its operator and in its log lines.

use crate::harness::Host;
use crate::site::{CONFIG_FILE, config_with, fresh_with, installed_with, turn};

const FAST: (&str, &str) = ("soak = \"1s\"", "soak = \"0s\"");

/// The standard config without a soak, with `more` in `[app]`.
fn with(more: &str) -> String {
    config_with([FAST, ("instances = 2", &format!("instances = 2\n{more}"))])
}

/// Deploys with `more` in `[app]`; returns the exit code and the whole output.
fn deploy_with(host: &Host, more: &str) -> (i32, String) {
    host.write(CONFIG_FILE, &with(more));
    let deploy = host.agent(["deploy"]);
    let text = deploy.text();
    println!("== {more}\n{text}");
    (deploy.code(), text)
}

#[test]
fn engine_errors_are_shown_and_the_right_party_is_blamed() {
    let host = installed_with("words", &with(""));
    let held = || host.status()["held"].as_array().unwrap().len();

    let (code, text) = deploy_with(&host, "volumes = [\"/tmp/no-such-key.pem:/key.pem:ro\"]");
    assert_eq!((code, held()), (1, 0), "a missing file on this host is not the release's fault");
    let reason = "Error: statfs /tmp/no-such-key.pem: no such file or directory";
    assert!(text.contains(reason), "{text}");
    assert!(host.sh("journalctl -u astra-app@1").ok().stdout.contains(reason));
    for noise in ["container died", "container create", "<nwarn>", "Deactivated"] {
        assert!(!text.contains(noise), "{noise}: {text}");
    }

    // Only if the test machine has no such controller for its hosts.
    if host.sh("grep -qw memory /sys/fs/cgroup/cgroup.controllers").code() != 0 {
        let (code, text) = deploy_with(&host, "memory = \"300M\"");
        assert_eq!((code, held()), (1, 0), "a limit that this host cannot set is not the release's fault");
        for said in ["memory.max", "this host cannot set a limit"] {
            assert!(text.contains(said), "no {said:?} in {text}");
        }
    }

    let (code, text) = deploy_with(&host, "command = [\"no-such-command\"]");
    assert_eq!((code, held()), (3, 1));
    assert!(text.contains("executable file `no-such-command` not found"), "{text}");

    // The log lines are those of the failed start, not of the release that was stopped for it.
    host.sh("for i in 1 2; do podman exec astra-app-$i sh -c 'echo goodbye-of-the-old >/proc/1/fd/1'; done")
        .ok();
    host.write(CONFIG_FILE, &with(""));
    let exits = host.deploy("exits");
    assert_eq!(exits.code(), 3, "{}", exits.text());
    assert!(exits.text().contains("no good reason to live"), "{}", exits.text());
    assert!(!exits.text().contains("goodbye-of-the-old"), "{}", exits.text());

    // A repeated cause is shown once.
    let migrate = host.deploy("migrate-fails");
    let because = migrate.stdout.lines().find(|line| line.contains("because")).unwrap().to_owned();
    assert!(because.ends_with("migrating: the migration ended with code 1"), "{because}");
}

/// Number of entries that runs have left in the systemd journal.
fn entries(host: &Host) -> Vec<serde_json::Value> {
    let lines = host.sh("journalctl MESSAGE_ID=8b8827d277894539aaa6453c2d387272 -o json").ok().stdout;
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_rolling_restart_loses_nothing_and_every_run_leaves_one_entry() {
    let host = installed_with("restart", &with(""));
    let before = host.invocations();
    let turn = turn();
    let load = host.load(20).websockets(0).start();
    let restart = host.agent(["deploy", "--restart"]);
    let report = load.stop();
    drop(turn);
    println!("{}", restart.text());
    assert_eq!(restart.code(), 0, "{}", restart.text());
    report.assert_lossless();
    assert!(!restart.text().contains("migrate"), "{}", restart.text());
    assert!(!restart.stdout.contains("ok "), "progress is not the answer: {}", restart.stdout);
    assert_ne!(host.invocations(), before);
    assert_eq!((&host.status()["release"], &host.status()["pinned"]), (&1.into(), &false.into()));

    assert_eq!(host.deploy("exits").code(), 3);
    let told = entries(&host);
    let field = |entry: &serde_json::Value, name: &str| entry[name].as_str().unwrap_or_default().to_owned();
    let words: Vec<_> = told
        .iter()
        .map(|e| [field(e, "ASTRA_VERB"), field(e, "ASTRA_OUTCOME"), field(e, "PRIORITY")].join(" "))
        .collect();
    assert_eq!(words, ["install converged 5", "deploy converged 5", "deploy undone 3"], "{told:#?}");
    let failed = told.last().unwrap();
    assert_eq!(field(failed, "ASTRA_DIGEST"), host.digest("exits"));
    assert_eq!((field(failed, "ASTRA_ACTOR"), field(failed, "ASTRA_EXIT_CODE")), ("root".into(), "3".into()));
    assert!(!field(failed, "MESSAGE_ID").is_empty());

    // A timer's run with nothing to do leaves no entry; one that repairs does.
    host.sh("systemctl start astra-agent-reconcile.service").ok();
    assert_eq!(entries(&host).len(), 3);
    host.sh("systemctl stop astra-app@2; systemctl start astra-agent-reconcile.service").ok();
    let told = entries(&host);
    assert_eq!((told.len(), field(&told[3], "ASTRA_ACTOR")), (4, "systemd".to_owned()), "{told:#?}");

    // A `--` on the command line reaches the run.
    let unknown = host.agent(["deploy-sha", "--", &format!("sha256:{}", "0".repeat(64))]);
    assert_eq!(unknown.code(), 1, "{}", unknown.text());
}

#[test]
fn an_install_does_not_retry_a_failed_release() {
    let host = fresh_with("retry", &with(""));
    host.tag("latest", "exits");
    let failed = host.agent(["install"]);
    println!("{}", failed.text());
    assert_eq!(failed.code(), 3, "{}", failed.text());
    assert_eq!(failed.text().matches("try release 1 in").count(), 1, "{}", failed.text());
    host.tag("latest", "v1");
    host.agent(["install"]).ok();
    assert_eq!(host.status()["release"], 1, "tries that failed use up no number");
}
