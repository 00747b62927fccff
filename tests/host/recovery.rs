//! State of a host after a run was cut off by a signal or a power cut, with and without the agent.

use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::harness::{Engine, Host};
use crate::site::{config_with, installed_with};

/// A fast site: the length of a soak does not matter here.
pub const QUICK: (&str, &str) = ("soak = \"1s\"", "soak = \"100ms\"");

/// How long to wait for a host before it counts as lost; the promised time is checked afterwards.
const LIMIT: Duration = Duration::from_secs(90);

/// Everything that can be observed of a host from outside, part after part.
const LOOK: &str = r#"
part() { printf '\036'; }
astra-agent status --json; printf '\036%s' $?
part; astra-agent history -n 1000 --json
part; cat /etc/astra/astra.env
part; CONTAINERS
part; find /run/astra -name 'trial*' -o -path '*/drain/*'
    find /etc/astra /run/astra /etc/systemd/system /var/lib/astra-agent -name '.*' -o -name '*.tmp'
part; curl -s -m 5 localhost:8001/; curl -s -m 5 localhost:8002/; curl -s -m 5 localhost/
part; cat /etc/astra/last_app_image 2>/dev/null
part; systemctl --failed --plain --no-legend; systemctl list-units --plain --no-legend 'astra-agent-*' |
    grep -v 'timer\|inactive'
part; runuser -u postgres -- psql -qAt astra -c "select name from django_migrations where app = 'notes'"
"#;

/// Migrations that a version requires.
fn migrations_of(version: &str) -> &'static [&'static str] {
    match version {
        "v2" => &["0002_mood"],
        "v3" => &["0002_mood", "0003_place"],
        _ => &[],
    }
}

/// How a host recovered by itself.
#[derive(Debug)]
pub struct Restored {
    /// Since the cut.
    pub seconds: f64,
    /// The version in astra.env.
    pub version: String,
}

impl Host {
    /// Waits, changing nothing, until the host is whole again; or returns the missing parts, and the host's
    /// log of that time.
    pub fn await_restored(&self, cut: SystemTime) -> Result<Restored, String> {
        loop {
            let missing = self.missing();
            let seconds = cut.elapsed().unwrap_or_default();
            match missing {
                Ok(version) => return Ok(Restored { seconds: seconds.as_secs_f64(), version }),
                Err(missing) if seconds > LIMIT => {
                    let since = format!(
                        "journalctl --no-pager -o short-precise --since -{}s | head -n 200",
                        seconds.as_secs() + 10
                    );
                    let said = self.sh(&since).stdout;
                    return Err(format!("not whole after {seconds:.0?}: {}\n{said}", missing.join("\n")));
                }
                Err(_) => {}
            }
        }
    }

    /// The promises that do not hold: both instances serve the release in astra.env, on a migrated database,
    /// without leftovers of a run, and the journal is complete.
    pub fn missing(&self) -> Result<String, Vec<String>> {
        let release = match self.engine {
            Engine::Podman => r#"{{index .Labels "astra.release"}}"#,
            Engine::Docker => r#"{{.Label "astra.release"}}"#,
        };
        let (client, state) = (self.engine.client(), self.engine.state());
        let list = format!("{client} ps -a --format '{{{{.Names}}}} {state} {release}'");
        let look = self.sh(&LOOK.replace("CONTAINERS", &list)).stdout;
        let parts: Vec<&str> = look.split('\x1e').collect();
        let [status, code, history, env, containers, traces, answers, pointer, units, migrations] = parts[..]
        else {
            return Err(vec![format!("a look that was cut off: {look}")]);
        };
        let mut missing = Vec::new();
        let mut check = |holds: bool, what: String| {
            if !holds {
                missing.push(what);
            }
        };
        check(code == "0", format!("status exits with {code}: {status}"));
        let status: Value = serde_json::from_str(status).unwrap_or_default();
        let value = |key: &str| env.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix('='));
        let release = value("ASTRA_RELEASE").unwrap_or("none");
        let version = value("APP_IMAGE").and_then(|image| self.version_of(image)).unwrap_or_default();
        let serves = status["release"].to_string();
        check(serves == release, format!("status: {status}, astra.env: {release}"));
        for i in status["instances"].as_array().map_or(&[][..], Vec::as_slice) {
            let whole = i["release"] == status["release"] && i["ready"] == true && i["drained"] == false;
            check(whole, format!("{i}"));
        }
        for key in ["cut_off_run", "journal_damaged"] {
            check(status[key].is_null(), format!("{key}: {}", status[key]));
        }
        let mut containers: Vec<_> = containers.lines().map(str::trim).collect();
        containers.sort_unstable();
        let apps = [1, 2].map(|i| format!("astra-app-{i} running {release}"));
        check(containers == [&apps[0], &apps[1], "astra-caddy running"], format!("{containers:?}"));
        check(traces.is_empty(), format!("left: {traces}"));
        let answers: Vec<_> = answers.lines().map(|a| a.split(' ').next().unwrap_or_default()).collect();
        let named = value("APP_IMAGE").unwrap_or_default();
        check(
            !version.is_empty() && answers == [version; 3],
            format!("astra.env names {version} ({named}), answers: {answers:?}"),
        );
        let migrated = |wanted: &&str| migrations.lines().any(|m| m == *wanted);
        let lacking: Vec<_> = migrations_of(version).iter().filter(|m| !migrated(m)).collect();
        check(
            lacking.is_empty(),
            format!("new code, database not migrated: {version} serves without {lacking:?}"),
        );
        let back = status["rollback_to"].as_str().unwrap_or_default();
        check(pointer.trim() == back, format!("last_app_image {pointer}, but a rollback leads to {back}"));
        check(units.is_empty(), format!("units: {units}"));
        let history: Value = serde_json::from_str(history).unwrap_or_default();
        let history = history["runs"].as_array().cloned().unwrap_or_default();
        check(!history.is_empty(), "no history".into());
        for run in history.iter().filter(|run| run["outcome"].is_null()) {
            check(false, format!("not closed: {run}"));
        }
        if missing.is_empty() { Ok(version.to_owned()) } else { Err(missing) }
    }

    fn version_of(&self, image: &str) -> Option<&'static str> {
        ["v1", "v2", "v3"].into_iter().find(|tag| self.image(tag) == image)
    }
}

/// Starts a deploy of v2 and cuts the power at `moment`.
fn cut_at(host: &Host, moment: &str) {
    host.tag("latest", "v2");
    let begin = "setsid astra-agent deploy --force --migrate >/root/deploy 2>&1 </dev/null &";
    host.sh(&format!("{begin} until {moment}; do sleep 0.02; done")).ok();
    host.reboot();
}

#[test]
fn a_power_cut_during_a_deploy_boots_the_committed_release() {
    let host = installed_with("cut", &config_with([QUICK]));
    let moments = [
        ("the migration runs", "podman ps --format '{{.Names}}' | grep -q migrate", "v1"),
        ("one instance is on trial", "curl -s -m 1 localhost:8001/ | grep -q v2", "v1"),
        ("both are on trial", "curl -s -m 1 localhost:8002/ | grep -q v2", "v1"),
        (
            "just committed",
            "grep -q $(curl -sI localhost:5000/v2/astra/manifests/v2 -H 'Accept: \
            application/vnd.oci.image.manifest.v1+json' | sed -n 's/\\r//; s/^docker-content-digest: //Ip') \
            /etc/astra/astra.env",
            "v2",
        ),
    ];
    for (what, moment, serves) in moments {
        cut_at(&host, moment);
        let restored =
            host.await_restored(SystemTime::now()).unwrap_or_else(|broken| panic!("{what}: {broken}"));
        println!(
            "power cut when {what}: {} serves {:.1} s after the boot",
            restored.version, restored.seconds
        );
        // The state at the poll may be over at the cut: by then it may be committed.
        assert!(restored.version == serves || what == "both are on trial", "{what}: {restored:?}");
        if restored.version != "v1" {
            host.tag("latest", "v1");
            host.agent(["deploy", "--force"]).ok();
        }
    }
}

#[test]
fn a_host_without_its_agent_boots_and_serves_the_committed_release() {
    let host = installed_with("orphan", &config_with([QUICK]));
    cut_at(&host, "curl -s -m 1 localhost:8001/ | grep -q v2 && mv /usr/local/bin/astra-agent /root");
    for url in ["localhost:8001/", "localhost:8002/", "localhost/"] {
        let answer = host.wait(&format!("curl -sSf -m 2 {url}"), Duration::from_secs(30));
        assert!(answer.stdout.starts_with("v1 "), "{url}: {}", answer.stdout);
    }
    assert_eq!(host.sh("systemctl is-system-running").ok().stdout, "running\n");
    assert_eq!(host.sh("find /run/astra -name 'trial*' -o -path '*/drain/*'").ok().stdout, "");

    // Once the agent is back, it reports the cut-off run.
    host.sh("mv /root/astra-agent /usr/local/bin && astra-agent recover").ok();
    assert_eq!(host.missing(), Ok("v1".to_owned()));
}
