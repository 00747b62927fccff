//! The abstract host: files, units, containers, an image store, a database and Caddy, as far as a plan can tell them
//! apart. It is small, it is hashed, and it takes each step of the agent.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::sync::{Arc, LazyLock};

use astra_agent::model::instance::InstanceName;
use astra_agent::model::name::{
    CADDY_UNIT, CADDYFILE, RECONCILE_TIMER, RECOVER_UNIT, TRIAL_ENV, UNIT_DIR, WORKING,
};
use astra_agent::model::step::{Step, Target};

use crate::site::{Digest, Named, Text};

#[path = "host/apply.rs"]
mod apply;

pub use apply::apply;

/// Instances of the app that can exist in a walk: three, one more by a changed config, and the spare.
pub const APPS: u8 = 5;
/// With two workers, whose numbers here follow those of the app.
pub const MOST: u8 = APPS + 2;
pub const DIGESTS: usize = 24;
pub const ENV_FILE: &str = "/etc/astra/astra.env";

static MARKERS: LazyLock<Vec<String>> = LazyLock::new(|| paths(|id| id.marker()));
static TRIALS: LazyLock<Vec<String>> = LazyLock::new(|| paths(|id| id.trial_file()));

fn paths(of: impl Fn(InstanceName) -> std::path::PathBuf) -> Vec<String> {
    (1..=MOST).map(|n| of(id(n)).to_string_lossy().into_owned()).collect()
}

pub fn id(number: u8) -> InstanceName {
    let name = if number > APPS { format!("worker-{}", number - APPS) } else { number.to_string() };
    name.parse().unwrap()
}

fn number_of(id: InstanceName) -> u8 {
    let number = u8::try_from(id.number.get()).unwrap();
    if id.service.is_app() { number } else { APPS + number }
}

/// Files by path, shared by the states that have the same ones.
#[derive(Clone, Debug, Default)]
pub struct Files {
    files: Arc<BTreeMap<Arc<str>, Text>>,
    /// The same for equal files; hashing them all for each state would take longer than all else.
    sum: u64,
}

impl Files {
    pub fn get(&self, path: &str) -> Option<Text> {
        self.files.get(path).copied()
    }

    pub fn contains(&self, path: &str) -> bool {
        self.files.contains_key(path)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Text)> {
        self.files.iter()
    }

    fn insert(&mut self, path: &str, text: Text) {
        self.remove(path);
        self.sum ^= file_key(path, text);
        Arc::make_mut(&mut self.files).insert(path.into(), text);
    }

    fn remove(&mut self, path: &str) -> bool {
        let Some(text) = self.get(path) else { return false };
        self.sum ^= file_key(path, text);
        Arc::make_mut(&mut self.files).remove(path);
        true
    }
}

impl Hash for Files {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.sum);
    }
}

fn file_key(path: &str, text: Text) -> u64 {
    let mut hasher = DefaultHasher::new();
    (path, text).hash(&mut hasher);
    hasher.finish()
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Unit {
    #[default]
    Down,
    /// It ends, and systemd starts it again.
    Looping,
    Up,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Instance {
    pub unit: Unit,
    pub runs: Option<Named>,
    pub ready: bool,
    pub enabled: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Stored {
    #[default]
    Absent,
    /// Pulled, and not known to be on the disk.
    Unflushed,
    /// A power cut may have emptied it.
    Damaged,
    Whole,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Caddy {
    pub loaded: Text,
    /// The agent saw the end of the load.
    pub noted: bool,
}

#[derive(Clone, Debug, Default, Hash)]
pub struct Host {
    pub instances: [Instance; MOST as usize],
    /// The files that a power cut leaves.
    pub disk: Files,
    /// Below /run.
    pub run: Files,
    pub store: [Stored; DIGESTS],
    /// A bit for each digest whose migration came to its end.
    pub migrated: u32,
    pub caddy: Option<Caddy>,
    /// Units that start at boot, instances excepted.
    pub enabled: [bool; 3],
    pub timer: bool,
    pub reload_due: bool,
    pub dirs: bool,
    pub strays: u8,
}

/// The units beside the instances, in the order of [`Host::enabled`].
pub const UNITS: [&str; 3] = [CADDY_UNIT, RECONCILE_TIMER, RECOVER_UNIT];

/// How much of a step happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Extent {
    /// It was cut off in the middle, or the host was to blame.
    Half,
    Full,
    /// The release does not do what it should; in the last instance of a soak, not the first.
    Broken {
        last: bool,
    },
}

/// An event that a promise may be about, and that no later state shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fact {
    Started(Named),
    Migrated(Digest),
    Removed(Digest),
    /// Taken down while it served, and not drained before.
    CutOff(u8),
    /// Put into rotation while it was not ready.
    Blind(u8),
}

impl Host {
    pub fn instance(&self, number: u8) -> &Instance {
        &self.instances[usize::from(number) - 1]
    }

    pub fn instance_mut(&mut self, number: u8) -> &mut Instance {
        &mut self.instances[usize::from(number) - 1]
    }

    pub fn is_drained(&self, number: u8) -> bool {
        self.run.contains(MARKERS[usize::from(number) - 1].as_str())
    }

    pub fn trial(&self, number: u8) -> Option<Text> {
        self.run.get(&TRIALS[usize::from(number) - 1])
    }

    pub fn committed(&self) -> Option<Named> {
        self.disk.get(ENV_FILE)?.names()
    }

    /// The release of this instance in astra.env.
    pub fn committed_for(&self, number: u8) -> Option<Named> {
        self.disk.get(ENV_FILE)?.names_for(number)
    }

    pub fn is_migrated(&self, digest: Digest) -> bool {
        self.migrated & (1 << digest) != 0
    }

    /// Caddy sends requests to it, and it answers them.
    pub fn serves(&self, number: u8) -> bool {
        let seen = self.instance(number);
        seen.unit == Unit::Up && seen.ready && !self.is_drained(number) && self.is_known(number)
    }

    pub fn serving(&self) -> usize {
        (1..=MOST).filter(|n| self.serves(*n)).count()
    }

    /// The Caddyfile in force names it.
    pub fn is_known(&self, number: u8) -> bool {
        self.caddy.is_some_and(|caddy| caddy.loaded.knows(number))
    }

    fn put(&mut self, path: &str, bytes: &[u8]) {
        let files = if path.starts_with("/run/") { &mut self.run } else { &mut self.disk };
        files.insert(path, Text::of(bytes));
        self.reload_due |= Path::new(path).starts_with(UNIT_DIR);
    }

    fn remove(&mut self, path: &str) {
        let files = if path.starts_with("/run/") { &mut self.run } else { &mut self.disk };
        if files.remove(path) {
            self.reload_due |= Path::new(path).starts_with(UNIT_DIR);
        }
        // As the host does: without a marker nothing in the request path looks for one.
        if !(1..=MOST).any(|n| self.is_drained(n)) {
            self.run.remove(WORKING);
        }
    }

    fn stop(&mut self, number: u8, facts: &mut Vec<Fact>) {
        if self.serves(number) {
            facts.push(Fact::CutOff(number));
        }
        let seen = self.instance_mut(number);
        (seen.unit, seen.runs, seen.ready) = (Unit::Down, None, false);
        self.strays &= !(1 << number);
    }

    /// As the unit does: the trial file overrides astra.env.
    pub fn start(&mut self, number: u8, facts: &mut Vec<Fact>) {
        let trial = self.trial(number).and_then(|text| text.names_for(number));
        // A trial file points to trial.env, and without it the container does not start.
        let env = |named: Named| {
            let whole = self.run.get(TRIAL_ENV)?.names_for(number)?;
            (whole.number == named.number).then_some(Named { variant: whole.variant, ..named })
        };
        let named = match trial {
            Some(named) => env(named),
            None => self.committed_for(number),
        };
        let there =
            |n: &Named| matches!(self.store[usize::from(n.digest)], Stored::Unflushed | Stored::Whole);
        let runs = named.filter(there);
        facts.extend(runs.map(Fact::Started));
        let unit = if runs.is_some() { Unit::Up } else { Unit::Looping };
        let seen = self.instance_mut(number);
        (seen.unit, seen.runs, seen.ready) = (unit, runs, false);
        self.strays &= !(1 << number);
    }

    /// A start is tried again, and a running instance becomes ready.
    pub fn settle(&mut self, facts: &mut Vec<Fact>) {
        for number in 1..=MOST {
            if self.instance(number).unit == Unit::Looping {
                self.start(number, facts);
            }
            let seen = self.instance_mut(number);
            seen.ready = seen.unit == Unit::Up;
        }
    }

    /// The power goes and comes: /run is empty, what was not flushed may be damaged, and what is enabled starts.
    pub fn reboot(&mut self, facts: &mut Vec<Fact>) {
        self.run = Files::default();
        self.reload_due = false;
        for stored in &mut self.store {
            if *stored == Stored::Unflushed {
                *stored = Stored::Damaged;
            }
        }
        let [caddy, timer, _] = self.enabled;
        let written = self.disk.get(CADDYFILE).filter(|_| caddy);
        self.caddy = written.map(|loaded| Caddy { loaded, noted: true });
        self.timer = timer;
        for number in 1..=MOST {
            let seen = *self.instance(number);
            if seen.enabled {
                self.start(number, facts);
            } else {
                *self.instance_mut(number) = Instance::default();
                self.strays |= u8::from(seen.unit == Unit::Up) << number;
            }
        }
    }

    /// Whether the step can succeed as the host is: an instance that is down never becomes ready.
    pub fn allows(&self, step: &Step) -> bool {
        let at = |target: &Target| self.instance(number(target));
        match step {
            Step::AwaitReady { instance, .. } => at(instance).unit == Unit::Up,
            Step::Soak { instances, .. } => {
                instances.iter().all(|(i, _)| at(i).unit == Unit::Up && at(i).ready)
            }
            Step::Undrain { instance, .. } => {
                let seen = at(instance);
                // An instance that Caddy does not know is in no rotation.
                seen.unit == Unit::Up && seen.ready || !self.is_known(number(instance))
            }
            Step::Migrate { .. } => self.run.get(TRIAL_ENV).is_some_and(|text| text.names().is_some()),
            _ => true,
        }
    }
}

pub fn number(target: &Target) -> u8 {
    number_of(target.id)
}
