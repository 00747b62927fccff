use super::*;
use crate::cli::out;
use crate::model::entry::Verb;
use crate::model::outcome::{Blame, Outcome};

const NOW: u64 = 1_800_000_000_000;
const HOUR: u64 = 3_600_000;

fn digest(byte: &str) -> String {
    format!("sha256:{}", byte.repeat(32))
}

fn ran(run: u64, verb: Verb, hours: u64, outcome: Outcome) -> Run {
    let (actor, at) = ("root".to_owned(), out::time(NOW - hours * HOUR));
    let (outcome, seconds) = (Some(outcome), Some(15.62));
    Run { run, verb, actor, at, release: Some(6), outcome, reason: None, seconds }
}

fn well() -> Status {
    let instance = |instance: u16| Instance {
        service: "app".to_owned(),
        wanted: true,
        current: true,
        instance,
        unit: format!("astra-app@{instance}.service"),
        port: Some(8000 + instance),
        state: "active (running)".to_owned(),
        release: Some(6),
        ready: true,
        ..Instance::default()
    };
    Status {
        release: Some(6),
        image: Some(format!("ghcr.io/you/shop@{}", digest("d0"))),
        live_since: Some(out::time(NOW - 3 * HOUR)),
        rollback_to: Some(format!("ghcr.io/you/shop@{}", digest("c1"))),
        rollback_release: Some(5),
        rollback_digests: "sha256:c1c1c1c1c1c1".to_owned(),
        rollback_held: None,
        urls: vec!["https://shop.example.org".to_owned()],
        instances: vec![instance(1), instance(2)],
        caddy: Some("2.11".to_owned()),
        engine: "docker (agent.toml names it)".to_owned(),
        last_run: Some(ran(12, Verb::Deploy, 3, Outcome::Converged)),
        last_deploy: Some(ran(12, Verb::Deploy, 3, Outcome::Converged)),
        ..Status::default()
    }
}

/// The status on a terminal of eighty columns; checks that no line is wider.
fn narrow(status: &Status) -> String {
    let text = text(status, NOW, Some(80), false);
    for line in text.lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
    text
}

#[test]
fn an_invalid_config_comes_first_and_hides_no_trouble() {
    let error = "/etc/astra/agent.toml:3:1: unknown key `instnaces`".to_owned();
    let invalid = Status { config_errors: vec![error], ..well() };
    let text = narrow(&invalid);
    let expected = "\
config      /etc/astra/agent.toml:3:1: unknown key `instnaces`
config      agent.toml is invalid; what follows is by the last valid one
release     6, live for 3 h";
    assert!(text.starts_with(expected), "{text}");
    assert_eq!(invalid.exit_code(), 2);
    assert_eq!(Status { caddy: None, ..invalid }.exit_code(), 4);
}

#[test]
fn a_host_that_serves() {
    let expected = "\
release     6, live for 3 h
image       ghcr.io/you/shop@sha256:d0d0d0d0d0d0…
rollback    would go to release 5 (sha256:c1c1c1c1c1c1)
url         https://shop.example.org
instance 1  ready, release 6, port 8001, active (running)
instance 2  ready, release 6, port 8002, active (running)
caddy       answers (2.11)
engine      docker (agent.toml names it)
last deploy run 12, deploy release 6, 3 h ago by root: converged in 15.6 s";
    assert_eq!(narrow(&well()), expected);
    assert_eq!(well().exit_code(), 0);
}

#[test]
fn a_run_under_way_shows_its_step_and_does_not_advise_recover() {
    let run = UnderWay {
        command: "deploy".to_owned(),
        actor: "root".to_owned(),
        pid: 7,
        since: out::time(NOW - 7000),
        run: Some(13),
        step: Some(2),
        of: Some(15),
        doing: Some("drain astra-app@1 (at most 8s)".to_owned()),
        undoing: false,
    };
    let status = Status { under_way: Some(run.clone()), ..well() };
    let text = narrow(&status);
    let said =
        "run         deploy (run 13) under way for 7 s by root: step 2 of 15, drain\n            astra-app@1";
    assert!(text.contains(said) && !text.contains("recover"), "{text}");

    let undo =
        UnderWay { step: None, of: None, undoing: true, doing: Some("rejoin astra-app@1".into()), ..run };
    let text = narrow(&Status { under_way: Some(undo.clone()), ..well() });
    assert!(text.contains("by root: undoing, rejoin"), "{text}");
    let text = narrow(&Status {
        under_way: Some(UnderWay { run: None, doing: None, undoing: false, ..undo }),
        ..well()
    });
    assert!(text.contains("deploy under way for 7 s by root: preparing"), "{text}");

    let text = narrow(&Status { cut_off_run: Some(13), ..well() });
    assert!(text.contains("run         13 was cut off; `astra-agent recover` closes it"), "{text}");
}

#[test]
fn only_the_newest_three_held_releases_are_shown() {
    let held = |release: u64| Held {
        release,
        digest: digest("ab"),
        images: std::collections::BTreeMap::new(),
        digests: "sha256:abababababab, front sha256:cdcdcdcdcdcd".to_owned(),
        only_environment: release == 9,
        run: release + 1,
        reason: "soaking: astra-app@1 was restarted".to_owned(),
    };
    let text = narrow(&Status { held: (1..=9).map(held).collect(), ..well() });
    assert_eq!(text.matches("\nheld ").count(), 3, "{text}");
    assert!(text.contains("\n            +6 more: `astra-agent status --json`"), "{text}");
    assert!(
        text.contains("held        release 9 (sha256:abababababab, front sha256:cdcdcdcdcdcd, with the"),
        "{text}"
    );
    assert!(!text.contains("release 6 (sha256:abab"), "{text}");
}

#[test]
fn a_failed_cron_job_shows_its_log_command_and_the_next_job_its_time() {
    let job = |name: &str, result: &str, next: u64| Job {
        name: name.to_owned(),
        last: Some(out::time(NOW - 2 * 60_000)),
        result: Some(ServiceResult::parse(result)),
        next: Some(out::time(NOW + next)),
        ..Job::default()
    };
    let jobs = vec![job("fails", "exit-code", 90_000), job("mail", "success", 54_000)];
    let text = narrow(&Status { cron_jobs: jobs, ..well() });
    let failed =
        "cron        fails failed 2 min ago (exit-code): `journalctl -u astra-cron-fails\n            -n 50`";
    assert!(text.contains(failed), "{text}");
    assert!(text.contains("cron        next is mail in 54 s"), "{text}");
    assert!(!text.contains("mail failed"), "{text}");
}

#[test]
fn problems_give_exit_code_4() {
    let mut ill = well();
    if let Some(instance) = ill.instances.first_mut() {
        (instance.ready, instance.drained, instance.restarts) = (false, true, 1);
    }
    let text = narrow(&ill);
    let said =
        "instance 1  not ready, drained, release 6, port 8001, active (running),\n            restarted once";
    assert!(text.contains(said), "{text}");
    assert_eq!(ill.exit_code(), 4);
    let busy = Status { under_way: Some(UnderWay::default()), ..ill };
    assert_eq!(busy.exit_code(), 0, "a deploy takes one instance after another out of rotation");
    let mut elsewhere = well();
    if let Some(instance) = elsewhere.instances.first_mut() {
        instance.unrouted = true;
    }
    assert!(narrow(&elsewhere).contains("instance 1  ready, not routed by Caddy, release 6, port 8001"));
    assert_eq!(elsewhere.exit_code(), 4);
    let silent = Status { caddy: None, ..well() };
    assert!(narrow(&silent).contains("caddy       does not answer"));
    assert_eq!(silent.exit_code(), 4);

    let failed = ran(14, Verb::Deploy, 1, Outcome::Undone { blame: Blame::Release });
    let last = ran(15, Verb::Reconcile, 0, Outcome::Converged);
    let text = narrow(&Status { last_run: Some(last), last_deploy: Some(failed), ..well() });
    assert!(
        text.contains("last deploy run 14, deploy release 6, 1 h ago by root: release failed in 15.6 s"),
        "{text}"
    );
    assert!(
        text.contains("last run    run 15, reconcile release 6, just now by root: converged in 15.6 s"),
        "{text}"
    );
}
