//! `auto = true`: what the timer deploys, and what it leaves to an operator.

use std::time::Duration;

use crate::harness::Host;
use crate::site::{ENV_FILE, PASSWORD, config_with, installed_with};

/// One tick of the timer: its exit code and its output.
pub fn tick(host: &Host) -> (i32, String) {
    let unit = "astra-agent-reconcile.service";
    let tick = format!(
        r#"
        begun=$EPOCHREALTIME
        systemctl start {unit}
        systemctl show -P ExecMainStatus {unit}
        journalctl --sync
        journalctl -q -o cat -u {unit} --since "@$begun"
        "#
    );
    // Not by the invocation: on a busy machine journald loses it for one in ten units that end at once.
    let told = host.sh(&tick).ok().stdout;
    let (code, said) = told.split_once('\n').unwrap();
    (code.parse().unwrap(), said.to_owned())
}

fn auto(name: &str) -> Host {
    let config =
        [("soak = \"1s\"", "soak = \"0s\"\nauto = true"), ("timeout = \"60s\"", "timeout = \"20s\"")];
    let host = installed_with(name, &config_with(config));
    host.sh("systemctl stop astra-agent-reconcile.timer").ok();
    host
}

#[test]
fn the_timer_follows_the_tag_and_tries_nothing_twice() {
    let host = auto("auto");
    host.tag("latest", "v2");
    assert_eq!(tick(&host).0, 0);
    assert_eq!(host.versions([1, 2]), ["v2", "v2"]);

    host.tag("latest", "exits");
    assert_eq!(tick(&host).0, 3);
    let before = (host.invocations(), host.history().len());
    let (code, said) = tick(&host);
    assert_eq!((code, said.contains("held")), (0, false), "{said}");
    assert_eq!((host.invocations(), host.history().len()), before, "a held release is not reported again");

    // Other obstacles are reported each time.
    host.tag("latest", "v3");
    host.write("/etc/astra/agent.d/disk.toml", "[deploy]\nmin_free = \"900T\"\n");
    let (code, said) = tick(&host);
    assert!(code == 1 && said.contains("free") && said.contains("hint:"), "{code} {said}");
    host.sh("rm /etc/astra/agent.d/disk.toml").ok();
    assert_eq!(tick(&host).0, 0);
    assert_eq!(host.versions([1, 2]), ["v3", "v3"]);
}

#[test]
fn only_an_operator_deploys_an_environment_and_a_failed_one_is_held() {
    let host = auto("autoenv");
    // The install starts its timer again, which must not run here.
    assert_eq!(tick(&host).0, 0);
    host.sh_with("astra-agent env set DATABASE_PASSWORD", "wrong").ok();
    let before = (host.invocations(), host.history().len());
    // The timer rolls neither for an environment nor for an instance that is not ready.
    host.sh("systemctl stop postgresql").ok();
    assert_eq!(tick(&host).0, 0);
    assert_eq!((host.invocations(), host.history().len()), before);
    host.sh("systemctl start postgresql").ok();
    host.wait("curl -sSf localhost:8001/readyz", Duration::from_secs(60));
    assert_eq!(host.agent(["deploy"]).code(), 3);
    // A restart meanwhile uses the committed environment.
    host.sh("systemctl restart astra-app@1").ok();
    host.wait("curl -sSf localhost:8001/readyz", Duration::from_secs(60));
    let before = (host.invocations(), host.history().len());
    assert_eq!(tick(&host).0, 0);
    assert_eq!((host.invocations(), host.history().len()), before);
    let again = host.agent(["deploy"]);
    assert!(again.code() == 1 && again.stderr.contains("is held"), "{}", again.stderr);
    assert_eq!(host.status()["held"].as_array().unwrap().len(), 1);
    // A rollback still works as well.
    let list = host.agent(["env", "list"]).ok().stdout;
    let staged = list.lines().find(|line| line.starts_with("DATABASE_PASSWORD=***")).unwrap();
    assert!(staged.ends_with("/etc/astra/astra.staged.env, changed by the next deploy"), "{list}");
    host.sh_with("astra-agent env set DATABASE_PASSWORD", PASSWORD).ok();
    host.agent(["deploy"]).ok();
    // A release that served all the time stays a rollback target.
    host.deploy("v2").ok();
    host.agent(["rollback"]).ok();
    assert_eq!(host.versions([1, 2]), ["v1", "v1"]);
}

#[test]
fn a_pinned_release_stays() {
    let host = auto("autopin");
    host.deploy("v2").ok();
    host.agent(["deploy-sha", &host.digest("v2")]).ok();
    assert_eq!(host.status()["pinned"], true, "what serves is to stay");
    host.tag("latest", "v3");
    assert_eq!(tick(&host).0, 0);
    host.sh("systemctl stop astra-app@1").ok();
    host.agent(["install"]).ok();
    assert_eq!(host.versions([1, 2]), ["v2", "v2"]);
    host.agent(["deploy"]).ok();
    assert_eq!(
        (host.versions([1, 2]), &host.status()["pinned"]),
        (["v3".into(), "v3".into()], &false.into())
    );

    // By hand, as described in operations.md.
    let old = host.image("v1");
    host.sh(&format!(
        "sed -i 's|^APP_IMAGE=.*|APP_IMAGE={old}|; s|^ASTRA_RELEASE=.*|ASTRA_RELEASE=1|' {ENV_FILE}"
    ))
    .ok();
    for _ in 0..2 {
        assert_eq!(tick(&host).0, 0);
        assert_eq!(
            (host.versions([1, 2]), &host.status()["pinned"]),
            (["v1".into(), "v1".into()], &true.into())
        );
    }
    host.tag("latest", "v1");
    host.agent(["deploy"]).ok();
    assert_eq!(host.status()["pinned"], false, "nothing to do, but to follow the tag again");
    host.tag("latest", "v2");
    assert_eq!(tick(&host).0, 0);
    assert_eq!(host.versions([1, 2]), ["v2", "v2"]);
}

#[test]
fn an_env_file_that_lost_its_release_stops_nothing() {
    let host = auto("nameless");
    let before = host.invocations();
    host.sh(&format!(
        "cp {ENV_FILE} /root/astra.env; sed -i '/^APP_IMAGE=/d; /^ASTRA_RELEASE=/d' {ENV_FILE}"
    ))
    .ok();
    let lines = format!("`APP_IMAGE={}` and `ASTRA_RELEASE=1`", host.image("v1"));
    host.tag("latest", "v2");
    let (code, said) = tick(&host);
    assert!(code == 2 && said.contains(&lines), "{code} {said}");
    for words in [["deploy"].as_slice(), &["rollback"], &["reconcile"], &["recover"], &["install"]] {
        let refused = host.sh(&format!("astra-agent {}", words.join(" ")));
        assert!(refused.code() == 2 && refused.stderr.contains(&lines), "{words:?}: {}", refused.stderr);
    }
    assert!(host.agent(["doctor"]).stdout.contains(&lines));
    assert_eq!(host.agent(["status"]).code(), 4);
    assert_eq!((host.invocations(), host.versions([1, 2])), (before.clone(), ["v1".into(), "v1".into()]));
    host.sh(&format!(
        "echo 'APP_IMAGE={}' >>{ENV_FILE}; echo ASTRA_RELEASE=1 >>{ENV_FILE}",
        host.image("v1")
    ))
    .ok();
    host.agent(["reconcile"]).ok();
    assert_eq!(host.invocations(), before);
    assert_eq!(host.agent(["status"]).code(), 0);
}

#[test]
fn a_deploy_starts_with_the_instance_that_does_not_serve() {
    let host = auto("order");
    for (before, version, code) in [
        ("systemctl stop astra-app@2", "v2", 0),
        ("systemctl stop astra-app@2; install -m 0644 /dev/null /run/astra/drain/2", "exits", 3),
    ] {
        host.sh(before).ok();
        let load = host.load(30).websockets(0).start();
        let deploy = host.deploy(version);
        let report = load.stop();
        assert_eq!((deploy.code(), report.failed), (code, 0), "{}{report:#?}", deploy.stdout);
    }
    assert_eq!(host.versions([1, 2]), ["v2", "v2"]);
}
