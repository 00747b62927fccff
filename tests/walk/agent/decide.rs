//! The process between two steps: it looks at the host, plans, opens and closes runs.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use astra_agent::model::entry::{Entry, Stamped, Verb};
use astra_agent::model::history::{History, RunRecord};
use astra_agent::model::image::PinnedImage;
use astra_agent::model::outcome::Outcome;
use astra_agent::model::plan::Plan;
use astra_agent::model::step::Step;
use astra_agent::plan::instances::{self, RepairScope};
use astra_agent::plan::migrations::MigratePolicy;
use astra_agent::plan::release::{self, Refusal, Request};
use astra_agent::plan::{keep, moves, prune};
use astra_agent::run::Next;

use super::{Ask, Pending, Process, Stage};
use crate::bugs::Bug;
use crate::host::{Host, Stored};
use crate::look::{inputs, look};
use crate::promises::{self, Broken};
use crate::site::{Site, digest_of, image};
use crate::state::State;

/// Decide until there is a step to do, or nothing left to do.
pub fn advance(state: &mut State, bug: Bug) -> Result<(), Broken> {
    while let Some(process) = &mut state.process {
        if process.pending.is_some() {
            return Ok(());
        }
        if let Some(run) = &mut process.run {
            match bug.next(&run.plan, &run.entries) {
                Next::End(outcome) => end_run(state, outcome, bug)?,
                Next::Do(index, step) => {
                    let durable = step.handling().durable;
                    run.note(Entry::Started { step: index }, durable);
                    if let Step::Commit { old, candidate, .. } = &step {
                        let (old, new) = (old.clone(), candidate.lines.clone());
                        run.note(Entry::CommitIntent { old, new }, true);
                    }
                    process.pending = Some(Arc::new(Pending { step, index, undoing: false }));
                }
                Next::Undo(index, step) => {
                    run.note(Entry::UndoStarted { step: index, what: step.to_string() }, false);
                    process.pending = Some(Arc::new(Pending { step, index, undoing: true }));
                }
            }
        } else {
            decide(state, bug)?;
        }
    }
    Ok(())
}

fn next_id(past: &History) -> u64 {
    past.runs.last().map_or(0, |run| run.id) + 1
}

/// The run has its outcome.
fn end_run(state: &mut State, outcome: Outcome, bug: Bug) -> Result<(), Broken> {
    let Some(mut process) = state.process.take() else { return Ok(()) };
    let Some(mut run) = process.run.take() else { return Ok(()) };
    run.note(Entry::Closed { outcome, reason: None, recovered: false }, true);
    state.write(run.record(next_id(&state.past), false));
    promises::at_close(state, &run, outcome)?;
    match process.stage {
        Stage::Close => close(state, &mut process, outcome, bug),
        Stage::Keep | Stage::Again => {
            process.rounds += 1;
            if outcome != Outcome::Converged || process.rounds >= 4 {
                kept(&mut process, false, outcome);
            }
        }
        Stage::Release => {
            process.outcome = outcome;
            process.stage = Stage::Others;
            process.rounds = 0;
        }
        Stage::Others => {
            process.outcome = outcome;
            process.stage = if process.in_order { Stage::Tidy } else { Stage::Again };
        }
        Stage::Tidy | Stage::Over => {}
    }
    state.process = Some(process);
    Ok(())
}

/// The keeping is over: it got there, or it did not.
fn kept(process: &mut Process, in_order: bool, outcome: Outcome) {
    if process.stage == Stage::Again {
        if !in_order {
            process.outcome = Outcome::Incomplete;
        }
        process.stage = Stage::Tidy;
        return;
    }
    (process.in_order, process.stage) = (in_order, Stage::Release);
    if !in_order && !process.ask.by_hand() {
        process.outcome = if outcome == Outcome::Converged { Outcome::Incomplete } else { outcome };
        process.stage = Stage::Over;
    }
}

fn close(state: &mut State, process: &mut Process, repaired: Outcome, bug: Bug) {
    let committed = state.host.committed().map(|named| named.number);
    let open: Vec<RunRecord> = state.past.open_runs().cloned().collect();
    process.idle = false;
    for mut run in open {
        let named = keep::Named { release: committed, ..keep::Named::default() };
        let lines = bug.last_lines(keep::last_lines(&run, &named, repaired));
        run.entries.extend(lines.into_iter().map(|entry| Stamped { at: 0, entry }));
        state.write(run);
    }
    process.stage = Stage::Keep;
    if repaired != Outcome::Converged && !process.ask.wants_release() {
        process.outcome = Outcome::Incomplete;
        process.stage = Stage::Over;
    }
}

/// Between two runs of the process.
fn decide(state: &mut State, bug: Bug) -> Result<(), Broken> {
    let Some(mut process) = state.process.take() else { return Ok(()) };
    match process.stage {
        Stage::Close if state.past.open_runs().next().is_none() || bug.skips_closing() => {
            process.stage = Stage::Keep;
        }
        Stage::Over => return Ok(()),
        Stage::Tidy => match &process.tidy {
            None => process.tidy = Some(tidying(state, &process, bug)),
            Some(steps) => match steps.get(process.tidied) {
                Some(step) => {
                    let (step, index) = (step.clone(), process.tidied);
                    process.pending = Some(Arc::new(Pending { step, index, undoing: false }));
                }
                None => process.stage = Stage::Over,
            },
        },
        Stage::Close | Stage::Keep | Stage::Again => {
            if process.stage == Stage::Again && process.outcome != Outcome::Converged {
                kept(&mut process, true, Outcome::Converged);
            } else {
                let verb = if process.stage == Stage::Close { Verb::Recover } else { process.ask.verb() };
                let plan = bug.plan(keeping(state, verb), verb);
                match (plan.is_empty(), process.stage) {
                    (true, Stage::Close) => close(state, &mut process, Outcome::Converged, bug),
                    (true, _) => kept(&mut process, true, Outcome::Converged),
                    (false, _) => process.open(plan, state, state.past.pinned),
                }
            }
        }
        Stage::Others => {
            let observed = look(&state.host);
            let steps = instances::steps(&inputs(state.site, &observed, &state.past), RepairScope::All);
            let due = state.site.workers > 0 && process.outcome == Outcome::Converged;
            if steps.is_empty() || !due {
                process.stage = if process.in_order { Stage::Tidy } else { Stage::Again };
            } else {
                process.open(Plan::forward(steps, Vec::new()), state, state.past.pinned);
            }
        }
        Stage::Release => match release(state, &process, bug)? {
            Asked::Refused => return Ok(()),
            Asked::Nothing => process.stage = if process.in_order { Stage::Tidy } else { Stage::Again },
            Asked::Plan(plan, pins) => {
                if let Some(candidate) = &plan.candidate {
                    let digest = digest_of(&candidate.release.image);
                    state
                        .truth
                        .numbers
                        .insert(candidate.release.number, (digest, state.site.variant_of(&candidate.lines)));
                }
                process.open(*plan, state, pins);
            }
        },
    }
    state.process = Some(process);
    Ok(())
}

/// The plan of `Reconciler::keep`. Many states share one, and making it takes most of a walk's time.
pub fn keeping(state: &State, verb: Verb) -> Plan {
    const MOST: usize = 50_000;
    thread_local! {
        static KNOWN: RefCell<HashMap<(u64, &'static str), Plan>> = RefCell::default();
    }
    let key = (state.keep_key(), verb.as_str());
    if let Some(plan) = KNOWN.with_borrow(|known| known.get(&key).cloned()) {
        return plan;
    }
    let observed = look(&state.host);
    let inputs = inputs(state.site, &observed, &state.past);
    let mut plan = keep::plan(&inputs, verb);
    // A moved instance is no part of a walk; its plan is asked for all the same, as the reconciler does.
    if plan.is_empty() && matches!(verb, Verb::Install | Verb::Deploy) {
        plan = moves::plan(&inputs);
    }
    KNOWN.with_borrow_mut(|known| {
        if known.len() >= MOST {
            known.clear();
        }
        known.insert(key, plan.clone());
    });
    plan
}

enum Asked {
    Nothing,
    Refused,
    Plan(Box<Plan>, bool),
}

/// The release that the process is asked for, as converge/resolve.rs finds it.
fn release(state: &State, process: &Process, bug: Bug) -> Result<Asked, Broken> {
    let observed = look(&state.host);
    let inputs = inputs(state.site, &observed, &state.past);
    let (ask, past) = (process.ask, &state.past);
    let follows =
        state.site.auto && ask == Ask::Reconcile && inputs.committed().is_some() && !inputs.is_chosen();
    if !ask.wants_release() && !follows {
        return Ok(Asked::Nothing);
    }
    let Some(wanted) = wanted(state.site, past, ask) else { return Ok(Asked::Refused) };
    let (by_hand, automatic) = (ask.by_hand(), ask == Ask::Reconcile);
    let request = Request {
        image: wanted,
        images: Default::default(),
        only: Default::default(),
        migrate: bug.migrate(MigratePolicy::Auto),
        force: ask.is_forced() || by_hand || bug.forces(),
        automatic,
        lenient: by_hand,
        restart: false,
        refresh: false,
        soak: true,
    };
    let plan = match release::plan(&inputs, &request) {
        Ok(plan) => bug.plan(plan, ask.verb()),
        Err(Refusal::Held { .. }) if automatic => return Ok(Asked::Nothing),
        Err(Refusal::Held { .. }) => return Ok(Asked::Refused),
        Err(refusal) => return Err(Broken::new("the_model_is_whole", format!("refused: {refusal}"))),
    };
    promises::at_open(state, ask, &plan)?;
    if plan.is_empty() && inputs.is_chosen() == by_hand {
        return Ok(Asked::Nothing);
    }
    Ok(Asked::Plan(Box::new(plan), by_hand))
}

fn wanted(site: Site, past: &History, ask: Ask) -> Option<PinnedImage> {
    match ask {
        Ask::Rollback { force } if !force && past.way_back_held().is_some() => None,
        Ask::Rollback { .. } => past.rollback_target().map(|target| target.image.clone()),
        _ => Some(image(site.tag).clone()),
    }
}

/// Steps outside any run: a failure of one stops none of the others.
fn tidying(state: &State, process: &Process, bug: Bug) -> Arc<[Step]> {
    // The hour after which the timer looks for the rollback target has always passed.
    let lost = || process.ask == Ask::Reconcile && promises::lacks_way_back(state);
    if process.idle && process.ask != Ask::Recover && !lost() {
        return Arc::from([]);
    }
    // The look comes after the flush in the agent, and sees the same of what is tidied.
    let mut steps = if has_unflushed(&state.host) { vec![Step::FlushImages] } else { Vec::new() };
    let observed = look(&state.host);
    let planned = prune::housekeeping(&inputs(state.site, &observed, &state.past), process.ask.verb());
    steps.extend(bug.tidy(planned, &state.past));
    steps.into()
}

fn has_unflushed(host: &Host) -> bool {
    host.store.contains(&Stored::Unflushed)
}
