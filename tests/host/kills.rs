//! SIGKILL of a run at any moment, and nobody touches the host: it comes back by
//! itself. `blind` kills by the clock, `steps` before and after every step and within
//! them. With ASTRA_KILLS=200 it is a campaign (tests/campaign), which goes on where it
//! was when it is called again.

mod tally;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use std::{env, iter};

use serde_json::Value;

use crate::harness::{Host, Output};
use crate::recovery::{QUICK, Restored};
use crate::site::{config_with, installed_with};
use tally::{Cut, Tally, commit};

/// So many cuts by the clock under the same traffic: what it got is known at its end, and must not be lost with a
/// campaign that is interrupted.
const SEGMENT: usize = 20;

/// Starts a verb, kills its main process after `moment`, and tells when; `None`: it had ended before, and well.
fn kill(host: &Host, words: &str, moment: Duration) -> Result<Option<SystemTime>, String> {
    let verb = words.split(' ').next().unwrap();
    let output = host
        .sh(&format!(
            r#"
            astra-agent {words} >/root/out 2>&1 & front=$!
            begun=${{EPOCHREALTIME/./}} main=0
            while kill -0 $front && [[ $main = 0 ]]; do
                main=$(systemctl show -P MainPID astra-agent-{verb}-$front.service)
            done 2>/dev/null
            while ((${{EPOCHREALTIME/./}} < begun + {})); do read -t 0.005 <>/dev/zero; done
            [[ $main != 0 ]] && kill -KILL $main 2>/dev/null && echo "${{EPOCHREALTIME/./}}"
            wait $front; echo "code $?"; cat /root/out
            "#,
            moment.as_micros()
        ))
        .ok()
        .stdout;
    let (first, rest) = output.split_once('\n').unwrap();
    // The end of the run and the kill may have met.
    if first == "code 0" || rest.starts_with("code 0") {
        return Ok(None);
    }
    match first.parse() {
        Ok(at) if rest.starts_with("code 4\n") && rest.contains("was killed (signal 9)") => {
            Ok(Some(UNIX_EPOCH + Duration::from_micros(at)))
        }
        Ok(_) => Err(format!("was killed, and says: {output}")),
        Err(_) => Err(format!("was not killed, and failed: {output}")),
    }
}

/// A run that nobody disturbs ends well.
fn undisturbed(host: &Host, words: &str) -> Result<(), String> {
    let output = host.sh(&format!("astra-agent {words} 2>&1"));
    if output.code() == 0 {
        return Ok(());
    }
    Err(format!("`{words}`, undisturbed, ends with {}: {}", output.code(), output.stdout))
}

fn database(host: &Host, sql: &str) -> String {
    host.sh(&format!("runuser -u postgres -- psql -qAt astra -c \"{sql}\"")).ok().stdout
}

fn migrations(host: &Host) -> String {
    database(host, "select name from django_migrations where app = 'notes' order by name")
}

/// Takes the database back to the schema of v1, which must be what serves: the next release really has to migrate.
fn unmigrate(host: &Host) {
    database(
        host,
        "delete from django_migrations where app = 'notes' and name in ('0002_mood', '0003_place'); \
         alter table notes_note drop column if exists mood, drop column if exists place",
    );
    assert_eq!(migrations(host), "0001_initial\n");
}

/// What somebody does who brings a known release by `install`, which migrates only for a new one.
fn migrate_by_hand(host: &Host) {
    database(
        host,
        "alter table notes_note add column if not exists mood text; \
         insert into django_migrations (app, name, applied) select 'notes', '0002_mood', now() \
         where not exists (select from django_migrations where app = 'notes' and name = '0002_mood')",
    );
}

/// Seconds that a verb takes when nobody disturbs it.
fn measured(host: &Host, words: &str) -> Duration {
    let begun = SystemTime::now();
    host.sh(&format!("astra-agent {words}")).ok();
    begun.elapsed().unwrap()
}

/// What the app and its container need to start, both instances together.
fn start_seconds(deploy: &Output) -> f64 {
    let report: Value = serde_json::from_str(&deploy.stdout).unwrap();
    let phases = report["phases"].as_array().unwrap();
    let start = phases.iter().filter(|p| ["restart", "ready"].contains(&p[0].as_str().unwrap()));
    start.map(|p| p[1].as_f64().unwrap()).sum()
}

fn other(version: &str) -> &'static str {
    if version == "v1" { "v2" } else { "v1" }
}

/// Numbers from 0 to 1, the same for the same seed.
fn fractions(seed: u64) -> impl Iterator<Item = f64> {
    // The golden ratio spreads any number of them evenly.
    let start = (seed % 1000) as f64 / 1000.0;
    iter::successors(Some(start), |last| Some((last + 0.618_033_988_75).fract()))
}

/// Each tenth cut of these verbs, all others of a deploy. The number is that of the first one.
const VERBS: [(&str, usize); 4] = [("deploy", 0), ("install", 7), ("reconcile", 8), ("rollback", 9)];

/// A host whose runs are killed by the clock.
struct Blind {
    host: Host,
    version: String,
    start: f64,
    /// How long each verb takes when nobody disturbs it.
    length: BTreeMap<&'static str, Duration>,
}

impl Blind {
    fn new() -> Self {
        let host = installed_with("blind", &config_with([QUICK]));
        host.tag("latest", "v2");
        let start = start_seconds(&host.agent(["deploy", "--migrate", "--json"]).ok());
        host.tag("latest", "v1");
        // As long as it will take: a drain waits for requests.
        let load = host.load(50).websockets(0).start();
        let mut length = BTreeMap::new();
        length.insert("deploy", measured(&host, "deploy --force --migrate"));
        // It finds the tag moved: a deploy.
        host.tag("latest", "v2");
        length.insert("install", measured(&host, "install"));
        length.insert("rollback", measured(&host, "rollback"));
        plant_drift(&host);
        length.insert("reconcile", measured(&host, "reconcile"));
        assert_eq!(load.stop().failed, 0);
        let version = host.missing().unwrap();
        println!("undisturbed: {length:.1?}; start of both instances {start:.1} s");
        Self { host, version, start, length }
    }

    /// Makes the host one on which the verb has something to do.
    fn prepare(&mut self, verb: &str, number: usize) -> Result<(), String> {
        let host = &self.host;
        match verb {
            "reconcile" => plant_drift(host),
            // Always away from v3, so that neither of the others is ever held.
            "rollback" => {
                host.tag("latest", "v3");
                undisturbed(host, "deploy --force --migrate")?;
                self.version = "v3".to_owned();
            }
            // It leaves alone what a person chose, and what was rolled back from: neither may be what it meets.
            "install" => {
                let next = other(&self.version);
                host.tag("latest", next);
                undisturbed(host, "deploy --force --migrate")?;
                self.version = next.to_owned();
                host.tag("latest", other(next));
            }
            _ => {
                if self.version == "v3" {
                    // Nothing is left to migrate there.
                    host.tag("latest", "v1");
                    undisturbed(host, "deploy --force --migrate")?;
                    self.version = "v1".to_owned();
                }
                host.tag("latest", other(&self.version));
            }
        }
        match (verb, self.version.as_str()) {
            // Until a deploy has come as far as to migrate.
            ("deploy", "v1") if number.is_multiple_of(2) => unmigrate(host),
            ("install", "v1") => migrate_by_hand(host),
            _ => {}
        }
        if verb == "deploy" && number.is_multiple_of(4) {
            // The pull is a part of a deploy too.
            host.sh(&format!("podman image rm --force {}", host.image(other(&self.version)))).ok();
        }
        Ok(())
    }

    /// Kills a verb at this fraction of its time and a little more, and sees what comes of it; `None`: it had
    /// ended before.
    fn cut(&mut self, verb: &str, number: usize, fraction: f64) -> Option<Cut> {
        let words = if verb == "deploy" { "deploy --force --migrate" } else { verb };
        // Past its end too: it takes longer on some hosts than on others, and what follows the commit is short.
        let moment = self.length[verb].mul_f64(1.25 * fraction);
        let begun = SystemTime::now();
        let ready = self.prepare(verb, number);
        let from = self.version.clone();
        let (killed, back) = match ready.and_then(|()| kill(&self.host, words, moment)) {
            Ok(Some(killed)) => (killed, self.host.await_restored(killed)),
            Ok(None) => match self.host.missing() {
                Ok(version) => {
                    println!("      {words} had ended before {moment:.2?}");
                    self.version = version;
                    return None;
                }
                Err(missing) => (begun, Err(format!("had ended before, and left: {}", missing.join("\n")))),
            },
            Err(broken) => (begun, Err(broken)),
        };
        let back = back.and_then(|restored| {
            self.version.clone_from(&restored.version);
            // What was mended by half is mended by the next one.
            if verb == "reconcile" { undisturbed(&self.host, verb).map(|()| restored) } else { Ok(restored) }
        });
        Some(Cut::judge((words, format!("after {moment:.2?}"), &from), killed, back, self.start))
    }
}

#[test]
fn a_run_that_is_killed_at_any_moment_leaves_a_whole_host() {
    // A campaign says how many, and goes on where it was.
    let campaign: Option<usize> = env::var("ASTRA_KILLS").ok().map(|n| n.parse().unwrap());
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("campaign").join("kills-blind.jsonl");
    let seed = env::var("ASTRA_SEED").ok().map(|seed| seed.parse().unwrap());
    let mut tally = match campaign {
        Some(_) => {
            Tally::kept_in("blind", &kept, commit(), seed).unwrap_or_else(|refused| panic!("{refused}"))
        }
        None => Tally::new("blind", seed),
    };
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let seed = *tally.seed.get_or_insert(clock);
    println!("seed {seed}");
    let wanted = campaign.unwrap_or(20);
    if tally.cuts().count() < wanted {
        kill_blindly(&mut tally, seed, wanted);
    }
    tally.conclude();
}

/// Kills until there are as many cuts, or one of them breaks a promise.
fn kill_blindly(tally: &mut Tally, seed: u64, wanted: usize) {
    let mut blind = Blind::new();
    // The same moments again for the same seed, interrupted or not.
    let mut moments: BTreeMap<_, _> =
        VERBS.map(|(verb, first)| (verb, fractions(seed + first as u64).skip(tally.cuts_of(verb)))).into();
    let mut kept = true;
    while kept && tally.cuts().count() < wanted {
        let begun = tally.cuts().count();
        let load = blind.host.load(50).websockets(0).start();
        while kept && tally.cuts().count() < wanted.min(begun + SEGMENT) {
            let number = tally.cuts().count();
            let verb = VERBS.into_iter().find(|(_, first)| number % 10 == *first).map_or("deploy", |v| v.0);
            let fraction = moments.get_mut(verb).unwrap().next().unwrap();
            kept = blind.cut(verb, number, fraction).is_none_or(|cut| tally.add(cut));
        }
        // Nobody may have noticed any of it.
        let report = load.stop();
        kept &= tally.add_traffic(tally.cuts().count() - begun, &report);
        if report.failed > 0 {
            let said =
                blind.host.sh("journalctl -q -o short-precise CONTAINER_NAME=astra-caddy | grep error");
            println!("the load began at {}; Caddy said:\n{}", report.began, said.stdout);
            println!("{}", blind.host.sh("astra-agent history -n 100").stdout);
        }
    }
    if kept {
        blind.host.sh("flock --nonblock /run/astra/run.lock true").ok();
    }
}

/// What a reconcile has to mend: a stopped instance, an edited unit, a lost file.
fn plant_drift(host: &Host) {
    host.sh("systemctl stop astra-app@1 && echo '# by hand' >>/etc/systemd/system/astra-app@.service && \
             rm /etc/systemd/system/astra-migrate.service")
        .ok();
}

/// A build that dies where it is told to. Into a directory of its own: the other
/// builds are everybody's.
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
    /// It serves v1, on v1's schema.
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

    /// Runs `words`, dies at `point`, comes back; then `version` must be what serves.
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

/// Which crash point a step's line belongs to.
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
fn a_deploy_that_dies_before_or_after_any_step_leaves_a_whole_host() {
    let mut dying = Dying::new("steps", "every step, before and after");
    dying.host.tag("latest", "v2");
    let plan = dying.plan();
    let at = |word| plan.iter().position(|line| line.starts_with(word)).unwrap();
    let (migrate, commit) = (at("migrate"), at("commit"));
    // Up to the commit point everything is taken back, so each time it is the first deploy of v2.
    for (step, moment) in (0..=commit).flat_map(|step| [(step, "before"), (step, "after")]) {
        if (step, moment) == (commit, "after") {
            break;
        }
        // What follows a step is nearly what precedes the next: every run of the tests takes each step once.
        if env::var_os("ASTRA_KILLS").is_none() && (step % 2 == 0) == (moment == "after") {
            continue;
        }
        let image = dying.host.image("v2");
        dying.host.sh(&format!("! podman image exists {image} || podman image rm --force {image}")).ok();
        let line = dying.plan().remove(step);
        if step <= migrate {
            unmigrate(&dying.host);
        }
        // A migration that is no longer looked at only takes time.
        let migrated = migrations(&dying.host).contains("0002_mood");
        let words = if migrated { "deploy --no-migrate" } else { "deploy" };
        dying.dies(crash_point(&line, moment == "before"), words, &format!("{moment}:{line}"), "v1");
        // Whatever comes behind the migration has found a database that has it.
        let due = step > migrate || (step == migrate && moment == "after");
        assert_eq!(migrations(&dying.host).contains("0002_mood"), due, "{moment} {line}");
    }
    // From there on everything is kept. So many attempts do not make it a release that has migrated.
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
fn a_run_that_dies_within_a_step_or_on_its_way_back_leaves_a_whole_host() {
    let mut dying = Dying::new("within", "within steps, on the way back, in recover");
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

    // The way back of a release that never works.
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

    // Another environment: old as a whole, or new as a whole.
    dying.host.tag("latest", &serves);
    let config = dying.host.read("/etc/astra/agent.toml");
    dying.host.write("/etc/astra/agent.toml", &config.replace("[env]", "[env]\nWORD = \"new\""));
    for (point, word) in [("before:commit", ""), ("rename:astra.env", ""), ("after:commit", "WORD=new\n")] {
        dying.dies("C19", deploy, point, &serves);
        assert_eq!(dying.host.sh("grep ^WORD /etc/astra/astra.env").stdout, word, "{point}");
    }

    // Recover is killed as well, when it has half done: systemd starts it again.
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

    // While podman makes the container of the release on trial, and is not yet the one to ask for its end.
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
