//! The promises, a function for each. The first half looks at a step or a run, the second
//! at a host at rest.

use astra_agent::model::entry::Entry;
use astra_agent::model::outcome::{Blame, Outcome};
use astra_agent::model::plan::Plan;
use astra_agent::model::step::Step;

use crate::agent::{Ask, Pending, Process, Run};
use crate::host::{APPS, ENV_FILE, Fact, Host, MOST, Stored, Unit};
use crate::site::digest_of;
use crate::state::{Held, State};

#[path = "promises/rest.rs"]
mod rest;

pub use rest::{at_rest, lacks_way_back};

/// A promise that was not kept.
#[derive(Clone, Debug)]
pub struct Broken {
    pub promise: &'static str,
    pub what: String,
}

impl Broken {
    pub fn new(promise: &'static str, what: String) -> Self {
        Self { promise, what }
    }
}

type Kept = Result<(), Broken>;

fn hold(promise: &'static str, kept: bool, what: impl FnOnce() -> String) -> Kept {
    if kept { Ok(()) } else { Err(Broken::new(promise, what())) }
}

/// How a step went.
pub struct Taken<'a> {
    pub pending: &'a Pending,
    pub facts: &'a [Fact],
    /// The power went.
    pub cut: bool,
}

pub fn at_step(before: &State, after: &State, taken: &Taken<'_>) -> Kept {
    after_the_commit_it_only_goes_forward(before, taken)?;
    no_code_meets_an_unmigrated_database(after, taken.facts)?;
    a_migration_runs_once(before, taken)?;
    an_instance_is_drained_before_it_stops(after, taken)?;
    an_instance_rejoins_only_when_it_is_ready(taken)?;
    something_serves_at_all_times(before, after, taken)?;
    astra_env_names_a_release_that_is_there(after)?;
    a_container_finds_the_files_of_its_release(after)?;
    a_commit_finds_every_instance_on_it(before, after, taken)?;
    a_service_that_stays_the_same_is_left_alone(before, taken)?;
    the_way_back_is_kept(before, taken)
}

/// Starts without a step of the agent.
pub fn at_start(state: &State, facts: &[Fact]) -> Kept {
    no_code_meets_an_unmigrated_database(state, facts)
}

/// P3.
fn no_code_meets_an_unmigrated_database(after: &State, facts: &[Fact]) -> Kept {
    for fact in facts {
        if let Fact::Started(named) = fact {
            hold("no_code_meets_an_unmigrated_database", after.host.is_migrated(named.digest), || {
                format!("release {} was started", named.number)
            })?;
        }
    }
    Ok(())
}

/// P10: never twice in a run, nor for what was committed here before. A try that was taken back migrates again.
fn a_migration_runs_once(before: &State, taken: &Taken<'_>) -> Kept {
    for fact in taken.facts {
        if let Fact::Migrated(digest) = fact {
            let done = before.truth.ever | before.process.as_ref().map_or(0, |p| p.migrated);
            hold("a_migration_runs_once", done & (1 << digest) == 0, || {
                format!("image {digest} was migrated for again")
            })?;
        }
    }
    Ok(())
}

/// P4.
fn an_instance_is_drained_before_it_stops(after: &State, taken: &Taken<'_>) -> Kept {
    let cut = taken.facts.iter().find(|fact| matches!(fact, Fact::CutOff(_)));
    let drains = after.site.promises_service();
    hold("an_instance_is_drained_before_it_stops", cut.is_none() || !drains || taken.cut, || {
        format!("{cut:?}")
    })
}

/// P4.
fn an_instance_rejoins_only_when_it_is_ready(taken: &Taken<'_>) -> Kept {
    let blind = taken.facts.iter().find(|fact| matches!(fact, Fact::Blind(_)));
    hold("an_instance_rejoins_only_when_it_is_ready", blind.is_none(), || format!("{blind:?}"))
}

/// P4: no act of the agent takes the last instance out of service, on the way forward or back. A repair of a site with
/// one instance has no other to rely on, surge or not.
fn something_serves_at_all_times(before: &State, after: &State, taken: &Taken<'_>) -> Kept {
    let Some(process) = &before.process else { return Ok(()) };
    // No act of the agent took down an instance that fails by itself.
    let fails = matches!(taken.pending.step, Step::AwaitReady { .. } | Step::Soak { .. });
    let rolls = process.run.as_ref().is_some_and(|run| run.plan.commit.is_some());
    let others = before.site.instances > 1 || before.site.surge && rolls;
    let promised = others && before.host.committed().is_some();
    let dark = before.host.serving() > 0 && after.host.serving() == 0;
    let known = taken.pending.undoing && before.site.instances == 1 && soak_failed(process);
    hold("something_serves_at_all_times", !dark || !promised || taken.cut || fails || known, || {
        "the last instance that served was taken down".to_owned()
    })
}

/// With one instance and its spare: undo has to restart the one that still serves, and no other is ready meanwhile.
fn soak_failed(process: &Process) -> bool {
    let entries = process.run.iter().flat_map(|run| &run.entries);
    entries.into_iter().any(|entry| matches!(entry, Entry::Failed { unready: Some(_), .. }))
}

/// P1, P2: one that a power cut cannot have touched, and whose number was never another's.
fn astra_env_names_a_release_that_is_there(after: &State) -> Kept {
    let Some(named) = after.host.committed() else { return Ok(()) };
    let stored = after.host.store[usize::from(named.digest)];
    hold("astra_env_names_a_release_that_is_there", stored == Stored::Whole, || {
        format!("the image of release {} is {stored:?}", named.number)
    })?;
    let known = after.truth.numbers.get(&named.number);
    hold("astra_env_names_a_release_that_is_there", known == Some(&(named.digest, named.variant)), || {
        format!("{named:?} was made as {known:?}")
    })
}

/// P1: whatever systemd starts has what its lines name.
fn a_container_finds_the_files_of_its_release(after: &State) -> Kept {
    let trials = (1..=MOST).filter_map(|n| after.host.trial(n));
    for text in after.host.disk.get(ENV_FILE).into_iter().chain(trials) {
        let lost = text.uses().iter().find(|path| !after.host.disk.contains(path));
        hold("a_container_finds_the_files_of_its_release", lost.is_none(), || format!("{lost:?} is gone"))?;
    }
    Ok(())
}

/// P5: a release that was never ready is not committed.
fn a_commit_finds_every_instance_on_it(before: &State, after: &State, taken: &Taken<'_>) -> Kept {
    let named = after.host.committed();
    let (Some(named), true) = (named, named != before.host.committed()) else { return Ok(()) };
    if taken.cut {
        return Ok(());
    }
    for n in (1..=MOST).filter(|n| after.site.wants(*n)) {
        let (seen, wanted) = (after.host.instance(n), after.host.committed_for(n));
        if wanted.is_none() && n > APPS {
            // A rollback leaves out a service that never served.
            continue;
        }
        if wanted == before.host.committed_for(n) {
            // Its service stays the same: whether it is ready says nothing about this release.
            continue;
        }
        let whole = wanted.is_some() && seen.runs == wanted && seen.ready && !after.host.is_drained(n);
        hold("a_commit_finds_every_instance_on_it", whole, || format!("instance {n}: {seen:?}, {named:?}"))?;
    }
    Ok(())
}

/// A change of one service restarts no container of another.
fn a_service_that_stays_the_same_is_left_alone(before: &State, taken: &Taken<'_>) -> Kept {
    let Step::StartTrial { instance, candidate, .. } = &taken.pending.step else { return Ok(()) };
    let n = crate::host::number(instance);
    let (runs, env) = (before.host.instance(n).runs, candidate.lines.since(instance.id.service));
    let same = runs.is_some() && runs == before.host.committed_for(n) && runs.map(|r| r.number) == env;
    hold("a_service_that_stays_the_same_is_left_alone", !same, || format!("{instance}: {runs:?}"))
}

fn after_the_commit_it_only_goes_forward(before: &State, taken: &Taken<'_>) -> Kept {
    let committed = before.process.as_ref().and_then(|p| p.run.as_ref()).is_some_and(|run| run.committed);
    let back = taken.pending.undoing
        || matches!(taken.pending.step, Step::RestoreCommitted { .. } | Step::StartTrial { .. });
    hold("after_the_commit_it_only_goes_forward", !committed || !back, || taken.pending.step.to_string())
}

/// P6: what runs, and the two releases that a rollback could come to first, or all that `keep` asks for.
fn the_way_back_is_kept(before: &State, taken: &Taken<'_>) -> Kept {
    for fact in taken.facts {
        let Fact::Removed(digest) = fact else { continue };
        let mut commits: Vec<_> = before.past.commits.iter().rev().map(|r| digest_of(&r.image)).collect();
        commits.dedup();
        let runs = before.host.instances.iter().filter_map(|i| i.runs).chain(before.host.committed());
        let needed = commits
            .iter()
            .take(3)
            .chain(&runs.map(|named| named.digest).collect::<Vec<_>>())
            .any(|d| d == digest);
        hold("the_way_back_is_kept", !needed, || format!("image {digest} was removed"))?;
    }
    Ok(())
}

/// P8: no automatic run, and no operator without `--force`, deploys it.
pub fn at_open(state: &State, ask: Ask, plan: &Plan) -> Kept {
    let Some(candidate) = plan.candidate.as_ref().filter(|_| plan.commit.is_some()) else { return Ok(()) };
    let pair = (digest_of(&candidate.release.image), state.site.variant());
    let truth = &state.truth;
    let forbidden = match ask {
        Ask::Rollback { .. } => {
            truth.held.iter().any(|(held, why)| held.0 == pair.0 && *why != Held::Environment)
        }
        _ => truth.forbids(pair, ask == Ask::Reconcile),
    };
    hold("a_held_release_is_deployed_only_by_force", ask.is_forced() || !forbidden, || {
        format!("{ask:?} of {pair:?}, held: {:?}", truth.held)
    })
}

/// A run has written its last line.
pub fn at_close(state: &State, run: &Run, outcome: Outcome) -> Kept {
    if run.plan.commit.is_none() {
        return Ok(());
    }
    the_outcome_tells_the_state(state, run, outcome)?;
    the_outcome_names_who_is_to_blame(run, outcome)?;
    rest::history_tells_the_truth(state)
}

/// P5, and the exit codes.
fn the_outcome_tells_the_state(state: &State, run: &Run, outcome: Outcome) -> Kept {
    let name = "the_outcome_tells_the_state";
    let (now, host) = (state.host.committed(), &state.host);
    let wanted = run.plan.candidate.as_ref().map(|c| c.release.number);
    match outcome {
        Outcome::Converged => {
            hold(name, now.map(|n| n.number) == wanted, || format!("converged, and {now:?}"))
        }
        Outcome::Undone { .. } | Outcome::Failed { .. } => {
            hold(name, now == run.before, || {
                format!("{outcome:?}, and {now:?} instead of {:?}", run.before)
            })?;
            // Recover may have failed before it reached the leftovers of an earlier run.
            let other = strangers(host).find(|n| !run.strangers.contains(n));
            hold(name, other.is_none(), || format!("{outcome:?}, and instance {other:?} is on trial"))
        }
        Outcome::Incomplete => Ok(()),
    }
}

/// Instances that are up and run what astra.env does not name, or have a trial file.
pub fn strangers(host: &Host) -> impl Iterator<Item = u8> + '_ {
    (1..=MOST).filter(move |n| {
        let seen = host.instance(*n);
        seen.unit == Unit::Up && seen.runs != host.committed_for(*n) || host.trial(*n).is_some()
    })
}

fn the_outcome_names_who_is_to_blame(run: &Run, outcome: Outcome) -> Kept {
    let (Outcome::Undone { blame } | Outcome::Failed { blame }) = outcome else { return Ok(()) };
    let first = run.entries.iter().find_map(|entry| match entry {
        Entry::Failed { blame, .. } => Some(*blame),
        Entry::Interrupted { .. } => Some(Blame::Host),
        _ => None,
    });
    hold("the_outcome_names_who_is_to_blame", first == Some(blame), || format!("{outcome:?}, and {first:?}"))
}
