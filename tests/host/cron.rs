//! Cron jobs on a real host: they fire, they log, they never overlap.

use std::time::Duration;

use crate::harness::Host;
use crate::recovery::QUICK;
use crate::site::{CONFIG_FILE, config_with, installed_with};

const JOBS: &str = r#"
[[cron_jobs]]
name = "minutely"
minute = "*"
hour = "*"
command = "podman exec astra-app-1 python3 manage.py tick"

[[cron_jobs]]
name = "tick"
every = "5s"
run = ["python3", "manage.py", "tick"]

[[cron_jobs]]
name = "slow"
every = "1s"
command = "sh -c 'echo begin >>/root/slow; sleep 3; echo end >>/root/slow'"
"#;

impl Host {
    fn rows(&self) -> u32 {
        let count = "runuser -u postgres -- psql -qtA astra -c 'select count(*) from notes_note'";
        self.sh(count).ok().stdout.trim().parse().unwrap()
    }

    fn result(&self, job: &str) -> String {
        self.sh(&format!("systemctl show -P Result astra-cron-{job}.service")).ok().stdout
    }
}

/// A config of another host: checked by any user, against the config alone.
fn a_config_is_checked_without_root(host: &Host) {
    host.write(
        "/tmp/site/agent.toml",
        &format!("[app]\nimage = \"ghcr.io/a/b:c\"\n{JOBS}").replace("hour = \"*\"\n", ""),
    );
    host.write("/tmp/site/root/etc/astra/agent.toml", "[app]\nimage = \"ghcr.io/a/b:c\"\n");
    host.write("/tmp/site/root/etc/astra/agent.d/10.toml", "[app]\nports = 1\n");
    let anybody = |words: &str| {
        host.sh(&format!("setpriv --reuid=65534 --regid=65534 --clear-groups astra-agent check {words}"))
    };
    let one = anybody("/tmp/site/agent.toml").ok();
    assert!(one.stdout.starts_with("ok\nnot checked: the env file"), "{}", one.stdout);
    assert!(one.stderr.contains("agent.toml:6:10: without `hour`"), "{}", one.stderr);
    let whole = anybody("--root /tmp/site/root");
    assert!(
        whole.code() == 2 && whole.stderr.contains("agent.d/10.toml:2:1: unknown key `ports`"),
        "{}",
        whole.stderr
    );
    let here = anybody("");
    assert!(here.code() == 1 && here.stderr.contains("this needs root"), "{}", here.stderr);
}

#[test]
fn jobs_fire_log_and_never_overlap() {
    let host = installed_with("cron", &(config_with([QUICK]) + JOBS));
    let before = host.rows();
    let list = host.agent(["cron", "list"]).ok().stdout;
    for said in ["minutely", "every 5s", "run: python3 manage.py tick", "next 2", "next in "] {
        assert!(list.contains(said), "no {said:?} in:\n{list}");
    }

    a_config_is_checked_without_root(&host);

    // `cron run` starts the job now, shows its output and its result.
    let ran = host.agent(["cron", "run", "minutely"]).ok().stdout;
    assert!(ran.starts_with("  tick ") && ran.contains("\nminutely finished in "), "{ran}");
    // A running job is not started a second time, which is reported.
    host.wait("systemctl show -P ActiveState astra-cron-slow | grep -q activating", Duration::from_secs(20));
    let joined = host.agent(["cron", "run", "slow"]).ok().stdout;
    assert!(joined.contains("slow was running already since "), "{joined}");
    assert!(host.rows() > before);
    let unknown = host.agent(["cron", "run", "minutly"]);
    assert!(unknown.code() == 2 && unknown.stderr.contains("minutely, tick, slow"), "{}", unknown.stderr);

    // By the timer: both kinds write; five-field jobs at second 0.
    let starts = |job: &str| {
        let journal = format!("journalctl -u astra-cron-{job}.service -o short-unix | grep -c 'Starting'");
        host.sh(&journal).stdout.trim().parse::<u32>().unwrap_or(0)
    };
    let by_hand = starts("minutely");
    host.wait(
        "journalctl -u astra-cron-tick.service | grep -c Starting | grep -qx '[3-9]'",
        Duration::from_secs(60),
    );
    let rows = host.rows();
    assert!(rows >= before + 3, "{rows} rows, {before} before");
    host.wait(
        &format!("[ $(journalctl -u astra-cron-minutely.service | grep -c Starting) -gt {by_hand} ]"),
        Duration::from_secs(70),
    );
    for job in ["minutely", "tick", "slow"] {
        assert_eq!(host.result(job), "success\n", "{job}");
    }

    // A run that takes longer than its period delays the next one.
    let slow = host.read("/root/slow");
    let lines: Vec<&str> = slow.lines().collect();
    assert!(lines.len() > 4, "{slow}");
    assert!(lines.iter().enumerate().all(|(n, line)| *line == ["begin", "end"][n % 2]), "{slow}");

    // After a rename the old units are removed, running or not; others are unchanged.
    let config = host.read(CONFIG_FILE);
    host.write(CONFIG_FILE, &config.replace("\"tick\"\nevery", "\"tock\"\nevery"));
    let reconcile = host.agent(["reconcile"]).ok().text();
    assert!(reconcile.contains("astra-cron-tock.timer"), "{reconcile}");
    let units = host
        .sh("ls /etc/systemd/system /etc/systemd/system/timers.target.wants | grep cron-t | sort -u")
        .ok();
    assert_eq!(units.stdout, "astra-cron-tock.service\nastra-cron-tock.timer\n");
    // A run under way ends by itself; then systemd has unloaded the job.
    let loaded = "systemctl list-units --all --plain --no-legend 'astra-cron-tick*'";
    host.wait(&format!("[ -z \"$({loaded})\" ]"), Duration::from_secs(60));
    host.wait("systemctl is-active astra-cron-tock.timer", Duration::from_secs(5));
    let rows = host.rows();
    host.wait("journalctl -u astra-cron-tock.service | grep -q Finished", Duration::from_secs(30));
    assert!(host.rows() > rows);
    assert!(host.agent(["reconcile"]).ok().stdout.starts_with("up to date: release 1"));

    // A failed job is reported: with its last lines, its own exit code, and by `doctor`.
    let config = host.read(CONFIG_FILE);
    let fails = "run = [\"sh\", \"-c\", \"echo no mail server >&2; exit 7\"]";
    host.write(
        CONFIG_FILE,
        &config.replace("run = [\"python3\", \"manage.py\", \"tick\"]", fails).replace("\"5s\"", "\"10m\""),
    );
    host.agent(["reconcile"]).ok();
    let failed = host.agent(["cron", "run", "tock"]);
    assert_eq!(failed.code(), 1, "{}", failed.stdout);
    assert!(failed.stdout.ends_with("  no mail server\n"), "{}", failed.stdout);
    for said in ["tock failed after ", ": exit code 7\n", "journalctl -u astra-cron-tock"] {
        assert!(failed.stderr.contains(said), "{}", failed.stderr);
    }
    let failed = host.agent(["cron", "run", "tock", "--json"]);
    let answer: serde_json::Value = serde_json::from_str(&failed.stdout).unwrap();
    assert_eq!(
        (failed.code(), answer["exit_code"].as_i64(), answer["outcome"].as_str()),
        (1, Some(7), Some("failed"))
    );
    assert_eq!(answer["log"], serde_json::json!(["no mail server"]));
    let doctor = host.agent(["doctor"]);
    assert!(doctor.stdout.contains("the last run of cron job tock failed: exit code 7"), "{}", doctor.stdout);

    // Earlier jobs beside the agent's.
    host.write(
        "/etc/systemd/system/astra-send-queued-mail.service",
        "[Service]\nType=oneshot\nExecStart=/bin/true\n",
    );
    host.write(
        "/etc/systemd/system/astra-send-queued-mail.timer",
        "[Timer]\nOnUnitActiveSec=10s\nOnActiveSec=1h\n",
    );
    host.sh("systemctl daemon-reload && systemctl start astra-send-queued-mail.timer").ok();
    host.write(
        "/var/spool/cron/crontabs/root",
        "#Ansible: daily\n0 0 * * * podman exec astra-app-1 python manage.py x\n",
    );
    let doctor = host.agent(["doctor"]);
    for said in [
        "astra-send-queued-mail.timer runs, and is not the agent's",
        "/var/spool/cron/crontabs/root:2 enters",
    ] {
        assert!(doctor.stdout.contains(said), "no {said:?} in:\n{}", doctor.stdout);
    }
    // A job leaves only its own output in the systemd journal, without a line for each event of its
    // container.
    let events = host.sh(
        "journalctl -u astra-cron-tock.service -o cat | grep -cE '(container|image) [a-z]+ [0-9a-f]{64}'",
    );
    assert_eq!(
        events.stdout.trim(),
        "0",
        "{}",
        host.sh("journalctl -u astra-cron-tock.service -n 40").stdout
    );
}
