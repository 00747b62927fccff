//! Two runs at once: one works, the other reports the holder.

use std::time::Duration;

use serde_json::Value;

use crate::harness::Host;
use crate::recovery::QUICK;
use crate::site::{config_with, installed_with};

/// Starts a deploy of `version` in the background, and waits until it works.
fn begin(host: &Host, version: &str) {
    host.tag("latest", version);
    host.sh("setsid sh -c 'astra-agent deploy --force >/root/first 2>&1; echo code $? >>/root/first' </dev/null &>/dev/null &").ok();
    host.wait("ls /run/astra/trial.env", Duration::from_secs(30));
}

#[test]
fn of_two_deploys_one_runs_and_the_other_reports_the_holder_or_waits() {
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
    // Read-only verbs do not wait.
    assert_eq!(host.status()["release"], 1);

    let waited = host.agent(["deploy", "--wait", "60s"]).ok();
    assert!(waited.stdout.contains("up to date: release 2"), "{}", waited.stdout);
    let first = host.read("/root/first");
    assert!(first.contains("release 2 is live") && first.ends_with("code 0\n"), "{first}");
    assert_eq!(host.missing(), Ok("v2".to_owned()));

    // A wait is limited.
    begin(&host, "v1");
    let late = host.agent(["deploy", "--wait", "1s"]);
    assert_eq!(late.code(), 75, "{}{}", late.stdout, late.stderr);
    host.wait("grep -q 'code 0' /root/first", Duration::from_secs(60));
    assert_eq!(host.missing(), Ok("v1".to_owned()));
}

/// The timer's check is short: no reason to refuse a user's command.
#[test]
fn a_deploy_that_meets_the_timers_run_waits_for_it() {
    let host = installed_with("lock-timer", &config_with([QUICK]));
    // A slow check: the timer's run has the lock, and makes no progress.
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

/// A repair waits for minutes until an instance is ready, and a rollback must not wait for that.
#[test]
fn a_users_command_stops_a_repair_of_the_timer() {
    let host =
        installed_with("lock-repair", &config_with([QUICK, ("timeout = \"60s\"", "timeout = \"300s\"")]));
    // As an incomplete run leaves it: drained, and not ready.
    host.sh("touch /run/astra/drain/1; kill -STOP $(podman top astra-app-1 hpid | tail -n +2)").ok();
    host.sh("systemctl start --no-block astra-agent-reconcile.service").ok();
    host.wait(
        "grep -q '\"yields\":true' /run/astra/run.lock && astra-agent history -n 1 | grep -q reconcile",
        Duration::from_secs(30),
    );
    let set = host.sh("printf 1 | timeout 20 astra-agent env set MOTTO");
    assert_eq!(set.code(), 0, "{}{}", set.stdout, set.stderr);
    assert!(set.stderr.contains("asked `astra-agent reconcile` to stop"), "{}", set.stderr);
    host.wait(
        "test $(systemctl show -P ActiveState astra-agent-reconcile) = inactive",
        Duration::from_secs(30),
    );
    let history = host.sh("astra-agent history -n 1").ok().stdout;
    eprintln!("{history}");
    assert!(history.contains("stopped by SIGINT"), "{history}");
    // The next repair continues.
    host.sh("kill -CONT $(podman top astra-app-1 hpid | tail -n +2)").ok();
    host.agent(["reconcile"]).ok();
    assert_eq!(host.missing(), Ok("v1".to_owned()));
}

/// An upgrade of the agent while a run waits, and a half-edited agent.toml: recover still works.
#[test]
fn recover_works_with_a_replaced_binary_and_a_half_saved_config() {
    let host = installed_with("lock-replaced", &config_with([QUICK]));
    let units = "cat /etc/systemd/system/astra-agent-re*.service";
    let before = host.sh(units).ok().stdout;
    host.tag("latest", "v2");
    host.sh("setsid flock -o /run/astra/run.lock sleep 8 </dev/null &>/dev/null & sleep 0.5; \
        setsid astra-agent deploy --wait 60s >/root/deploy 2>&1 </dev/null & \
        until pgrep -f 'deploy --wait 60s --in-unit'; do sleep 0.1; done; sleep 1; \
        cp /usr/local/bin/astra-agent /root/new && install -m 0755 /root/new /usr/local/bin/astra-agent")
        .ok();
    host.wait("ls /run/astra/trial-1.env", Duration::from_secs(60));
    host.sh("cp /etc/astra/agent.toml /root/; printf 'instances = [' >>/etc/astra/agent.toml; \
        systemctl kill -s KILL 'astra-agent-deploy-*'")
        .ok();
    let restored =
        "! ls /run/astra/trial-1.env && ! ls /run/astra/drain/1 && curl -sf localhost:8001/ | grep v1";
    host.wait(restored, Duration::from_secs(60));
    assert_eq!(host.sh(units).ok().stdout, before);
    host.wait(
        "journalctl -u astra-agent-recover | grep 'using the last valid config'",
        Duration::from_secs(30),
    );

    // Rollback works as well; no other verb does.
    host.sh("cp /root/agent.toml /etc/astra/").ok();
    host.wait("astra-agent deploy", Duration::from_secs(60));
    host.sh("printf 'instances = [' >>/etc/astra/agent.toml").ok();
    assert_eq!(host.agent(["deploy"]).code(), 2);
    let status = host.agent(["status"]);
    assert_eq!(status.code(), 2, "{}", status.text());
    for said in ["agent.toml is invalid", "instance 2  ready"] {
        assert!(status.stdout.contains(said), "{}", status.text());
    }
    let doctor = host.agent(["doctor"]);
    assert_eq!(doctor.code(), 4, "{}", doctor.text());
    assert!(doctor.stdout.contains("`astra-agent check` shows the line"), "{}", doctor.text());
    let back = host.agent(["rollback"]).ok();
    assert!(
        (back.stdout.clone() + &back.stderr).contains("using the last valid config"),
        "{}{}",
        back.stdout,
        back.stderr
    );
    assert_eq!(host.sh("stat -c %a /var/lib/astra-agent/config.last.json").ok().stdout, "600\n");
    host.sh("cp /root/agent.toml /etc/astra/").ok();
    assert_eq!(host.missing(), Ok("v1".to_owned()));
    host.sh("astra-agent doctor").ok();
}
