//! What an operator reads of a host, while a run is under way and after it.

use std::time::Duration;

use serde_json::Value;

use crate::site::{config_with, installed_with};

const JOBS: &str = r#"
[[cron_jobs]]
name = "fails"
every = "1h"
command = "false"
"#;

/// RFC 3339 in UTC, to the millisecond.
fn is_time(value: &Value) -> bool {
    value.as_str().is_some_and(|time| time.len() == 24 && time.contains('T') && time.ends_with('Z'))
}

#[test]
fn a_run_under_way_is_told_with_its_step_and_can_be_followed() {
    let host = installed_with("status", &(config_with([("soak = \"1s\"", "soak = \"6s\"")]) + JOBS));
    host.tag("latest", "v2");
    host.sh("setsid astra-agent deploy </dev/null >/root/out 2>&1 &").ok();
    let soaks = "astra-agent status --json | jq -e '.under_way.doing // \"\" | startswith(\"soak\")'";
    host.wait(soaks, Duration::from_secs(60));

    let status = host.status();
    let run = &status["under_way"];
    assert_eq!((&run["command"], &run["actor"]), (&"deploy".into(), &"root".into()), "{status}");
    assert!(run["step"].as_u64() > Some(1) && run["of"].as_u64() > run["step"].as_u64(), "{status}");
    assert!(is_time(&run["since"]) && is_time(&status["live_since"]), "{status}");
    // Its trial is neither drift nor a cut-off run.
    let none = Value::Array(Vec::new());
    assert_eq!((&status["drift"], &status["pending"], &status["cut_off_run"]), (&none, &none, &Value::Null));
    let text = host.agent(["status"]).ok().stdout;
    for said in [&format!("deploy (run {}) under way for ", run["run"]), "by root: step ", "soak astra-app@1"]
    {
        assert!(text.contains(said), "no {said:?} in:\n{text}");
    }
    assert!(!text.contains("recover") && !text.contains("drift"), "{text}");

    // From another terminal, to its end.
    let followed = host.agent(["status", "--watch"]).ok().stdout;
    for said in [
        "following `astra-agent deploy` by root",
        "soak astra-app@1",
        "commit release 2",
        "ended: converged in ",
    ] {
        assert!(followed.contains(said), "no {said:?} in:\n{followed}");
    }
    assert_eq!(host.missing(), Ok("v2".to_owned()));
    let after = host.status();
    assert_eq!(
        (&after["under_way"], &after["release"], &after["schema"]),
        (&Value::Null, &2.into(), &1.into())
    );
    assert_eq!(after["last_deploy"]["run"], run["run"]);
    assert!(host.history().iter().all(|run| is_time(&run["at"])));
}
