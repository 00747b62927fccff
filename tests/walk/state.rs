//! A state of the walk: the abstract host, the journal, the agent's process if there is one, and a record of what
//! really happened, which no code of the agent has a hand in.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use astra_agent::model::entry::{Entry, Stamped};
use astra_agent::model::history::{HeldFor, History, RunRecord};
use astra_agent::model::outcome::{Blame, Outcome};

use super::agent::Process;
use super::host::Host;
use super::site::{Digest, Site, digest_of};

#[derive(Clone)]
pub struct State {
    pub site: Site,
    pub host: Host,
    pub past: Arc<History>,
    /// A hash of the history; see [`past_key`].
    past_key: u64,
    pub process: Option<Process>,
    pub truth: Truth,
    pub left: Left,
}

/// The disturbances and operations that may still follow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Left {
    pub disturbances: u8,
    pub operations: u8,
}

/// Image and value in `[env]`: the content of a release.
pub type Pair = (Digest, u8);

/// The truth, recorded from the host's own steps.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Truth {
    /// A bit for each digest that astra.env ever named.
    pub ever: u32,
    /// The committed one.
    pub serves: Option<Pair>,
    pub held: BTreeMap<Pair, Held>,
    /// The release of each number.
    pub numbers: BTreeMap<u64, Pair>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Held {
    Failed,
    Environment,
    RolledBack,
}

impl From<HeldFor> for Held {
    fn from(why: HeldFor) -> Self {
        match why {
            HeldFor::Failed => Self::Failed,
            HeldFor::Environment => Self::Environment,
            HeldFor::RolledBack => Self::RolledBack,
        }
    }
}

impl Truth {
    /// astra.env names it from now on.
    pub fn commit(&mut self, pair: Pair, rollback: bool) {
        let left = self.serves.replace(pair);
        if let Some(left) = left.filter(|left| rollback && left.0 != pair.0) {
            self.held.insert(left, Held::RolledBack);
        }
        self.ever |= 1 << pair.0;
        self.held.retain(|held, _| held.0 != pair.0);
    }

    /// A run of `pair` has its last line, and did not commit it.
    fn closed(&mut self, pair: Pair, blamed: bool) {
        let Some(serves) = self.serves.filter(|serves| blamed && *serves != pair) else { return };
        let why = if serves.0 == pair.0 { Held::Environment } else { Held::Failed };
        let held = self.held.entry(pair).or_insert(why);
        *held = if *held == Held::RolledBack { Held::RolledBack } else { why };
    }

    /// Whether an automatic run, or an operator's, may not try it.
    pub fn forbids(&self, pair: Pair, automatic: bool) -> bool {
        let alike = |(held, why): (&Pair, &Held)| {
            held.0 == pair.0 && (automatic || held.1 == pair.1 || *why == Held::RolledBack)
        };
        self.held.iter().any(alike)
    }
}

impl State {
    pub fn new(site: Site, left: Left) -> Self {
        let (host, past, truth) = (Host::default(), Arc::default(), Truth::default());
        Self { site, host, past_key: past_key(&past), past, process: None, truth, left }
    }

    /// A run's file as it is now; its last line, if there is one, holds or does not hold its release.
    pub fn write(&mut self, record: RunRecord) {
        let entries = || record.entries.iter().map(|s| &s.entry);
        let failed = entries().any(|e| matches!(e, Entry::Failed { blame: Blame::Release, .. }));
        let committed = record.committed().is_some();
        let new = record.opened().and_then(|opened| opened.new);
        if let (Some((outcome, ..)), Some(new), false) = (record.closed(), new, committed) {
            let named = matches!(
                outcome,
                Outcome::Undone { blame: Blame::Release } | Outcome::Failed { blame: Blame::Release }
            );
            if let Some(pair) = self.truth.numbers.get(&new.number).copied() {
                self.truth.closed(pair, failed || named);
            }
        }
        let mut runs = self.past.runs.clone();
        match runs.iter_mut().find(|run| run.id == record.id) {
            Some(known) => *known = compact(record),
            None => runs.push(compact(record)),
        }
        self.past = Arc::new(History::of(runs));
        self.past_key = past_key(&self.past);
    }

    /// All that the plan that keeps the host depends on: neither the image store nor the database are part of it.
    pub fn keep_key(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        let Host { instances, disk, run, caddy, enabled, timer, reload_due, dirs, .. } = &self.host;
        (instances, disk, run, caddy, enabled, timer, reload_due, dirs).hash(&mut hasher);
        let current = self.past.current().map(|release| release.number);
        (Site { tag: 0, ..self.site }, current).hash(&mut hasher);
        hasher.finish()
    }

    /// Equal for states that nothing can tell apart from here on, but for the chance of one in 2^64.
    pub fn key(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.site, &self.host, &self.truth, self.left).hash(&mut hasher);
        self.past_key.hash(&mut hasher);
        if let Some(process) = &self.process {
            process.key(&mut hasher);
        }
        hasher.finish()
    }
}

/// The same for journals that teach the same.
fn past_key(past: &History) -> u64 {
    let mut hasher = DefaultHasher::new();
    for release in &past.commits {
        release.number.hash(&mut hasher);
    }
    for held in &past.held {
        (held.release.number, Held::from(held.why)).hash(&mut hasher);
    }
    for release in &past.releases {
        (release.number, digest_of(&release.image), &release.fingerprint).hash(&mut hasher);
    }
    (past.pinned, past.ever_committed.len()).hash(&mut hasher);
    for digest in past.newest_digests(4) {
        digest.hash(&mut hasher);
    }
    for run in past.open_runs() {
        let new = run.opened().and_then(|opened| opened.new).map(|new| new.number);
        let failed = |s: &Stamped| matches!(s.entry, Entry::Failed { blame: Blame::Release, .. });
        let verb = run.opened().map(|opened| (opened.verb.as_str(), opened.pins));
        let facts = (run.intended(), run.committed().is_some(), run.entries.iter().any(failed));
        (new, verb, facts).hash(&mut hasher);
    }
    hasher.finish()
}

/// Without the lines that say nothing of the next run, which are most.
fn compact(mut record: RunRecord) -> RunRecord {
    let telling = |stamped: &Stamped| match &stamped.entry {
        Entry::Opened { .. }
        | Entry::CommitIntent { .. }
        | Entry::Committed { .. }
        | Entry::Closed { .. }
        | Entry::Failed { blame: Blame::Release, .. } => true,
        Entry::Started { .. }
        | Entry::Done { .. }
        | Entry::Failed { .. }
        | Entry::Interrupted { .. }
        | Entry::UndoStarted { .. }
        | Entry::UndoDone { .. }
        | Entry::UndoFailed { .. } => false,
    };
    record.entries.retain(telling);
    record
}
