//! The agent's process: the real plans, the real `run::next` and the real closing of a cut-off run, in the order of
//! `Reconciler::converge`, which itself cannot be called without a host. It stops before each step, so that a walk can
//! choose its result. `lines_are_those_of_the_loop` in tests/walk.rs holds the lines of its journal against
//! those that `run::run` writes.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use astra_agent::model::entry::{Entry, Stamped, Verb};
use astra_agent::model::history::RunRecord;
use astra_agent::model::outcome::{Blame, Outcome};
use astra_agent::model::plan::Plan;
use astra_agent::model::step::Step;
use astra_agent::model::step_note::StepNote;

use crate::promises;
use crate::site::Named;
use crate::state::State;

#[path = "agent/decide.rs"]
mod decide;

pub use decide::{advance, keeping};

/// A request of an operator or of a timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ask {
    Install,
    Deploy { force: bool },
    Rollback { force: bool },
    Reconcile,
    Recover,
}

impl Ask {
    pub fn verb(self) -> Verb {
        match self {
            Self::Install => Verb::Install,
            Self::Deploy { .. } => Verb::Deploy,
            Self::Rollback { .. } => Verb::Rollback,
            Self::Reconcile => Verb::Reconcile,
            Self::Recover => Verb::Recover,
        }
    }

    pub fn is_forced(self) -> bool {
        matches!(self, Self::Deploy { force: true } | Self::Rollback { force: true })
    }

    fn by_hand(self) -> bool {
        matches!(self, Self::Rollback { .. })
    }

    fn wants_release(self) -> bool {
        matches!(self, Self::Install | Self::Deploy { .. } | Self::Rollback { .. })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    Close,
    Keep,
    Release,
    /// Instances of services that the release did not touch.
    Others,
    Again,
    Tidy,
    /// It ends, tidied up or not.
    Over,
}

#[derive(Clone)]
pub struct Process {
    pub ask: Ask,
    pub stage: Stage,
    pub run: Option<Run>,
    pub pending: Option<Arc<Pending>>,
    pub signal: bool,
    rounds: u8,
    in_order: bool,
    pub outcome: Outcome,
    idle: bool,
    /// Housekeeping steps, once they are planned, and how many of them were taken.
    tidy: Option<Arc<[Step]>>,
    tidied: usize,
    /// A bit for each digest that it has migrated the database for.
    pub migrated: u32,
}

/// A step that is about to be done.
pub struct Pending {
    pub step: Step,
    pub index: usize,
    pub undoing: bool,
}

#[derive(Clone)]
pub struct Run {
    pub plan: Arc<Plan>,
    key: u64,
    opened: Arc<Entry>,
    pub entries: Vec<Entry>,
    /// So many of them are on the disk.
    durable: usize,
    pub committed: bool,
    /// The release in astra.env at its beginning.
    pub before: Option<Named>,
    /// Instances that ran something else then.
    pub strangers: Vec<u8>,
}

impl Process {
    pub fn new(ask: Ask) -> Self {
        Self {
            ask,
            stage: Stage::Close,
            run: None,
            pending: None,
            signal: false,
            rounds: 0,
            in_order: true,
            outcome: Outcome::Converged,
            idle: true,
            tidy: None,
            tidied: 0,
            migrated: 0,
        }
    }

    pub fn key(&self, hasher: &mut DefaultHasher) {
        (self.ask, self.stage, self.signal, self.rounds, self.in_order, self.idle).hash(hasher);
        (self.tidied, self.migrated, self.outcome.exit_code()).hash(hasher);
        let Some(run) = &self.run else { return };
        (run.key, run.committed).hash(hasher);
        for entry in &run.entries {
            std::mem::discriminant(entry).hash(hasher);
            match entry {
                Entry::Failed { step, blame, unready, .. } => {
                    (step, *blame == Blame::Release, unready).hash(hasher)
                }
                Entry::Started { step } | Entry::Done { step, .. } => step.hash(hasher),
                _ => {}
            }
        }
        (run.entries.len() - run.durable).hash(hasher);
    }

    /// A signal is not obeyed past the commit point, on undo, or in housekeeping.
    pub fn is_forward_only(&self) -> bool {
        let committed = self.run.as_ref().is_none_or(|run| run.committed);
        committed || self.pending.as_ref().is_some_and(|pending| pending.undoing)
    }

    fn open(&mut self, plan: Plan, state: &State, pins: bool) {
        let (past, before) = (&state.past, state.host.committed());
        let strangers = promises::strangers(&state.host).collect();
        let verb = if self.stage == Stage::Close { Verb::Recover } else { self.ask.verb() };
        let candidate = plan.candidate.as_ref().map(|c| c.release.clone());
        let lines: Vec<String> = plan.steps.iter().map(line).collect();
        let mut hasher = DefaultHasher::new();
        (&lines, plan.commit, candidate.as_ref().map(|c| &c.fingerprint)).hash(&mut hasher);
        let opened = Entry::Opened {
            verb,
            actor: "root".into(),
            agent: "0".into(),
            plan: lines,
            old: past.current().cloned(),
            new: candidate.clone(),
            pins,
            accessory: None,
        };
        let mut entries = Vec::new();
        if let (None, Some(release)) = (plan.commit, candidate)
            && past.current() != Some(&release)
        {
            entries.push(Entry::Committed { release });
        }
        let (key, durable) = (hasher.finish(), entries.len());
        let (plan, opened) = (Arc::new(plan), Arc::new(opened));
        self.run = Some(Run { plan, key, opened, entries, durable, committed: false, before, strangers });
        self.idle = false;
    }
}

impl Run {
    /// Its file; after a power cut without what was not flushed.
    pub fn record(&self, id: u64, flushed: bool) -> RunRecord {
        let known = if flushed { self.durable } else { self.entries.len() };
        let entries = std::iter::once(&*self.opened).chain(&self.entries[..known]);
        RunRecord { id, entries: entries.map(|entry| Stamped { at: 0, entry: entry.clone() }).collect() }
    }

    fn note(&mut self, entry: Entry, durable: bool) {
        self.entries.push(entry);
        if durable {
            self.durable = self.entries.len();
        }
    }
}

/// The line of a plan, without the sum of a file's content: making it takes longer than taking the step.
fn line(step: &Step) -> String {
    match step {
        Step::WriteFile { path, content, .. } => format!("{} {}", path.display(), content.bytes().len()),
        Step::LoadCaddy { content, .. } => format!("load {}", content.bytes().len()),
        step => step.to_string(),
    }
}

/// The result of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    Done,
    Failed(Blame),
    Interrupted,
}

/// Writes the result of the pending step.
pub fn record(state: &mut State, ended: Ended) {
    let Some(process) = &mut state.process else { return };
    let Some(pending) = process.pending.take() else { return };
    let unready = match &pending.step {
        Step::Soak { instances, .. } => {
            instances.iter().find(|(i, _)| !state.host.instance(crate::host::number(i)).ready)
        }
        _ => None,
    };
    let unready = unready.map(|(instance, _)| instance.id);
    let Some(run) = &mut process.run else {
        process.tidied += 1;
        return;
    };
    let (step, durable) = (pending.index, pending.step.handling().durable);
    let error = || "planted".to_owned();
    if pending.undoing {
        let entry = match ended {
            Ended::Failed(_) => Entry::UndoFailed { step, error: error() },
            Ended::Done | Ended::Interrupted => Entry::UndoDone { step, told: StepNote::default() },
        };
        return run.note(entry, durable);
    }
    let commits = match &pending.step {
        Step::Commit { candidate, .. } if ended == Ended::Done => Some(candidate.release.clone()),
        _ => None,
    };
    let entry = match ended {
        Ended::Done => Entry::Done { step, told: StepNote::default() },
        Ended::Failed(blame) => Entry::Failed { step, blame, error: error(), unready },
        Ended::Interrupted => Entry::Interrupted { signal: "SIGINT".into() },
    };
    process.signal |= ended == Ended::Interrupted;
    run.note(entry, durable && commits.is_none());
    if let Some(release) = commits {
        run.committed = true;
        run.note(Entry::Committed { release }, true);
    }
}
