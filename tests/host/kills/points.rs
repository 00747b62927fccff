//! Kills at named points: before and after each step, within steps, during undo, in recover.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::SystemTime;
use std::{env, iter};

use serde_json::Value;

use super::tally::{Cut, Tally};
use super::{migrations, other, start_seconds, unmigrate};
use crate::harness::Host;
use crate::recovery::{QUICK, Restored};
use crate::site::{config_with, installed_with};

/// A build with failpoints, in a directory of its own, because others use the normal builds.
fn failing_agent() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let target =
            Path::new(env!("CARGO_BIN_EXE_astra-agent")).ancestors().nth(2).unwrap().join("failpoints");
        let status = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--bin", "astra-agent", "--features", "failpoints"])
            .args(["--manifest-path", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")])
            .arg("--target-dir")
            .arg(&target)
            .status()
            .unwrap();
        assert!(status.success(), "building the agent with its fail points");
        target.join("debug/astra-agent")
    })
}

/// A host whose runs die at a named point.
struct Dying {
    host: Host,
    tally: Tally,
    start: f64,
    version: String,
}

impl Dying {
    /// It serves v1 with v1's schema.
    fn new(name: &str, what: &'static str) -> Self {
        let host = installed_with(name, &config_with([QUICK]));
        host.put(failing_agent(), "/usr/local/bin/astra-agent");
        host.tag("latest", "v3");
        let start = start_seconds(&host.agent(["deploy", "--json"]).ok());
        host.tag("latest", "v1");
        host.agent(["deploy", "--force"]).ok();
        unmigrate(&host);
        Self { host, tally: Tally::new(what, None), start, version: "v1".to_owned() }
    }

    /// Runs `words`, which dies at `point`, and waits for recovery; then `version` must be serving.
    fn dies(&mut self, name: &str, words: &str, point: &str, version: &str) {
        let output = self.host.sh(&format!("ASTRA_FAILPOINT='{point}' astra-agent {words} 2>&1"));
        let cut = SystemTime::now();
        let died = output.code() == 4 && output.stdout.contains("was killed (signal 9)");
        let at = format!("at {name}, {point}");
        if died {
            self.comes_back(words, at, cut, version);
        } else {
            self.count(words, at, cut, Err(format!("did not die there:\n{}", output.stdout)));
        }
    }

    fn comes_back(&mut self, words: &str, at: String, cut: SystemTime, version: &str) {
        let back = self.host.await_restored(cut).and_then(|restored| match restored.version == version {
            true => Ok(restored),
            false => Err(format!("{} serves, and not {version}", restored.version)),
        });
        self.count(words, at, cut, back);
    }

    fn count(&mut self, words: &str, at: String, cut: SystemTime, back: Result<Restored, String>) {
        let from = self.version.clone();
        if let Ok(restored) = &back {
            self.version.clone_from(&restored.version);
        }
        if !self.tally.add(Cut::judge((words, at, &from), cut, back, self.start)) {
            self.tally.conclude();
        }
    }

    /// The lines of the next deploy.
    fn plan(&self) -> Vec<String> {
        let plan: Value = serde_json::from_str(&self.host.agent(["plan", "--json"]).ok().stdout).unwrap();
        plan["release"].as_array().unwrap().iter().map(|line| line.as_str().unwrap().to_owned()).collect()
    }
}

/// The crash point that a step's line belongs to.
fn crash_point(line: &str, before: bool) -> &'static str {
    let points = [
        ("pull", "C3", "C4"),
        ("write /run/astra/trial.env", "C6", "C6"),
        ("migrate", "C7", "C8"),
        ("drain astra-app@1", "C9", "C9"),
        ("drain", "C15", "C9"),
        ("try", "C10", "C12"),
        ("wait", "C13", "C13"),
        ("soak", "C13", "C13"),
        ("put", "C14", "C14"),
        ("flush", "C5", "C5"),
        ("commit", "C16", "C16"),
        ("remove", "C16", "C16"),
    ];
    let found = points.iter().find(|(start, ..)| line.starts_with(start));
    let (_, at, behind) = found.unwrap_or_else(|| panic!("no crash point for {line}"));
    if before { at } else { behind }
}

#[test]
fn a_deploy_killed_before_or_after_any_step_leaves_a_whole_host() {
    let mut dying = Dying::new("steps", "every step, before and after");
    dying.host.tag("latest", "v2");
    let plan = dying.plan();
    let at = |word| plan.iter().position(|line| line.starts_with(word)).unwrap();
    let (migrate, commit) = (at("migrate"), at("commit"));
    // Up to the commit point everything is undone, so each time it is the first deploy of v2.
    for (step, moment) in (0..=commit).flat_map(|step| [(step, "before"), (step, "after")]) {
        if (step, moment) == (commit, "after") {
            break;
        }
        // After a step is almost the same as before the next: an ordinary test run takes each step once.
        if env::var_os("ASTRA_KILLS").is_none() && (step % 2 == 0) == (moment == "after") {
            continue;
        }
        let image = dying.host.image("v2");
        dying.host.sh(&format!("! podman image exists {image} || podman image rm --force {image}")).ok();
        let line = dying.plan().remove(step);
        if step <= migrate {
            unmigrate(&dying.host);
        }
        // A migration without a waiting run only takes time.
        let migrated = migrations(&dying.host).contains("0002_mood");
        let words = if migrated { "deploy --no-migrate" } else { "deploy" };
        dying.dies(crash_point(&line, moment == "before"), words, &format!("{moment}:{line}"), "v1");
        // A cut after the migration must find a migrated database.
        let due = step > migrate || (step == migrate && moment == "after");
        assert_eq!(migrations(&dying.host).contains("0002_mood"), due, "{moment} {line}");
    }
    // After the commit everything is kept. Attempts do not count as migrated, so the schema is reset.
    unmigrate(&dying.host);
    let lines: Vec<String> = dying.plan().split_off(commit);
    let behind = lines[1..].iter().flat_map(|line| [("before", line), ("after", line)]);
    for (moment, line) in iter::once(("after", &lines[0])).chain(behind) {
        let next = other(&dying.version);
        dying.host.tag("latest", next);
        let point = if line.starts_with("commit") { "commit" } else { line.as_str() };
        dying.dies("C16", "deploy --force", &format!("{moment}:{point}"), next);
    }
    dying.tally.conclude();
}

#[test]
fn a_run_killed_within_a_step_or_during_undo_leaves_a_whole_host() {
    let mut dying = Dying::new("within", "within steps, during undo, in recover");
    dying.host.tag("latest", "v2");
    // It migrates until v2 is committed.
    let deploy = "deploy --force";
    for (name, point) in [
        ("C1", "locked:deploy"),
        ("C2", "before:open"),
        ("C2", "after:open"),
        ("C6", "rename:trial.env"),
        ("C9", "rename:1"),
        ("C10", "stopped:astra-app@1"),
        ("C11", "rename:trial-1.env"),
        ("C10", "stopped:astra-app@2"),
        ("C11", "rename:trial-2.env"),
        ("C16", "rename:astra.env"),
    ] {
        dying.dies(name, deploy, point, "v1");
    }
    unmigrate(&dying.host);
    for (name, point) in [
        ("C16", "before:close"),
        ("C16", "after:close"),
        ("C16", "before:write /etc/astra/last_app_image"),
        ("C16", "rename:last_app_image"),
        ("C17", "after:write /etc/astra/last_app_image"),
    ] {
        let next = other(&dying.version);
        dying.host.tag("latest", next);
        dying.dies(name, deploy, point, next);
    }

    // The undo of a release that never works.
    let serves = dying.version.clone();
    dying.host.tag("latest", "exits");
    for point in [
        "before:return astra-app@1",
        "stopped:astra-app@1",
        "after:return astra-app@1",
        "before:put astra-app@1",
        "after:put astra-app@1",
        "before:remove /run/astra/trial.env",
    ] {
        dying.dies("C18", deploy, point, &serves);
    }

    // Another environment: completely old or completely new.
    dying.host.tag("latest", &serves);
    let config = dying.host.read("/etc/astra/agent.toml");
    dying.host.write("/etc/astra/agent.toml", &config.replace("[env]", "[env]\nWORD = \"new\""));
    for (point, word) in [("before:commit", ""), ("rename:astra.env", ""), ("after:commit", "WORD=new\n")] {
        dying.dies("C19", deploy, point, &serves);
        assert_eq!(dying.host.sh("grep ^WORD /etc/astra/astra.env").stdout, word, "{point}");
    }

    // Recover is killed halfway as well: systemd starts it again.
    let next = other(&dying.version);
    dying.host.tag("latest", next);
    for moment in ["0.1", "0.5", "1", "1.5", "2"] {
        let killed = dying.host.sh(&format!(
            "ASTRA_FAILPOINT='after:put astra-app@1' astra-agent {deploy} >/dev/null 2>&1
            unit=astra-agent-recover.service main=0
            while [[ $main = 0 ]]; do main=$(systemctl show -P MainPID $unit); done
            sleep {moment}; kill -KILL $main 2>/dev/null && echo killed || echo had ended"
        ));
        let cut = SystemTime::now();
        let told = killed.stdout.trim();
        dying.comes_back("recover", format!("at C18, after {moment} s ({told})"), cut, &serves);
    }

    // While podman makes the container of the release on trial, before conmon watches it.
    let next = other(&dying.version);
    dying.host.tag("latest", next);
    for moment in ["0.05", "0.1", "0.15", "0.2", "0.3"] {
        let killed = dying.host.sh(&format!(
            "setsid astra-agent {deploy} >/root/out 2>&1 </dev/null &
            until [[ $(systemctl show -P SubState astra-app@1) = start ]]; do :; done; sleep {moment}
            kill -KILL $(systemctl show -P MainPID 'astra-agent-deploy-*')"
        ));
        killed.ok();
        dying.comes_back(deploy, format!("at C10, {moment} s into the start"), SystemTime::now(), &serves);
    }
    dying.tally.conclude();
}
