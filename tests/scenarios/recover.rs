//! recover, after a run that was killed.

use astra_agent::model::history::RunRecord;
use astra_agent::model::outcome::Outcome;

use crate::state::{App, Migration};
use crate::world::World;

/// Steps of the longest run here, with margin.
const MOST: usize = 60;

/// Kills a deploy before its first step, one of another image before its second step, until one ends. After each
/// kill, recover brings the host to one release. Returns how many were committed.
fn at_each_step(app: &App) -> usize {
    let mut world = World::installed("v0");
    let (mut serving, mut release) = ("v0".to_owned(), 1);
    for step in 1..MOST {
        let next = format!("v{step}");
        world.image(&next, app.clone(), Migration::Passes);
        if world.kill_before(step).deploy(&next).is_ended() {
            assert!(step > 10, "only {step} steps");
            return world.history().ever_committed.len() - 1;
        }
        world.recover().succeeds();
        if world.release() != release {
            (serving, release) = (next, world.release());
        }
        world.serves(&serving);
        let history = world.history();
        let incomplete = |run: &&RunRecord| matches!(run.closed(), Some((Outcome::Incomplete, ..)));
        assert_eq!(history.runs.iter().find(incomplete), None);
    }
    panic!("the run does not end");
}

#[test]
fn a_deploy_killed_before_any_step_ends_all_old_or_all_new() {
    assert!(at_each_step(&App::Ready) > 1);
}

#[test]
fn a_failing_deploy_killed_before_any_step_of_its_undo_ends_all_old() {
    assert_eq!(at_each_step(&App::Answers(500)), 0);
}

#[test]
fn a_kill_is_no_fault_of_the_release() {
    let mut world = World::installed("v1");
    world.kill_before(8).deploy("v2").was_killed();
    world.recover().succeeds().serves("v1");
    assert!(!world.is_held("v2"));
    world.recover().changes_nothing();
    world.deploy("v2").succeeds().serves("v2");
}

#[test]
fn a_run_killed_while_an_instance_starts_is_taken_back() {
    let mut world = World::installed("v1");
    world.kill_at("StartUnit astra-app@2.service").deploy("v2").was_killed();
    world.recover().calls(&["StopUnit astra-app"]).succeeds().serves("v1");
}

#[test]
fn a_run_killed_in_its_migration_is_taken_back_without_an_instance_restarting() {
    let mut world = World::installed("v1");
    world.kill_at("StartUnit astra-migrate.service").deploy("v2").was_killed();
    world.recover().never_calls("StopUnit astra-app").succeeds().serves("v1");
}

#[test]
fn the_next_verb_recovers_by_itself() {
    let mut world = World::installed("v1");
    world.kill_at("StartUnit astra-app@1.service").deploy("v2").was_killed();
    world.deploy("v3").says("closing a run that was cut off").succeeds().serves("v3");
}
