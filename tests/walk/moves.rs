//! The moves of a walk: the results of a step, and the operations between two runs.

use std::collections::HashSet;
use std::fmt;

use astra_agent::model::outcome::Blame;
use astra_agent::model::step::Step;

use crate::agent::{Ask, Ended, Process, advance, record};
use crate::bugs::Bug;
use crate::host::{Extent, Fact, Unit, apply};
use crate::promises::{self, Broken, Taken};
use crate::site::Digest;
use crate::state::{Left, State};

/// The result of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Done,
    /// The release is to blame; in the first instance of a soak.
    Release,
    /// The same in the last one.
    Last,
    Host,
    /// Ctrl-C.
    Signal,
    KilledBefore,
    KilledWithin,
    /// After its effect, before its line in the journal.
    KilledAfter,
    /// The power goes.
    CutBefore,
    CutAfter,
}

/// An operation while no process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// The tag names this image, then a verb runs.
    Tag(Digest, Ask),
    Ask(Ask),
    /// So many instances more or fewer in agent.toml, then a verb runs.
    Grow(i8, Ask),
    /// Another value in `[env]`, then a verb runs.
    Environment(u8, Ask),
    /// Another command of the worker, then a verb runs.
    Role(u8, Ask),
    /// So many workers in agent.toml, then a verb runs; 0: the service is gone.
    Workers(u8, Ask),
    /// Time passes: what is up becomes ready.
    Time,
    Reboot,
    /// An instance ends by itself.
    Crash(u8),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    Step(Fate),
    Operation(Operation),
}

impl fmt::Display for Move {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Step(fate) => write!(f, "{fate:?}"),
            Self::Operation(operation) => write!(f, "{operation:?}"),
        }
    }
}

/// The possible results of the pending step. The first is free, each other costs a disturbance.
pub fn fates(state: &State) -> Vec<Fate> {
    let Some(process) = &state.process else { return Vec::new() };
    let Some(pending) = &process.pending else { return Vec::new() };
    let step = &pending.step;
    let interruptible = process.run.as_ref().is_some_and(|run| run.plan.may_stop_at(pending.index))
        && !process.is_forward_only()
        && !matches!(step, Step::Commit { .. });
    let chance = matches!(
        step,
        Step::Migrate { .. } | Step::StartTrial { .. } | Step::AwaitReady { .. } | Step::Soak { .. }
    );
    let allowed = state.host.allows(step);
    let natural = match allowed {
        _ if process.signal && interruptible => Fate::Signal,
        true => Fate::Done,
        false if chance && !matches!(step, Step::Migrate { .. }) => Fate::Release,
        false => Fate::Host,
    };
    let mut fates = vec![natural];
    if state.left.disturbances == 0 {
        return fates;
    }
    let halves = matches!(
        step,
        Step::StartTrial { .. }
            | Step::RestoreCommitted { .. }
            | Step::StopInstance { .. }
            | Step::LoadCaddy { .. }
    );
    let several = matches!(step, Step::Soak { instances, .. } if instances.len() > 1);
    let possible = [
        (chance, Fate::Release),
        (several, Fate::Last),
        (true, Fate::Host),
        (interruptible, Fate::Signal),
        (true, Fate::KilledBefore),
        (halves, Fate::KilledWithin),
        (allowed, Fate::KilledAfter),
        (true, Fate::CutBefore),
        (allowed, Fate::CutAfter),
    ];
    fates.extend(possible.into_iter().filter(|(can, fate)| *can && *fate != natural).map(|(_, fate)| fate));
    fates
}

/// Let the pending step end so, and the process decide what comes next.
pub fn perform(state: &mut State, fate: Fate, bug: Bug) -> Result<(), Broken> {
    let Some(pending) = state.process.as_ref().and_then(|p| p.pending.clone()) else { return Ok(()) };
    let before = state.clone();
    let (extent, ended) = match fate {
        Fate::Done => (Some(Extent::Full), Some(Ended::Done)),
        Fate::Release => (Some(Extent::Broken { last: false }), Some(Ended::Failed(Blame::Release))),
        Fate::Last => (Some(Extent::Broken { last: true }), Some(Ended::Failed(Blame::Release))),
        Fate::Host => (Some(Extent::Half), Some(Ended::Failed(Blame::Host))),
        Fate::Signal => (Some(Extent::Half), Some(Ended::Interrupted)),
        Fate::KilledWithin => (Some(Extent::Half), None),
        Fate::KilledBefore | Fate::CutBefore => (None, None),
        Fate::KilledAfter | Fate::CutAfter => (Some(Extent::Full), None),
    };
    let cut = matches!(fate, Fate::CutBefore | Fate::CutAfter);
    let mut facts = extent.map(|extent| apply(&mut state.host, &pending.step, extent)).unwrap_or_default();
    if let (Step::Commit { candidate, .. }, Some(Extent::Full)) = (&pending.step, extent) {
        let pair = state.truth.numbers.get(&candidate.release.number).copied();
        let rollback = matches!(before.process.as_ref().map(|p| p.ask), Some(Ask::Rollback { .. }));
        pair.into_iter().for_each(|pair| state.truth.commit(pair, rollback));
    }
    for fact in &facts {
        if let (Fact::Migrated(digest), Some(process)) = (fact, &mut state.process) {
            process.migrated |= 1 << digest;
        }
    }
    match ended {
        Some(ended) => record(state, ended),
        None => die(state, cut),
    }
    if cut {
        state.host.reboot(&mut facts);
    }
    promises::at_step(&before, state, &Taken { pending: &pending, facts: &facts, cut })?;
    advance(state, bug)
}

/// The process is gone; its run stays open.
fn die(state: &mut State, cut: bool) {
    let Some(process) = state.process.take() else { return };
    if let Some(run) = process.run {
        let id = state.past.runs.last().map_or(0, |run| run.id) + 1;
        state.write(run.record(id, cut));
    }
}

pub fn operate(state: &mut State, operation: Operation, bug: Bug) -> Result<(), Broken> {
    let mut facts = Vec::new();
    let ask = match operation {
        Operation::Tag(digest, ask) => {
            state.site.tag = digest;
            Some(ask)
        }
        Operation::Ask(ask) => Some(ask),
        Operation::Grow(by, ask) => {
            state.site.instances = state.site.instances.saturating_add_signed(by);
            Some(ask)
        }
        Operation::Environment(env, ask) => {
            state.site.env = env;
            Some(ask)
        }
        Operation::Role(role, ask) => {
            state.site.role = role;
            Some(ask)
        }
        Operation::Workers(workers, ask) => {
            state.site.workers = workers;
            Some(ask)
        }
        Operation::Time => {
            state.host.settle(&mut facts);
            None
        }
        Operation::Reboot => {
            state.host.reboot(&mut facts);
            None
        }
        Operation::Crash(n) => {
            let seen = state.host.instance_mut(n);
            if seen.unit == Unit::Up {
                (seen.unit, seen.runs, seen.ready) = (Unit::Looping, None, false);
            }
            None
        }
    };
    promises::at_start(state, &facts)?;
    state.process = ask.map(Process::new);
    advance(state, bug)
}

/// To the end of the process, with nothing in its way.
pub fn undisturbed(state: &mut State, bug: Bug) -> Result<(), Broken> {
    let left = std::mem::take(&mut state.left);
    while state.process.is_some() {
        let natural = fates(state).first().copied();
        perform(state, natural.unwrap_or(Fate::Done), bug)?;
    }
    state.left = left;
    Ok(())
}

/// How often the timer may have to come by until nothing is left to do.
const ROUNDS: usize = 3;

/// systemd starts recover where a run was cut off, time passes, the timer comes by; then every promise about a host at
/// rest is kept. A path that reaches a state of `known` ends there.
pub fn rests(state: &State, bug: Bug, known: &mut HashSet<u64>) -> Result<(), Broken> {
    let mut state = state.clone();
    state.left = Left::default();
    let mut passed = Vec::new();
    for _ in 0..ROUNDS {
        let key = state.key();
        if known.contains(&key) {
            break;
        }
        passed.push(key);
        if state.past.open_runs().next().is_some() {
            operate(&mut state, Operation::Ask(Ask::Recover), bug)?;
            undisturbed(&mut state, bug)?;
        }
        operate(&mut state, Operation::Time, bug)?;
        let auto = std::mem::replace(&mut state.site.auto, false);
        operate(&mut state, Operation::Ask(Ask::Reconcile), bug)?;
        undisturbed(&mut state, bug)?;
        state.site.auto = auto;
    }
    if passed.len() == ROUNDS {
        promises::at_rest(&state)?;
    }
    known.extend(passed);
    Ok(())
}
