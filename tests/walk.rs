//! Every path through the decision: a breadth-first search (the idea is TigerBeetle's VOPR and the stateright crate's)
//! over an abstract host, which takes the steps that the real plans, `run::next` and the real recovery ask for. After
//! each step, and at rest after each end of a run, the promises of tests/walk/promises.rs are held.
//!
//! A walk begins with one to three instances, rolling or surge, and a first install, a deploy of another digest with its
//! migration, of another environment, a rollback, or a release that is held and deployed again by force. Each step
//! succeeds, fails (the release or the host is to blame), is left at Ctrl-C, or the process or the power dies before,
//! within or after it. Between two runs the timer, recover or an operator comes: the same deploy, another digest, a
//! rollback, one instance more or fewer. Recover, some time and the timer follow each end of a run.
//!
//! Bounds: two disturbances, or one of them and another operation, a path; `ASTRA_WALK_FULL=1` takes two disturbances
//! and an operation together. A failed start fails in the same way until time passes, instances have fixed ports, no operator edits
//! files by hand, and Caddy, the engine and the registry answer. Only a hash of 64 bits is kept of a state.
//!
//! `random` draws longer sequences over the same host: `ASTRA_SEED`, `ASTRA_WALK_OPS`.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail by panicking"
)]

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

#[path = "walk/agent.rs"]
mod agent;
#[path = "walk/bugs.rs"]
mod bugs;
#[path = "host/operator/draw.rs"]
#[allow(dead_code, reason = "the sites of the hosts are drawn there too")]
mod draw;
#[path = "walk/host.rs"]
mod host;
#[path = "walk/look.rs"]
mod look;
#[path = "walk/moves.rs"]
mod moves;
#[path = "walk/planted.rs"]
mod planted;
#[path = "walk/promises.rs"]
mod promises;
#[path = "walk/random.rs"]
mod random;
#[path = "walk/search.rs"]
mod search;
#[path = "walk/site.rs"]
mod site;
#[path = "walk/state.rs"]
mod state;

use astra_agent::model::outcome::Blame;
use astra_agent::model::step::Step;
use astra_agent::model::step_error::StepError;
use astra_agent::model::step_note::StepNote;
use astra_agent::run::{self, Performed};

use bugs::Bug;
use moves::Fate;
use search::{Found, Scenario};
use state::Left;

/// Two tests have two threads each: one after the other.
static TURN: Mutex<()> = Mutex::new(());

/// Walk from all `scenarios`, on two threads; the number of states and of hosts at rest.
fn walk_all(scenarios: &[Scenario], bounds: &[Left]) -> Result<(usize, usize), Box<Found>> {
    let tasks: Vec<_> = bounds.iter().flat_map(|left| scenarios.iter().map(|s| (*s, *left))).collect();
    let next = AtomicUsize::new(0);
    let work = || -> Result<(usize, usize), Box<Found>> {
        let mut sums = (0, 0);
        while let Some((scenario, left)) = tasks.get(next.fetch_add(1, Ordering::Relaxed)) {
            let walked = search::walk(*scenario, *left, Bug::None);
            if let Some(mut found) = walked.found {
                found.path.insert_str(0, &format!("{scenario:?}, {left:?}\n"));
                return Err(found);
            }
            sums = (sums.0 + walked.states, sums.1 + walked.rests);
        }
        Ok(sums)
    };
    std::thread::scope(|scope| {
        let threads = [scope.spawn(work), scope.spawn(work)];
        let mut sums = (0, 0);
        for thread in threads {
            let (states, rests) = thread.join().unwrap()?;
            sums = (sums.0 + states, sums.1 + rests);
        }
        Ok(sums)
    })
}

#[test]
fn every_path_keeps_every_promise() {
    let _turn = TURN.lock();
    let begun = Instant::now();
    let left = |disturbances, operations| Left { disturbances, operations };
    let full = std::env::var_os("ASTRA_WALK_FULL").is_some();
    let bounds = if full { vec![left(2, 1)] } else { vec![left(2, 0), left(1, 1)] };
    match walk_all(&search::scenarios(), &bounds) {
        Ok((states, rests)) => {
            println!("{states} states, {rests} of them at rest, {:.1} s", begun.elapsed().as_secs_f64());
            assert!(states > 50_000, "the walk has become small: {states} states");
        }
        Err(found) => panic!("{} is broken: {}\n{}", found.broken.promise, found.broken.what, found.path),
    }
}

/// The journal of the walk is the one that the agent writes: the same plan, carried out by the loop of the agent.
#[tokio::test]
async fn lines_are_those_of_the_loop() {
    let scenario = Scenario { site: site::Site::new(2, true), kind: search::Kind::NewDigest };
    for fails in 0..40 {
        let (mut state, first) = scenario.begin(Left { disturbances: 1, operations: 0 });
        moves::operate(&mut state, first, Bug::None).unwrap();
        let mut taken = Vec::new();
        let mut ours = None;
        while let Some(run) = state.process.as_ref().map(|process| process.run.clone()) {
            let fates = moves::fates(&state);
            let nth = usize::from(taken.len() == fails).min(fates.len() - 1);
            let goes_on = !matches!(fates[nth], Fate::KilledBefore | Fate::KilledAfter | Fate::CutBefore);
            let fate = if goes_on { fates[nth] } else { Fate::Host };
            taken.extend(run.is_some().then_some(fate));
            ours = run.or(ours);
            moves::perform(&mut state, fate, Bug::None).unwrap();
        }
        let ours = ours.unwrap();
        let next = std::cell::RefCell::new(taken.into_iter());
        let perform = async |step: &Step, _| match next.borrow_mut().next().unwrap() {
            Fate::Done => Performed::Done(StepNote::default()),
            Fate::Signal => Performed::Interrupted("SIGINT".into()),
            fate => {
                let blame = if fate == Fate::Release { Blame::Release } else { Blame::Host };
                let unready = match (step, fate) {
                    (Step::Soak { instances, .. }, Fate::Release) => instances.first(),
                    (Step::Soak { instances, .. }, Fate::Last) => instances.last(),
                    _ => None,
                };
                let failed = StepError { blame, ..StepError::host(anyhow::anyhow!("planted")) };
                Performed::Failed(StepError { unready: unready.map(|(i, _)| i.id), ..failed })
            }
        };
        let (outcome, lines) = run::run(&ours.plan, perform, |_, _| Ok(())).await;
        let told = state.past.runs.last().unwrap();
        assert_eq!(told.closed().map(|(outcome, ..)| outcome), Some(outcome), "{fails}");
        assert!(next.borrow_mut().next().is_none(), "{fails}: the loop took fewer steps");
        // All lines but what became of the last step.
        assert_eq!(lines.get(..ours.entries.len()), Some(&ours.entries[..]), "{fails}");
    }
}
