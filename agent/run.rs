//! Floor 3: the next step. [`next`] is pure; [`run`] is the loop around it, which gets a performer (host/, in
//! production) and a recorder (journal.rs) as arguments.

use crate::model::entry::Entry;
use crate::model::instance::InstanceName;
use crate::model::outcome::{Blame, Outcome};
use crate::model::plan::Plan;
use crate::model::step::{Fallback, Step, Target};
use crate::model::step_error::StepError;
use crate::model::step_note::StepNote;

/// The next action of the loop.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// The step with this index in the plan, from 0.
    Do(usize, Step),
    /// The n-th undo step.
    Undo(usize, Step),
    /// Nothing is left to do.
    End(Outcome),
}

/// The result of performing a step.
#[derive(Debug)]
pub enum Performed {
    /// Done, perhaps with a note.
    Done(StepNote),
    /// Not done, or only in part; undo decides by the step, not by the error.
    Failed(StepError),
    /// A signal came while the step could be abandoned, and it was.
    Interrupted(String),
}

/// The next action for `plan` after `entries`: forward while all goes well, undo after a failure before the
/// commit point, and only forward after it.
pub fn next(plan: &Plan, entries: &[Entry]) -> Next {
    let state = State::of(plan, entries);
    if state.undo_failed {
        return Next::End(Outcome::Incomplete);
    }
    match state.stopped {
        Some(blame) if !state.committed => back(plan, &state, blame),
        _ => forward(plan, &state),
    }
}

fn forward(plan: &Plan, state: &State) -> Next {
    let todo = plan.steps.iter().enumerate().find(|(i, _)| !state.settled.contains(i));
    match todo {
        Some((i, step)) => Next::Do(i, step.clone()),
        None if state.incomplete => Next::End(Outcome::Incomplete),
        None => Next::End(Outcome::Converged),
    }
}

fn back(plan: &Plan, state: &State, blame: Blame) -> Next {
    // Without a commit no release is tried, so none can be to blame.
    if plan.commit.is_none() {
        let touched = state.settled.iter().any(|i| state.failed_at != Some(*i));
        return Next::End(if touched { Outcome::Incomplete } else { Outcome::Failed { blame: Blame::Host } });
    }
    let way = way_back(plan, &state.started, state.unready);
    match way.get(state.undone) {
        Some(step) => Next::Undo(state.undone, step.clone()),
        None if way.is_empty() => Next::End(Outcome::Failed { blame }),
        None => Next::End(Outcome::Undone { blame }),
    }
}

/// The steps that undo everything in `started`, last first; an `unready` instance before those that serve.
fn way_back(plan: &Plan, started: &[usize], unready: Option<InstanceName>) -> Vec<Step> {
    let mut order = started.to_vec();
    order.sort_unstable();
    let begun: Vec<&Step> = order.iter().rev().filter_map(|i| plan.steps.get(*i)).collect();
    // An instance that undo stops cannot be undrained: its marker is removed with it.
    let stops = |drained: &Target| {
        begun.iter().any(
            |s| matches!(s, Step::StartTrial { instance, fallback: Fallback::Stopped, .. } if instance == drained),
        )
    };
    let lasts = |step: &&&Step| !matches!(step, Step::Drain { instance, .. } if stops(instance));
    let mut way: Vec<Step> = begun.iter().filter(lasts).flat_map(|step| step.undo()).collect();
    // A spare that served already is tried last, and it alone serves until the others are restored. The trial
    // environment is needed as long as any instance runs with it.
    // Workers come after the services that visitors wait for: a worker that does not come back ends the undo.
    let works = |step: &Step| touched(step).is_some_and(|instance| instance.upstream.is_none());
    way.sort_by_key(|step| match step {
        step if works(step) => 3,
        step if unready.is_some() && touched(step).map(|instance| instance.id) == unready => 0,
        Step::Drain { instance, .. } | Step::StopInstance { instance, .. } if stops(instance) => 2,
        Step::RemoveFile { .. } => 4,
        _ => 1,
    });
    way
}

/// The instance that a step of undo touches.
fn touched(step: &Step) -> Option<&Target> {
    match step {
        Step::Drain { instance, .. }
        | Step::RestoreCommitted { instance, .. }
        | Step::AwaitReady { instance, .. }
        | Step::Undrain { instance, .. }
        | Step::StopInstance { instance, .. } => Some(instance),
        _ => None,
    }
}

#[derive(Default)]
struct State {
    started: Vec<usize>,
    /// Done, or failed past the commit point.
    settled: Vec<usize>,
    failed_at: Option<usize>,
    stopped: Option<Blame>,
    unready: Option<InstanceName>,
    committed: bool,
    undone: usize,
    undo_failed: bool,
    /// A failure past the commit point that an operator has to look at.
    incomplete: bool,
}

impl State {
    fn of(plan: &Plan, entries: &[Entry]) -> Self {
        let mut state = Self::default();
        for entry in entries {
            match entry {
                Entry::Started { step } => state.started.push(*step),
                Entry::Done { step, .. } => {
                    state.settled.push(*step);
                    state.committed |= plan.commit == Some(*step);
                }
                Entry::Failed { step, blame, unready, .. } => {
                    state.settled.push(*step);
                    if state.committed {
                        state.incomplete |=
                            !plan.steps.get(*step).is_some_and(|step| step.handling().optional);
                    } else {
                        state.failed_at = Some(*step);
                        state.stopped = state.stopped.or(Some(*blame));
                        state.unready = *unready;
                    }
                }
                Entry::Interrupted { .. } => state.stopped = state.stopped.or(Some(Blame::Host)),
                Entry::UndoDone { .. } => state.undone += 1,
                Entry::UndoFailed { .. } => state.undo_failed = true,
                Entry::Opened { .. }
                | Entry::UndoStarted { .. }
                | Entry::CommitIntent { .. }
                | Entry::Committed { .. }
                | Entry::Closed { .. } => {}
            }
        }
        state
    }
}

/// Carries out `plan`. `perform` does one step (`undoing` tells the direction); `record` writes an entry,
/// durably if told to, and its error before a step ends the run without touching that step.
pub async fn run(
    plan: &Plan,
    mut perform: impl AsyncFnMut(&Step, bool) -> Performed,
    record: impl FnMut(&Entry, bool) -> anyhow::Result<()>,
) -> (Outcome, Vec<Entry>) {
    let mut log = Log { entries: Vec::new(), record };
    loop {
        match next(plan, &log.entries) {
            Next::End(outcome) => return (outcome, log.entries),
            Next::Do(number, step) => {
                let past = State::of(plan, &log.entries).committed;
                if let Err(error) = log.announce(number, &step, past) {
                    let error = format!("{error:#}");
                    log.entries.push(Entry::Failed {
                        step: number,
                        blame: Blame::Host,
                        error,
                        unready: None,
                    });
                    continue;
                }
                let performed = perform(&step, false).await;
                log.done(number, &step, performed);
            }
            Next::Undo(number, step) => {
                let _ = log.write(Entry::UndoStarted { step: number, what: step.to_string() }, false);
                let performed = perform(&step, true).await;
                let _ = log.write(undone(number, performed), step.handling().durable);
            }
        }
    }
}

/// The entries of a run, and their writer.
struct Log<R> {
    entries: Vec<Entry>,
    record: R,
}

impl<R: FnMut(&Entry, bool) -> anyhow::Result<()>> Log<R> {
    fn write(&mut self, entry: Entry, durable: bool) -> anyhow::Result<()> {
        let written = (self.record)(&entry, durable);
        self.entries.push(entry);
        written
    }

    /// The entries before a step. If one cannot be written, the step must not begin.
    fn announce(&mut self, number: usize, step: &Step, past: bool) -> anyhow::Result<()> {
        // After the commit, journal errors must not stop cleanup: leftover trial files override what is committed.
        if let (Err(error), false) =
            (self.write(Entry::Started { step: number }, step.handling().durable), past)
        {
            // The step did not start: its Started entry was not written.
            self.entries.pop();
            return Err(error.context(format!("writing the journal before `{step}`")));
        }
        if let Step::Commit { old, candidate, .. } = step {
            let intent = Entry::CommitIntent { old: old.clone(), new: candidate.lines.clone() };
            self.write(intent, true).map_err(|error| error.context("writing the commit intent"))?;
        }
        Ok(())
    }

    /// The entries after a step. The host has changed by now, so journal errors no longer stop the run: astra.env
    /// and the containers' labels tell recover the truth.
    fn done(&mut self, number: usize, step: &Step, performed: Performed) {
        let entry = match performed {
            Performed::Done(told) => Entry::Done { step: number, told },
            Performed::Failed(failed) => Entry::Failed {
                step: number,
                blame: failed.blame,
                error: failed.to_string(),
                unready: failed.unready,
            },
            Performed::Interrupted(signal) => Entry::Interrupted { signal },
        };
        let committed = match (step, &entry) {
            (Step::Commit { candidate, .. }, Entry::Done { .. }) => Some(candidate.release.clone()),
            _ => None,
        };
        let _ = self.write(entry, step.handling().durable && committed.is_none());
        if let Some(release) = committed {
            let _ = self.write(Entry::Committed { release }, true);
        }
    }
}

fn undone(step: usize, performed: Performed) -> Entry {
    match performed {
        Performed::Done(told) => Entry::UndoDone { step, told },
        Performed::Interrupted(_) => Entry::UndoDone { step, told: StepNote::default() },
        Performed::Failed(failed) => Entry::UndoFailed { step, error: failed.to_string() },
    }
}

#[cfg(test)]
mod tests;
