//! Two runs at once: one works, the other says who does.

use std::time::Duration;

use serde_json::Value;

use crate::harness::Host;
use crate::recovery::QUICK;
use crate::site::{config_with, installed_with};

/// Starts a deploy of `version` that goes on by itself, and waits until it works.
fn begin(host: &Host, version: &str) {
    host.tag("latest", version);
    host.sh("setsid sh -c 'astra-agent deploy --force >/root/first 2>&1; echo code $? >>/root/first' </dev/null &>/dev/null &").ok();
    host.wait("ls /run/astra/trial.env", Duration::from_secs(30));
}

#[test]
fn of_two_deploys_at_once_one_runs_and_the_other_says_who_or_waits() {
    let host = installed_with("lock", &config_with([QUICK]));
    begin(&host, "v2");
    let holder: Value = serde_json::from_str(&host.read("/run/astra/run.lock")).unwrap();
    let second = host.agent(["deploy"]);
    assert_eq!(second.code(), 75, "{}{}", second.stdout, second.stderr);
    let pid = host.sh("systemctl show -P MainPID 'astra-agent-deploy-*'").ok().stdout;
    assert_eq!(holder["pid"].to_string(), pid.trim());
    let (since, text) = (holder["since"].as_str().unwrap(), &second.stderr);
    for said in ["`astra-agent deploy` by root", &format!("process {}", pid.trim()), since, "--wait 60s"] {
        assert!(text.contains(said), "no {said} in: {text}");
    }
    // In JSON too, and for every verb that changes something.
    let third = host.agent(["rollback", "--json"]);
    let answer: Value = serde_json::from_str(&third.stdout).unwrap();
    assert_eq!((third.code(), &answer["exit_code"]), (75, &75.into()), "{answer}");
    // Who only looks is not kept waiting.
    assert_eq!(host.status()["release"], 1);

    let waited = host.agent(["deploy", "--wait", "60s"]).ok();
    assert!(waited.stdout.contains("up to date: release 2"), "{}", waited.stdout);
    let first = host.read("/root/first");
    assert!(first.contains("release 2 is live") && first.ends_with("code 0\n"), "{first}");
    assert_eq!(host.missing(), Ok("v2".to_owned()));

    // A wait has an end.
    begin(&host, "v1");
    let late = host.agent(["deploy", "--wait", "1s"]);
    assert_eq!(late.code(), 75, "{}{}", late.stdout, late.stderr);
    host.wait("grep -q 'code 0' /root/first", Duration::from_secs(60));
    assert_eq!(host.missing(), Ok("v1".to_owned()));
}

/// Every few minutes the timer looks for a moment: no reason to send a person away.
#[test]
fn a_deploy_that_meets_the_timers_run_waits_for_it() {
    let host = installed_with("lock-timer", &config_with([QUICK]));
    // A look that takes its time: the timer's run has the lock, and does not get on.
    host.sh("systemctl start --no-block astra-agent-reconcile.service; \
        until pid=$(systemctl show -P MainPID astra-agent-reconcile.service) && \
            jq -e --argjson pid $pid '.pid == $pid' /run/astra/run.lock; do :; done; kill -STOP $pid; \
        setsid sh -c \"sleep 4; kill -CONT $pid\" &>/dev/null &")
        .ok();
    let waited = host.agent(["deploy"]).ok();
    let said = format!("{}{}", waited.stdout, waited.stderr);
    assert!(
        said.contains("waiting: another run holds the lock: `astra-agent reconcile` by systemd"),
        "{said}"
    );
    assert!(said.contains("up to date: release 1"), "{said}");
}
