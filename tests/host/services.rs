//! A site of several services: the app, an API behind the same Caddy, and a worker. One release for all of them.

use std::time::Duration;

use crate::harness::{Engine, Host};
use crate::recovery::QUICK;
use crate::site::{CONFIG_FILE, config_with, installed_on, turn};

const SERVICES: &str = r#"
[services.api]
instances = 2
port = 3000
env = { PORT = "3000" }
base_port = 8100
readiness.path = "/readyz"
readiness.timeout = "60s"
route = { path = "/api", strip_prefix = true }

[services.worker]
command = ["python3", "-c", "import os, signal, time; signal.signal(15, lambda *a: exit(0)); print('works on', os.environ['DATABASE_NAME'], 'as', 'clerk', flush=True); time.sleep(1e6)"]
readiness.settle = "2s"
"#;

fn site(engine: Engine, name: &str) -> Host {
    let config = config_with([QUICK, ("tls = \"off\"", "tls = \"off\"\nhealth = \"/health\"")]);
    let services = match engine {
        Engine::Podman => SERVICES.to_owned(),
        // docker has no name of its own for the host, and each service its own /etc/hosts.
        Engine::Docker => {
            let hosts = "add_hosts.\"host.containers.internal\" = \"host-gateway\"";
            SERVICES.replace("[services.api]", &format!("[services.api]\n{hosts}"))
        }
    };
    installed_on(engine, name, &(config + &services))
}

impl Host {
    /// Changes agent.toml.
    pub fn edit(&self, old: &str, new: &str) {
        let config = self.read(CONFIG_FILE);
        assert!(config.contains(old), "{config}");
        self.write(CONFIG_FILE, &config.replace(old, new));
    }

    /// Ids of the running containers, by name.
    fn containers(&self) -> Vec<String> {
        let list =
            format!("{} ps --no-trunc --format '{{{{.Names}}}} {{{{.ID}}}}' | sort", self.engine.client());
        self.sh(&list).ok().stdout.lines().map(str::to_owned).collect()
    }

    /// Every service runs this version.
    #[track_caller]
    fn assert_all_on(&self, version: &str) {
        self.assert_all_run(version, &self.image(version));
    }

    /// The same while the registry is down.
    #[track_caller]
    fn assert_all_run(&self, version: &str, image: &str) {
        assert_eq!(self.versions([1, 2]), [version; 2]);
        let api = [8101, 8102].map(|port| self.sh(&format!("curl -sSf -m 5 localhost:{port}/")).ok().stdout);
        assert!(api.iter().all(|answer| answer.starts_with(version)), "{api:?}");
        assert_eq!([self.env("APP_IMAGE"), self.env("API_IMAGE"), self.env("WORKER_IMAGE")], [image; 3]);
        let label = "{{index .Config.Labels \"astra.image\"}}";
        let worker = self.sh(&format!("{} inspect -f '{label}' astra-worker-1", self.engine.client()));
        assert_eq!(worker.ok().stdout.trim(), image);
        self.agent(["status"]).ok();
        self.assert_tidy();
    }
}

/// The containers that differ, by the name of their service.
fn changed(before: &[String], after: &[String]) -> Vec<String> {
    let new = after.iter().filter(|line| !before.contains(line));
    new.filter_map(|line| Some(line.split(' ').next()?.rsplit_once('-')?.0.to_owned())).collect()
}

fn changes_as_one(engine: Engine, name: &str) {
    let host = site(engine, name);
    host.assert_all_on("v1");
    let logged = host.sh("journalctl -q -o cat -u astra-worker@1").ok().stdout;
    assert!(logged.contains("works on astra as clerk"), "{logged}");
    assert_eq!(host.sh("curl -sSf localhost/health").ok().stdout, "ok");

    let turn = turn();
    let loads = ["", "/api"].map(|below| host.load(50).websockets(2).below(below).start());
    host.wait("curl -sf --max-time 1 localhost/", Duration::from_secs(5));
    host.deploy("v2").ok();
    host.assert_all_on("v2");
    host.tag("latest", "exits");
    let broken = host.agent(["deploy"]);
    assert_eq!(broken.code(), 3, "{}", broken.text());
    host.assert_all_on("v2");
    for report in loads.map(|load| load.stop()) {
        report.assert_lossless();
        assert!(report.versions.contains_key("v1") && report.versions.contains_key("v2"), "{report:#?}");
    }
    drop(turn);

    // A change of one service alone, and one that fails.
    host.tag("latest", "v2");
    let before = host.containers();
    host.edit("'clerk'", "'typist'");
    host.agent(["deploy"]).ok();
    let after = host.containers();
    assert_eq!(changed(&before, &after), ["astra-worker"]);
    let logged = host.sh("journalctl -q -o cat -u astra-worker@1").ok().stdout;
    assert!(logged.contains("as typist"), "{logged}");
    host.edit("time.sleep(1e6)", "time.sleep(1); exit(3)");
    let failed = host.agent(["deploy"]);
    assert_eq!(failed.code(), 3, "{}", failed.text());
    assert!(failed.text().contains("astra-worker@1: it exited with code 3"), "{}", failed.text());
    assert_eq!(changed(&after, &host.containers()), ["astra-worker"]);
    host.edit("time.sleep(1); exit(3)", "time.sleep(1e6)");
    host.assert_all_on("v2");

    // All go back, without a registry.
    let v1 = host.image("v1");
    host.sh("systemctl stop docker-registry").ok();
    host.agent(["rollback"]).ok();
    host.assert_all_run("v1", &v1);
    assert_eq!(host.agent(["plan", "--reconcile"]).ok().stdout, "nothing to do\n");
    host.sh("systemctl start docker-registry").ok();
    let doctor = host.agent(["doctor"]);
    assert!(!doctor.text().contains("problem:"), "{}", doctor.text());

    // The committed release boots without the agent, and a service that is gone from agent.toml is stopped.
    host.sh("mv /usr/local/bin/astra-agent /root/").ok();
    host.reboot();
    let up = "curl -sf -m 5 localhost/ && curl -sf -m 5 localhost/api/ && systemctl is-active astra-worker@1";
    host.wait(up, Duration::from_secs(60));
    host.sh("mv /root/astra-agent /usr/local/bin/").ok();
    host.wait("astra-agent status", Duration::from_secs(60));
    host.assert_all_run("v1", &v1);
    let config = host.read(CONFIG_FILE);
    host.write(CONFIG_FILE, config.split("[services.worker]").next().unwrap());
    host.agent(["reconcile"]).ok();
    assert!(!host.containers().iter().any(|container| container.starts_with("astra-worker")));
    assert_ne!(host.sh("systemctl is-enabled astra-worker@1").code(), 0);
}

#[test]
fn the_services_of_a_site_change_as_one_and_lose_nothing() {
    changes_as_one(Engine::Podman, "services");
}

#[test]
fn the_services_of_a_site_change_as_one_on_docker() {
    changes_as_one(Engine::Docker, "services-docker");
}
