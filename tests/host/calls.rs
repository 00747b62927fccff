//! Services that call each other by name, through Caddy: a deploy of one loses no request of another.

use std::time::Duration;

use crate::harness::{Engine, Host};
use crate::recovery::QUICK;
use crate::site::{config_with, fresh_on, turn};

/// An accessory calls, because no deploy restarts it.
const SERVICES: &str = r#"
[services.pdf]
port = 3000
env = { PORT = "3000" }
base_port = 8100
readiness.path = "/readyz"
readiness.timeout = "60s"

[services.caller]
kind = "accessory"
image = "127.0.0.1:5000/astra:v1"
command = ["python3", "/caller.py", "app", "pdf"]
calls = ["app", "pdf"]
volumes = ["/var/lib/calls:/data"]
readiness.settle = "1s"

[files.caller]
template = "caller.py"
mount = { services = ["caller"], path = "/caller.py" }
"#;
const CALLER: &str = include_str!("app/caller.py");

fn site(engine: Engine, name: &str) -> Host {
    let services = match engine {
        Engine::Podman => SERVICES.to_owned(),
        Engine::Docker => {
            let hosts = "add_hosts.\"host.containers.internal\" = \"host-gateway\"";
            SERVICES.replace("[services.pdf]", &format!("[services.pdf]\n{hosts}"))
        }
    };
    let host = fresh_on(engine, name, &(config_with([QUICK]) + &services));
    host.sh("mkdir -p /var/lib/calls").ok();
    host.write("/etc/astra/caller.py", &format!("{{% raw %}}{CALLER}{{% endraw %}}"));
    host.agent(["install"]).ok();
    host
}

impl Host {
    /// The calls of a service so far.
    fn calls_of(&self, name: &str) -> serde_json::Value {
        serde_json::from_str(&self.read(&format!("/var/lib/calls/{name}.json"))).unwrap()
    }

    /// Waits until the caller had so many answers of both.
    fn await_answers(&self, least: u64) {
        let all = "jq -es 'all(.answered >= $least)' --argjson least";
        self.wait(
            &format!("{all} {least} /var/lib/calls/app.json /var/lib/calls/pdf.json"),
            Duration::from_secs(60),
        );
    }
}

fn by_name(engine: Engine, name: &str) {
    let host = site(engine, name);
    // Its first calls came before the services were up.
    host.agent(["accessory", "restart", "caller"]).ok();
    host.sh("rm -f /var/lib/calls/*.json").ok();
    let guard = turn();
    host.await_answers(50);
    host.deploy("v2").ok();
    host.tag("latest", "exits");
    assert_eq!(host.agent(["deploy"]).code(), 3);
    host.agent(["deploy", "pdf", "--restart"]).ok();
    host.sh("systemctl stop docker-registry").ok();
    host.agent(["rollback"]).ok();
    host.sh("systemctl start docker-registry").ok();
    let answered = host.calls_of("pdf")["answered"].as_u64().unwrap();
    host.await_answers(answered + 50);
    for service in ["app", "pdf"] {
        let calls = host.calls_of(service);
        assert_eq!(calls["failed"], 0, "{service}: {calls:#}");
        let versions = calls["versions"].as_object().unwrap();
        assert!(versions.contains_key("v1") && versions.contains_key("v2"), "{service}: {calls:#}");
    }
    drop(guard);
    // Visitors do not reach it.
    assert_eq!(host.sh("curl -sS localhost/ -H 'Host: pdf'").ok().stdout.split(' ').next(), Some("v1"));
    host.agent(["status"]).ok();
    host.assert_tidy();
    let doctor = host.agent(["doctor"]);
    assert!(!doctor.text().contains("problem:"), "{}", doctor.text());

    // The addresses are there after a boot, without the agent.
    host.sh("rm /var/lib/calls/*.json; mv /usr/local/bin/astra-agent /root/").ok();
    host.reboot();
    host.await_answers(50);
    host.sh("mv /root/astra-agent /usr/local/bin/").ok();

    // An address that was lost is set again.
    let address =
        host.sh("sed -n 's/^\tbind \\(198.*\\)/\\1/p' /etc/astra/Caddyfile | head -n 1").ok().stdout;
    host.sh(&format!("ip address del {}/32 dev lo", address.trim())).ok();
    let repaired = host.agent(["reconcile"]).ok();
    assert!(repaired.text().contains("start astra-names.service"), "{}", repaired.text());
    host.agent(["status"]).ok();

    // The name leads there until its last caller is replaced.
    host.edit("calls = [\"app\", \"pdf\"]\n", "");
    host.edit("base_port = 8100\n", "base_port = 8100\nroute.path = \"/pdf\"\n");
    host.agent(["deploy", "--keep-image"]).ok();
    host.await_answers(host.calls_of("pdf")["answered"].as_u64().unwrap() + 50);
    host.agent(["accessory", "restart", "caller"]).ok();
    host.agent(["reconcile"]).ok();
    let left = host.sh("ss -Hltn sport = :80; ls /etc/systemd/system").ok().stdout;
    assert!(!left.contains("198.18") && !left.contains("astra-names"), "{left}");
}

#[test]
fn services_call_each_other_by_name_on_podman() {
    by_name(Engine::Podman, "calls");
}

#[test]
fn services_call_each_other_by_name_on_docker() {
    by_name(Engine::Docker, "calls-docker");
}
