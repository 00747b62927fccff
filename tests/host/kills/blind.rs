//! Kills by the clock, under traffic.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use std::{env, iter};

use super::tally::{Cut, Tally, commit};
use super::{database, other, start_seconds, unmigrate};
use crate::harness::Host;
use crate::recovery::QUICK;
use crate::site::{config_with, installed_with};

/// Cuts under the same traffic: its result is known at the end of a segment, and must not be lost if a
/// campaign is interrupted.
const SEGMENT: usize = 20;

/// Starts a verb, kills its main process after `moment`, and returns when; `None`: it had ended successfully
/// before.
pub fn kill(host: &Host, words: &str, moment: Duration) -> Result<Option<SystemTime>, String> {
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
    // The end of the run and the kill may coincide.
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

/// An undisturbed run ends well.
fn undisturbed(host: &Host, words: &str) -> Result<(), String> {
    let output = host.sh(&format!("astra-agent {words} 2>&1"));
    if output.code() == 0 {
        return Ok(());
    }
    Err(format!("`{words}`, undisturbed, ends with {}: {}", output.code(), output.stdout))
}

/// The manual migration before `install` of a known release, since install migrates only for a new one.
fn migrate_by_hand(host: &Host) {
    database(
        host,
        "alter table notes_note add column if not exists mood text; \
         insert into django_migrations (app, name, applied) select 'notes', '0002_mood', now() \
         where not exists (select from django_migrations where app = 'notes' and name = '0002_mood')",
    );
}

/// Seconds that an undisturbed verb takes.
fn measured(host: &Host, words: &str) -> Duration {
    let begun = SystemTime::now();
    host.sh(&format!("astra-agent {words}")).ok();
    begun.elapsed().unwrap()
}

/// Numbers from 0 to 1, the same for the same seed.
pub fn fractions(seed: u64) -> impl Iterator<Item = f64> {
    // The golden ratio spreads any number of them evenly.
    let start = (seed % 1000) as f64 / 1000.0;
    iter::successors(Some(start), |last| Some((last + 0.618_033_988_75).fract()))
}

/// Each tenth cut is of these verbs, all others of a deploy. The number is that of the first one.
const VERBS: [(&str, usize); 4] = [("deploy", 0), ("install", 7), ("reconcile", 8), ("rollback", 9)];

/// A host whose runs are killed by the clock.
struct Blind {
    host: Host,
    version: String,
    start: f64,
    /// Duration of each undisturbed verb.
    length: BTreeMap<&'static str, Duration>,
}

impl Blind {
    fn new() -> Self {
        let host = installed_with("blind", &config_with([QUICK]));
        host.tag("latest", "v2");
        let start = start_seconds(&host.agent(["deploy", "--migrate", "--json"]).ok());
        host.tag("latest", "v1");
        // With traffic, because a drain waits for requests.
        let load = host.load(50).websockets(0).start();
        let mut length = BTreeMap::new();
        length.insert("deploy", measured(&host, "deploy --force --migrate"));
        // It finds a moved tag: a deploy.
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

    /// Deploys a version, undisturbed.
    fn bring(&mut self, version: &str) -> Result<(), String> {
        self.host.tag("latest", version);
        undisturbed(&self.host, "deploy --force --migrate")?;
        self.version = version.to_owned();
        Ok(())
    }

    /// Prepares the host so that the verb has something to do.
    fn prepare(&mut self, verb: &str, number: usize) -> Result<(), String> {
        match verb {
            "reconcile" => plant_drift(&self.host),
            // Always away from v3, so that neither of the others is ever held.
            "rollback" => self.bring("v3")?,
            // Install keeps a pinned release and skips one that was rolled back from, so neither may be the
            // case.
            "install" => {
                self.bring(other(&self.version))?;
                self.host.tag("latest", other(&self.version));
            }
            _ => {
                if self.version == "v3" {
                    // Nothing is left to migrate there.
                    self.bring("v1")?;
                }
                self.host.tag("latest", other(&self.version));
            }
        }
        let host = &self.host;
        match (verb, self.version.as_str()) {
            // Until a deploy has reached its migration.
            ("deploy", "v1") if number.is_multiple_of(2) => unmigrate(host),
            ("install", "v1") => migrate_by_hand(host),
            _ => {}
        }
        if verb == "deploy" && number.is_multiple_of(4) {
            // The pull is part of a deploy too.
            host.sh(&format!("podman image rm --force {}", host.image(other(&self.version)))).ok();
        }
        Ok(())
    }

    /// Kills a verb at this fraction of its duration plus a margin, and checks the host; `None`: it had ended
    /// before.
    fn cut(&mut self, verb: &str, number: usize, fraction: f64) -> Option<Cut> {
        let words = if verb == "deploy" { "deploy --force --migrate" } else { verb };
        // Also past its end: the duration varies between hosts, and the part after the commit is short.
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
            // The next reconcile completes a cut-off one.
            if verb == "reconcile" { undisturbed(&self.host, verb).map(|()| restored) } else { Ok(restored) }
        });
        Some(Cut::judge((words, format!("after {moment:.2?}"), &from), killed, back, self.start))
    }
}

#[test]
fn a_run_killed_at_any_moment_leaves_a_whole_host() {
    // A campaign sets the number, and continues where it was.
    let campaign: Option<usize> = env::var("ASTRA_KILLS").ok().map(|n| n.parse().unwrap());
    let kept = crate::kills::results().join("kills-blind.jsonl");
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

/// Kills until there are enough cuts, or one of them breaks a promise.
fn kill_blindly(tally: &mut Tally, seed: u64, wanted: usize) {
    let mut blind = Blind::new();
    // The same moments for the same seed, interrupted or not.
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
        // No request may be lost.
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

/// Drift for a reconcile: a stopped instance, an edited unit, a lost file.
fn plant_drift(host: &Host) {
    host.sh("systemctl stop astra-app@1 && echo '# by hand' >>/etc/systemd/system/astra-app@.service && \
             rm /etc/systemd/system/astra-migrate.service")
        .ok();
}
