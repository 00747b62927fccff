//! The promises about a host at rest: the timer has come by, and nothing has happened since.

use std::collections::BTreeSet;

use astra_agent::model::entry::Verb;
use astra_agent::model::history::Held as HeldRelease;
use astra_agent::model::name::{TRIAL_ENV, WORKING};
use astra_agent::plan::migrations::MigratePolicy;
use astra_agent::plan::release::{self, Request};

use super::{Kept, hold, strangers};
use crate::agent::keeping;
use crate::host::{APPS, MOST, Stored, Unit};
use crate::look::{inputs, look};
use crate::site::{digest_of, image};
use crate::state::{Held, State};

pub fn at_rest(state: &State) -> Kept {
    a_cut_run_is_closed(state)?;
    nothing_of_a_trial_is_left(state)?;
    rest_is_reached(state)?;
    no_uncommitted_release_serves(state)?;
    every_instance_serves_what_is_committed(state)?;
    the_way_back_is_in_the_store(state)?;
    caddy_knows_whom_it_may_ask(state)?;
    history_tells_the_truth(state)?;
    the_same_again_is_nothing_to_do(state)
}

fn rest_is_reached(state: &State) -> Kept {
    let plan = keeping(state, Verb::Reconcile);
    hold("rest_is_reached", plan.is_empty(), || {
        plan.steps.iter().map(|step| format!("\n    {step}")).collect::<String>()
    })
}

fn a_cut_run_is_closed(state: &State) -> Kept {
    let open = state.past.open_runs().next().map(|run| run.id);
    hold("a_cut_run_is_closed", open.is_none(), || format!("run {open:?} is open"))
}

fn nothing_of_a_trial_is_left(state: &State) -> Kept {
    let name = "nothing_of_a_trial_is_left";
    let host = &state.host;
    for n in 1..=MOST {
        hold(name, host.trial(n).is_none(), || format!("the trial file of instance {n}"))?;
        hold(name, !host.is_drained(n), || format!("the marker of instance {n}"))?;
        let wanted = state.site.wants(n);
        hold(name, wanted || host.instance(n).unit == Unit::Down, || format!("instance {n} runs"))?;
    }
    for path in [TRIAL_ENV, WORKING] {
        hold(name, !host.run.contains(path), || path.to_owned())?;
    }
    Ok(())
}

fn no_uncommitted_release_serves(state: &State) -> Kept {
    let other = strangers(&state.host).next();
    hold("no_uncommitted_release_serves", other.is_none(), || format!("instance {other:?}"))
}

fn every_instance_serves_what_is_committed(state: &State) -> Kept {
    for n in (1..=MOST).filter(|n| state.site.wants(*n)) {
        let Some(named) = state.host.committed_for(n) else { continue };
        let seen = state.host.instance(n);
        let serves = if n > APPS { seen.unit == Unit::Up && seen.ready } else { state.host.serves(n) };
        let whole = serves && seen.runs == Some(named) && seen.enabled;
        hold("every_instance_serves_what_is_committed", whole, || format!("instance {n}: {seen:?}"))?;
    }
    Ok(())
}

/// P6. Who has gone back several times may come to an image that was tidied away before: the timer fetches it again.
fn the_way_back_is_in_the_store(state: &State) -> Kept {
    hold("the_way_back_is_in_the_store", !lacks_way_back(state), || {
        format!("{:?} of {:?}", state.past.rollback_target().map(|r| r.number), state.host.store)
    })
}

pub fn lacks_way_back(state: &State) -> bool {
    let stored = |image| state.host.store[usize::from(digest_of(image))];
    state.past.rollback_target().is_some_and(|target| stored(&target.image) != Stored::Whole)
}

fn caddy_knows_whom_it_may_ask(state: &State) -> Kept {
    if state.host.committed().is_none() {
        return Ok(());
    }
    for n in 1..=APPS {
        let wanted = n <= state.site.instances || state.site.spare() == Some(n);
        hold("caddy_knows_whom_it_may_ask", state.host.is_known(n) == wanted, || format!("instance {n}"))?;
    }
    Ok(())
}

/// The journal's fold, against what the host's own steps did.
pub fn history_tells_the_truth(state: &State) -> Kept {
    let name = "history_tells_the_truth";
    let (past, truth) = (&state.past, &state.truth);
    let current = past.current().map(|release| release.number);
    let named = state.host.committed().map(|named| named.number);
    hold(name, current == named, || format!("it says {current:?}, astra.env says {named:?}"))?;
    let ever = (0..32).filter(|d| truth.ever & (1 << d) != 0).collect::<BTreeSet<u8>>();
    let told: BTreeSet<u8> = (0..32).filter(|d| past.knows(&image(*d).digest)).collect();
    hold(name, ever == told, || format!("committed were {ever:?}, it says {told:?}"))?;
    let pair = |held: &HeldRelease| Some((*truth.numbers.get(&held.release.number)?, Held::from(held.why)));
    let told: BTreeSet<_> = past.held.iter().filter_map(pair).collect();
    let held: BTreeSet<_> = truth.held.iter().map(|(pair, why)| (*pair, *why)).collect();
    hold(name, told == held, || format!("held are {held:?}, it says {told:?}"))
}

/// P8: a deploy of what serves changes nothing.
fn the_same_again_is_nothing_to_do(state: &State) -> Kept {
    let Some(named) = state.host.committed().filter(|named| named.variant == state.site.variant()) else {
        return Ok(());
    };
    let observed = look(&state.host);
    let request = Request {
        image: image(named.digest).clone(),
        images: Default::default(),
        only: Default::default(),
        migrate: MigratePolicy::Auto,
        force: false,
        automatic: false,
        lenient: false,
        restart: false,
        refresh: false,
        soak: true,
    };
    let plan = release::plan(&inputs(state.site, &observed, &state.past), &request);
    let empty = plan.as_ref().is_ok_and(|plan| plan.is_empty());
    hold("the_same_again_is_nothing_to_do", empty, || format!("{plan:?}"))
}
