//! The deploy path on docker: the same promises as on podman, and a restart of dockerd stops no container.

use std::time::{Duration, SystemTime};

use crate::broken::{SHORT, deploy_broken};
use crate::deploy::{assert_v2_after_v1, deploy_under_load};
use crate::harness::{Engine, Host};
use crate::recovery::QUICK;
use crate::site::{CONFIG_FILE, config_with, fresh_on, installed_on, turn};

const SOON: Duration = Duration::from_secs(20);

/// A docker client that cannot start an instance of release 2 while /root/broken exists: a network is
/// missing.
const CLIENT: &str = r#"#!/bin/sh
case "$*" in
"run --detach"*"astra.release=2 "*) [ ! -e /root/broken ] || { shift; set -- run --network=missing "$@"; } ;;
esac
exec /usr/bin/docker.real "$@"
"#;

/// The settings under which a restart of dockerd loses no request; and the image store of docker 29, which is
/// elsewhere.
const DAEMON: &str =
    r#"{"live-restore": true, "userland-proxy": false, "features": {"containerd-snapshotter": true}}"#;

#[test]
fn broken_releases_are_undone_and_deploys_lose_nothing_on_docker() {
    let host = installed_on(Engine::Docker, "docker", &config_with(SHORT));
    assert_settled(&host, false);
    let engine = host.status()["engine"].to_string();
    assert!(engine.contains("docker (auto: astra-app@.service was written for it)"), "{engine}");
    let lines = host.sh("journalctl -q -o cat -u astra-app@1").ok().stdout;
    assert!(lines.contains("serve: listening on 8000"), "{lines}");

    deploy_broken(
        &host,
        "migrate-fails",
        &["the migration ended with code 1", "this migration fails on purpose"],
    );
    deploy_broken(&host, "exits", &["exited with code 3", "APP_FAULT=exits: no good reason to live"]);
    deploy_broken(&host, "never-ready", &["within 10s", "APP_FAULT=never-ready: never listening"]);
    let told = host.history()[0]["reason"].to_string();
    assert!(!told.contains("Error response from daemon") && !told.contains("\\n    astra-app-1"), "{told}");

    // docker-proxy uses a whole processor for the requests.
    deploy_under_load(&host, 100, 4).assert_lossless();
    assert_v2_after_v1(&host);
    host.sh("systemctl stop docker-registry").ok();
    host.agent(["rollback"]).ok();
    assert_eq!(host.versions([1, 2]), ["v1", "v1"]);
    host.assert_tidy();
    assert_eq!(host.agent(["plan", "--reconcile"]).ok().stdout, "nothing to do\n");
}

#[test]
fn docker_hosts_survive_kills_reboots_and_an_engine_that_fails() {
    let host = installed_on(Engine::Docker, "docker-cuts", &config_with([QUICK]));

    // A failure of the engine is not the release's fault, and docker's message has the cause.
    host.write("/root/docker", CLIENT);
    host.sh("mv /usr/bin/docker /usr/bin/docker.real && install -m 0755 /root/docker /usr/bin/docker").ok();
    host.sh("touch /root/broken").ok();
    let deploy = host.deploy("v2");
    let said = format!("{}{}", deploy.stdout, deploy.stderr);
    assert_eq!(deploy.code(), 1, "{said}");
    assert!(said.contains("network missing not found"), "{said}");
    assert_eq!(host.status()["held"].as_array().unwrap().len(), 0, "{said}");
    assert_eq!(host.versions([1, 2]), ["v1", "v1"]);
    host.assert_tidy();
    host.sh("rm /root/broken").ok();

    // Recover undoes a killed run.
    let kill = "astra-agent deploy >/dev/null 2>&1 & until [ -e /run/astra/trial-1.env ]; do sleep 0.05; done; \
                kill -9 $(systemctl show -P MainPID 'astra-agent-deploy-*'); wait";
    let cut = SystemTime::now();
    host.sh(kill);
    let restored = host.await_restored(cut).unwrap_or_else(|missing| panic!("{missing}"));
    assert_eq!(restored.version, "v1");
    host.agent(["deploy"]).ok();
    assert_eq!(host.versions([1, 2]), ["v2", "v2"]);

    // The process that polls for the container's end may be killed; the waiting one and the container come
    // back.
    let invocation = "systemctl show -P InvocationID astra-app@1";
    let before = host.sh(invocation).ok().stdout;
    host.sh("pkill -x -f '/usr/bin/docker.*wait astra-app-1'").ok();
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(host.sh(invocation).ok().stdout, before);
    for gone in ["systemctl kill --signal=KILL --kill-whom=main astra-app@1", "docker rm -f astra-app-1"] {
        let before = host.sh(invocation).ok().stdout;
        let cut = SystemTime::now();
        host.sh(gone).ok();
        host.wait(&format!("test $({invocation}) != {}", before.trim()), SOON);
        host.await_restored(cut).unwrap_or_else(|missing| panic!("after {gone}: {missing}"));
    }

    host.sh("mv /usr/local/bin/astra-agent /root/").ok();
    host.reboot();
    host.wait("curl -sf -m 5 localhost/ && curl -sf localhost:8001/ && curl -sf localhost:8002/", SOON * 2);
    assert_eq!(host.versions([1, 2]), ["v2", "v2"]);
    host.sh("mv /root/astra-agent /usr/local/bin/").ok();
    host.await_restored(SystemTime::now()).unwrap_or_else(|missing| panic!("{missing}"));
}

#[test]
fn a_restart_of_dockerd_loses_no_request() {
    let host = fresh_on(Engine::Docker, "docker-live", &config_with([QUICK]));
    host.write("/etc/docker/daemon.json", DAEMON);
    // Its images are on a file system of their own.
    host.sh("systemctl stop docker.socket docker containerd && mount -t tmpfs -o size=1500M tmpfs /var/lib/containerd && \
             systemctl start docker").ok();
    host.agent(["install"]).ok();
    assert_settled(&host, true);
    let containers = "docker ps --no-trunc --format '{{.ID}} {{.Names}}' | sort";
    let before = host.sh(containers).ok().stdout;
    let units = host.invocations();

    let _turn = turn();
    let load = host.load(50).websockets(4).start();
    std::thread::sleep(Duration::from_secs(1));
    // docker.service has a start limit: three in a minute.
    for cut in
        ["systemctl restart docker", "systemctl reset-failed docker; systemctl kill --signal=KILL docker"]
    {
        host.sh(cut).ok();
        host.wait("docker version", SOON);
        std::thread::sleep(Duration::from_secs(2));
    }
    let report = load.stop();
    report.assert_lossless();
    assert!(report.websockets.cuts.is_empty(), "{:#?}", report.websockets.cuts);
    assert_eq!(host.sh(containers).ok().stdout, before);
    assert_eq!(host.invocations(), units);

    // The end of a container is noticed as before, even if it ended while dockerd was down.
    let pid = host.sh("docker inspect -f '{{.State.Pid}}' astra-app-2").ok().stdout;
    host.sh(&format!(
        "systemctl stop docker.socket docker && kill -9 {} && systemctl reset-failed docker; systemctl start docker",
        pid.trim()
    ))
    .ok();
    host.await_restored(SystemTime::now()).unwrap_or_else(|missing| panic!("{missing}"));
    host.deploy("v2").ok();
    assert_eq!(host.versions([1, 2]), ["v2", "v2"]);
    host.assert_tidy();

    let config = host.read(CONFIG_FILE);
    host.write(CONFIG_FILE, &config.replace("[deploy]", "[deploy]\nmin_free = \"2G\""));
    let refused = host.deploy("v3");
    assert_ne!(refused.code(), 0, "{}", refused.stdout);
    assert!(refused.stderr.contains("MiB free"), "{}", refused.stderr);
}

/// Nothing is left to do, and no problem is reported.
#[track_caller]
fn assert_settled(host: &Host, has_settings: bool) {
    assert_eq!(host.agent(["plan", "--reconcile"]).ok().stdout, "nothing to do\n");
    let doctor = host.agent(["doctor"]).ok().stdout;
    assert!(doctor.ends_with("no problems found\n"), "{doctor}");
    for setting in ["live-restore", "userland-proxy"] {
        assert_eq!(doctor.contains(setting), !has_settings, "{doctor}");
    }
}
