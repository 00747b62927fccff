//! Rollbacks.

use crate::site::{config_with, installed_with};

const NO_SOAK: (&str, &str) = ("soak = \"1s\"", "soak = \"0s\"");

#[test]
fn two_rollbacks_without_a_registry_go_two_releases_back_also_after_a_prune() {
    let host = installed_with("rollback", &config_with([NO_SOAK]));
    host.deploy("v2").ok();
    host.deploy("v3").ok();
    let (v1, v2) = (host.image("v1"), host.image("v2"));
    // A crontab line on many hosts. The timer looks once an hour.
    host.sh("podman image prune -af").ok();
    assert_eq!(host.sh(&format!("podman image exists {v2}")).code(), 1);
    host.sh("rm /run/astra/way-back; systemctl start astra-agent-reconcile").ok();
    host.sh(&format!("podman image exists {v2}; podman pull -q {v1}")).ok();
    host.sh("systemctl stop docker-registry").ok();
    assert_eq!(host.status()["rollback_to"], v2.as_str());
    host.agent(["rollback"]).ok();
    assert_eq!((host.env("APP_IMAGE"), host.versions([1, 2])), (v2, ["v2".into(), "v2".into()]));
    assert_eq!(host.status()["rollback_to"], v1.as_str());
    host.agent(["rollback"]).ok();
    assert_eq!((host.env("APP_IMAGE"), host.versions([1, 2])), (v1, ["v1".into(), "v1".into()]));
    host.assert_tidy();

    let end = host.agent(["rollback"]);
    assert_eq!(end.code(), 1);
    assert!(end.stderr.contains("no earlier release"), "{}", end.stderr);
    assert_eq!(host.versions([1, 2]), ["v1", "v1"]);
}

#[test]
fn the_release_rolled_back_from_returns_only_with_force() {
    let host = installed_with("force", &config_with([NO_SOAK]));
    host.deploy("v2").ok();
    host.agent(["rollback"]).ok();
    let before = (host.files(), host.invocations());
    let refused = host.agent(["deploy"]);
    assert_eq!(refused.code(), 1, "{}", refused.stdout);
    assert!(refused.stderr.contains("held") && refused.stderr.contains("rolled back"), "{}", refused.stderr);
    assert!(refused.stderr.contains("`--force` tries it again"), "{}", refused.stderr);
    assert_eq!((host.files(), host.invocations()), before);

    host.agent(["deploy", "--force"]).ok();
    assert_eq!(host.versions([1, 2]), ["v2", "v2"]);
    assert_eq!(host.status()["held"].as_array().unwrap().len(), 0);
}
