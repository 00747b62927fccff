//! The terminal of a run: it may disappear, and it may ask the run to stop.

use std::time::Duration;

use serde_json::Value;

use crate::harness::Host;
use crate::recovery::QUICK;
use crate::site::{config_with, installed_with};

/// Starts a deploy of v2 with a terminal, and waits until instance 1 has it.
fn begin(host: &Host, terminal: &str) {
    host.tag("latest", "v2");
    host.sh(&format!("rm -f /root/code; setsid {terminal} </dev/null >/root/out 2>&1 &")).ok();
    host.wait("curl -s -m 1 localhost:8001/ | grep -q v2", Duration::from_secs(60));
}

/// The process that the user's terminal talks to.
const FRONT: &str = "$(pgrep -o -f '^astra-agent deploy')";
const RUNS: &str = "systemctl is-active --quiet 'astra-agent-deploy-*'";

fn back_to_v1(host: &Host) {
    host.tag("latest", "v1");
    host.agent(["deploy", "--force"]).ok();
}

#[test]
fn a_deploy_outlives_its_terminal() {
    let host = installed_with("terminal", &config_with([QUICK]));
    // script(1) gives it a terminal, and takes the terminal away when it dies.
    let pty = "script -qec 'astra-agent deploy --force' /root/typescript";
    for (what, terminal, end) in [
        ("the terminal was closed", pty, "kill -KILL $(pgrep -o script)".to_owned()),
        ("SIGHUP to the front", "astra-agent deploy --force", format!("kill -HUP {FRONT}")),
        ("SIGKILL to the front", "astra-agent deploy --force", format!("kill -KILL {FRONT}")),
    ] {
        begin(&host, terminal);
        host.sh(&format!("{RUNS} && {end}")).ok();
        host.sh(RUNS).ok();
        host.wait(&format!("! {RUNS}"), Duration::from_secs(60));
        assert_eq!(host.missing(), Ok("v2".to_owned()), "{what}");
        let run = &host.history()[0];
        assert_eq!(
            (&run["outcome"], &run["recovered"]),
            (&"converged".into(), &false.into()),
            "{what}: {run}"
        );
        back_to_v1(&host);
    }
}

#[test]
fn ctrl_c_undoes_a_deploy_and_holds_nothing() {
    let host = installed_with("ctrl-c", &config_with([QUICK]));
    // As a terminal does it: once, and twice by an impatient user.
    for times in [1, 2] {
        begin(&host, "sh -c 'astra-agent deploy; echo code $? >/root/code'");
        for _ in 0..times {
            host.sh(&format!("kill -INT {FRONT}")).ok();
        }
        host.wait("grep -q code /root/code", Duration::from_secs(60));
        let out = host.read("/root/out");
        assert_eq!(host.read("/root/code"), "code 1\n", "{out}");
        for said in ["Ctrl-C: undoing, please wait", "was taken back", "stopped by SIGINT", "nothing is held"]
        {
            assert!(out.contains(said), "no {said:?} in:\n{out}");
        }
        assert_eq!(host.missing(), Ok("v1".to_owned()), "{out}");
        assert_eq!(host.status()["held"], Value::Array(Vec::new()));
        // Nothing is held: the same again, without force.
        let run = &host.history()[0];
        assert_eq!(run["outcome"]["undone"]["blame"], "host", "{run}");
    }

    // During the migration: it is waited for, and nothing is changed.
    host.tag("latest", "v3");
    host.sh("setsid sh -c 'astra-agent deploy; echo code $? >/root/code' </dev/null >/root/out 2>&1 &").ok();
    host.wait("systemctl show -P ActiveState astra-migrate | grep -q activating", Duration::from_secs(60));
    host.sh(&format!("rm -f /root/code; kill -INT {FRONT}")).ok();
    host.wait("grep -q code /root/code", Duration::from_secs(60));
    assert_eq!(host.read("/root/code"), "code 1\n", "{}", host.read("/root/out"));
    let told = host.read("/root/out");
    assert!(told.contains("its changes to the database remain"), "{told}");
    assert_eq!(host.sh("podman ps --format '{{.Names}}' | grep migrate").stdout, "");
    assert_eq!(host.missing(), Ok("v1".to_owned()));

    host.agent(["deploy"]).ok();
    assert_eq!(host.missing(), Ok("v3".to_owned()));
}
