//! Broken releases: the committed one keeps serving, and the reason is reported.

use crate::harness::Host;
use crate::site::{CONFIG_FILE, ENV_FILE, config_with, installed_with, turn};

pub const SHORT: [(&str, &str); 2] = [
    ("timeout = \"60s\"", "timeout = \"10s\""),
    // Longer than `flaps` runs (2 s).
    ("soak = \"1s\"", "soak = \"3s\"\ndrain_timeout = \"6s\""),
];

const NASTY: [(&str, &str); 2] = [
    ("instances = 2", "instances = 2\nstop_timeout = \"2s\""),
    ("soak = \"1s\"", "soak = \"1s\"\ndrain_timeout = \"6s\""),
];

/// Deploys a release that must not be committed.
pub fn deploy_broken(host: &Host, tag: &str, reasons: &[&str]) {
    let env = host.read(ENV_FILE);
    let turn = turn();
    let load = host.load(100).websockets(0).start();
    let deploy = host.deploy(tag);
    let report = load.stop();
    drop(turn);
    let stdout = deploy.text();
    println!("== {tag}\n{stdout}");
    assert_eq!(deploy.code(), 3, "{tag}: {stdout}");
    for reason in reasons {
        assert!(stdout.contains(reason), "{tag}: no {reason:?} in {stdout}");
    }
    report.assert_lossless();
    assert_eq!(report.versions.keys().collect::<Vec<_>>(), ["v1"], "{tag}");
    assert_eq!(host.read(ENV_FILE), env, "{tag}");
    host.assert_tidy();
    assert_told(host, tag, reasons[0]);
}

/// Seconds that the undo of an instance took: from its stop to the start of the committed release.
fn seconds_back(printed: &str) -> f64 {
    let line = printed.lines().find(|l| l.starts_with("undo") && l.contains("return astra-app@")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// `status` and `history` show it, and it is not tried again by mistake.
fn assert_told(host: &Host, tag: &str, reason: &str) {
    let status = host.status();
    let digest = host.digest(tag);
    let held = status["held"].as_array().unwrap().iter().find(|held| held["digest"] == digest.as_str());
    let held = held.unwrap_or_else(|| panic!("{tag} is not held: {status:#}"));
    assert!(held["reason"].as_str().unwrap().contains(reason), "{held:#}");
    assert_eq!(status["release"], 1);

    let last = &host.history()[0];
    assert_eq!(last["release"]["image"], host.image(tag).as_str(), "{last:#}");
    assert!(last["reason"].as_str().unwrap().contains(reason), "{last:#}");
    assert!(last["outcome"].to_string().contains("release"), "{last:#}");

    let again = host.agent(["deploy"]);
    assert_eq!(again.code(), 1, "{}", again.text());
    assert!(again.stderr.contains("held") && again.stderr.contains("--force"), "{}", again.stderr);
}

#[test]
fn a_broken_release_is_undone_without_a_lost_request() {
    let host = installed_with("broken", &config_with(SHORT));
    let second = host.sh("systemctl show -p InvocationID astra-app@2").ok().stdout;
    deploy_broken(&host, "exits", &["exit code 3", "APP_FAULT=exits: no good reason to live"]);
    deploy_broken(&host, "never-ready", &["within 10s", "APP_FAULT=never-ready: never listening"]);
    deploy_broken(&host, "not-ready", &["/readyz answered 503: not ready: APP_FAULT=not-ready"]);
    deploy_broken(&host, "flaps", &["exited with code 4", "APP_FAULT=flaps"]);
    assert_eq!(host.sh("systemctl show -p InvocationID astra-app@2").ok().stdout, second, "not its turn");
    assert_eq!(host.versions([1, 2]), ["v1", "v1"]);

    // A process 1 that ignores SIGTERM is killed after its own stop timeout, 10 s, not after the unit's, 40
    // s.
    host.write(CONFIG_FILE, &config_with(SHORT).replace("[app]", "[app]\ncommand = [\"sleep\", \"600\"]"));
    let deaf = host.deploy("v1");
    assert_eq!(deaf.code(), 3, "{}{}", deaf.stdout, deaf.stderr);
    let said = format!("{}{}", deaf.stdout, deaf.stderr);
    assert!(said.contains("not READY within 10s") && seconds_back(&said) < 35.0, "{said}");
    assert_eq!(host.versions([1, 2]), ["v1", "v1"]);
}

#[test]
fn a_failed_migration_touches_no_instance() {
    let host = installed_with("migration", &config_with(SHORT));
    let before = host.invocations();
    deploy_broken(
        &host,
        "migrate-fails",
        &["the migration ended with code 1", "this migration fails on purpose"],
    );
    assert_eq!(host.invocations(), before);
}

#[test]
fn a_release_that_ignores_sigterm_is_replaced_without_loss() {
    let host = installed_with("nasty", &config_with(NASTY));
    for tag in ["ignores-term", "dies-on-term", "v2"] {
        let _turn = turn();
        let load = host.load(100).websockets(2).start();
        let deploy = host.deploy(tag);
        println!("== {tag}\n{}", deploy.text());
        load.stop().assert_lossless();
        deploy.ok();
        assert_eq!(host.versions([1, 2]), [tag, tag]);
        host.assert_tidy();
    }
}
