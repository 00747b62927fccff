//! `wait`, from a host without agent.toml to one that serves.

use serde_json::Value;

use crate::harness::Host;
use crate::site::{CONFIG, CONFIG_FILE, ENV_FILE, PASSWORD};

const MARKER: &str = "/var/lib/astra-agent/installed";

/// The lock's file while a deploy holds it.
const LOCKED: &str = r#"{"pid":1,"command":"astra-agent deploy","actor":"root","since":"2026-01-01T00:00:00.000Z","yields":false}"#;

#[test]
fn it_returns_when_the_host_serves_and_names_the_reason_when_it_does_not() {
    let host = Host::boot("wait");
    let gives_up = |reason: &str| {
        let said = host.agent(["wait", "--timeout", "1s"]);
        assert_eq!(said.code(), 1, "{}", said.text());
        assert!(said.stderr.contains(reason), "{reason}: {}", said.stderr);
        said.stderr
    };
    gives_up("not installed yet: /etc/astra/agent.toml: reading the configuration: the file does not exist");
    assert_eq!(host.sh("ls /etc/astra").code(), 2, "it created something");
    host.write(CONFIG_FILE, &CONFIG.replace("instances", "instnaces"));
    gives_up("agent.toml:4:1: unknown key `instnaces`");
    host.write(CONFIG_FILE, CONFIG);
    host.sh_with("astra-agent env set DATABASE_PASSWORD", PASSWORD).ok();
    gives_up("not installed yet: no install is under way");

    // Begun before the install, it ends with it, and not earlier.
    host.sh("setsid sh -c 'astra-agent wait --json >/root/waited 2>&1; echo $? >/root/code' </dev/null >/dev/null 2>&1 &")
        .ok();
    let begun =
        host.sh("setsid astra-agent install </dev/null >/root/out 2>&1 & sleep 1; astra-agent status").stdout;
    assert!(begun.contains("release     none is committed; installing: "), "{begun}");
    host.wait("test -s /root/code", std::time::Duration::from_secs(60));
    assert_eq!(host.read("/root/code").trim(), "0", "{}", host.read("/root/waited"));
    let waited: Value = serde_json::from_str(&host.read("/root/waited")).unwrap();
    assert_eq!(
        (&waited["serves"], &waited["release"], &waited["reason"]),
        (&true.into(), &1.into(), &Value::Null)
    );
    assert_eq!(host.get("/readyz").status, 200);
    assert_eq!(host.sh(&format!("stat -c '%a %s' {MARKER}")).ok().stdout, "600 0\n");

    // One of two instances is enough, and a run under way does not matter: it takes no lock.
    host.write("/run/astra/run.lock", LOCKED);
    host.sh("setsid flock /run/astra/run.lock sleep 60 </dev/null >/dev/null 2>&1 &").ok();
    host.sh("systemctl stop astra-app@1").ok();
    assert_eq!(host.agent(["wait", "--timeout", "0s"]).ok().stdout, "release 1 serves\n");
    host.sh("systemctl stop astra-app@2").ok();
    let reason = gives_up("no instance of app serves the committed release: instance 1 not ready, ");
    assert!(reason.lines().last().unwrap().contains("; instance 2 not ready, "), "{reason}");
    let interrupted = host.sh("timeout --preserve-status -s INT 1 astra-agent wait; echo $?");
    assert_eq!(interrupted.stdout, "130\n", "{}", interrupted.stderr);
    host.sh("systemctl start astra-app@1 astra-app@2").ok();
    host.write(CONFIG_FILE, "nonsense = 1\n");
    let warned = host.agent(["wait", "--timeout", "30s"]).ok();
    assert!(warned.stderr.contains("warning: agent.toml is invalid"), "{}", warned.stderr);
    assert!(host.read(ENV_FILE).contains("ASTRA_RELEASE=1"));
}
