//! An operator's view of a host, during a run and after it.

use std::time::Duration;

use serde_json::Value;

use crate::recovery::QUICK;
use crate::site::{CONFIG_FILE, config_with, installed_with};

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
fn a_run_under_way_shows_its_step_and_can_be_followed() {
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
    let followed = host.agent(["status", "--watch"]).ok();
    let followed = followed.stdout + &followed.stderr;
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

const DEVIATIONS: &str = "\
extra = \"\"\"
nonsense_directive yes
\"\"\"
";

/// On the same host: plans, failures, and verbs of other tools.
#[test]
fn plans_show_every_file_and_failures_are_reported_everywhere() {
    let config = config_with([QUICK]) + JOBS;
    let host = installed_with("plan", &config);

    // The release before and after, and all steps numbered, under every name of the plan.
    host.tag("latest", "v2");
    let plan = host.agent(["plan"]).ok().stdout;
    for said in [
        "`astra-agent deploy` would do this; nothing was changed",
        "release  1 -> 2",
        " -> 127.0.0.1:5000/astra@",
    ] {
        assert!(plan.contains(said), "no {said:?} in:\n{plan}");
    }
    assert!(plan.contains(&format!("image    {} -> {}", host.image("v1"), host.image("v2"))), "{plan}");
    assert_eq!(host.agent(["deploy", "--dry-run"]).ok().stdout, plan);
    assert_eq!(host.history().len(), host.sh("ls /var/lib/astra-agent/journal").ok().stdout.lines().count());

    // The Caddyfile, and a new file, line by line.
    let cron = "\n[[cron_jobs]]\nname = \"new\"\nevery = \"1h\"\ncommand = \"true\"\n";
    let config = config.replace("hosts = []", "hosts = [\"shop.example.org\"]") + cron;
    host.write(CONFIG_FILE, &config);
    let plan = host.agent(["reconcile", "--dry-run"]).ok().stdout;
    for said in ["+++ /etc/astra/Caddyfile", "shop.example.org", "--- /dev/null", "astra-cron-new.timer"] {
        assert!(plan.contains(said), "no {said:?} in:\n{plan}");
    }
    let answer: Value =
        serde_json::from_str(&host.agent(["plan", "--reconcile", "--json"]).ok().stdout).unwrap();
    let paths: Vec<_> = answer["changes"].as_array().unwrap().iter().map(|change| &change["path"]).collect();
    assert!(paths.contains(&&"/etc/astra/Caddyfile".into()), "{answer}");

    // A Caddyfile that Caddy refuses is refused by the plan, with the line.
    host.write(CONFIG_FILE, &config.replace("[caddy]\n", &format!("[caddy]\n{DEVIATIONS}")));
    for words in ["plan", "deploy --dry-run"] {
        let refused = host.sh(&format!("astra-agent {words}"));
        assert_eq!(refused.code(), 2, "{}{}", refused.stdout, refused.stderr);
        assert!(refused.stderr.contains(": nonsense_directive yes\n"), "{}", refused.stderr);
    }
    host.write(CONFIG_FILE, &config);

    // While a registry does not answer, the wait is shown on standard error.
    let (v1, v2) = (host.digest("v1"), host.digest("v2"));
    host.sh("systemctl stop docker-registry").ok();
    let silent = host.agent(["plan"]);
    assert!(
        silent.code() == 1 && silent.stderr.contains("resolving 127.0.0.1:5000/astra:latest …\n"),
        "{}",
        silent.stderr
    );
    host.sh("systemctl start docker-registry").ok();
    host.wait("curl -sf localhost:5000/v2/", Duration::from_secs(30));

    // By the first digits of a digest, in upper case as well.
    let short = |digest: &str| digest.trim_start_matches("sha256:").get(..8).unwrap().to_uppercase();
    let unknown = host.agent(["deploy-sha", &short(&v2)]);
    assert!(unknown.code() == 2 && unknown.stderr.contains("no release of this host"), "{}", unknown.stderr);
    let deployed = host.agent(["deploy", "--json"]).ok().stdout;
    let deployed: Value = serde_json::from_str(&deployed).unwrap();
    assert_eq!(deployed["run"], host.history()[0]["run"], "{deployed}");
    let back = host.agent(["rollback", "--to", &short(&v1)]).ok();
    assert_eq!(host.env("APP_IMAGE"), host.image("v1"), "{}", back.stdout);
    let tag = host.agent(["deploy-sha", "latest"]);
    assert!(tag.code() == 2 && tag.stderr.contains("deploy --image …:latest"), "{}", tag.stderr);

    // status and doctor report a failed job, and status when the next run is due.
    let _ = host.agent(["cron", "run", "fails"]);
    let text = host.agent(["status"]).ok().stdout;
    assert!(text.contains("cron        fails failed ") && text.contains("cron        next is "), "{text}");
    let doctor = host.agent(["doctor"]);
    assert!(
        doctor.code() == 4 && doctor.stdout.contains("the last run of cron job fails failed"),
        "{}",
        doctor.stdout
    );
    let jobs: Value = serde_json::from_str(&host.agent(["cron", "list", "--json"]).ok().stdout).unwrap();
    assert!(jobs["jobs"].as_array().unwrap().iter().all(|job| is_time(&job["next"])), "{jobs}");

    // A verb of another tool, in text and JSON.
    let logs = host.agent(["logs", "-f"]);
    assert!(logs.code() == 2 && logs.stderr.contains("journalctl -t astra-app-1"), "{}", logs.stderr);
    let answer: Value = serde_json::from_str(&host.agent(["deploi", "--json"]).stdout).unwrap();
    assert_eq!((&answer["outcome"], &answer["exit_code"]), (&"refused".into(), &2.into()), "{answer}");
}
