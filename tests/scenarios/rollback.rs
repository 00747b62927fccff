//! rollback.

use astra_agent::converge::{RollbackTarget, Selector};
use astra_agent::model::entry::Verb;

use crate::ran::Ran;
use crate::state::{App, How, Migration, digest};
use crate::world::World;

fn deployed_twice() -> World {
    let mut world = World::installed("v1");
    world.deploy("v2").succeeds();
    world
}

fn back(world: &mut World, to: RollbackTarget) -> Ran<'_> {
    world.run(Verb::Rollback, Selector::Rollback(to))
}

#[test]
fn a_rollback_needs_no_registry_and_migrates_nothing() {
    let mut world = deployed_twice();
    world.fault("HEAD /v2/", How::Hangs);
    let ran = back(&mut world, RollbackTarget::Nearest).never_calls("pull");
    ran.never_calls("StartUnit astra-migrate").succeeds().serves("v1");
    assert_eq!(world.release(), 1);
    assert!(world.is_held("v2"));
}

#[test]
fn a_rollback_on_a_host_with_one_release_changes_nothing() {
    let mut world = World::installed("v1");
    let ran = back(&mut world, RollbackTarget::Nearest).says("no earlier release");
    ran.changes_nothing().exits(1).serves("v1");
}

#[test]
fn a_rollback_goes_to_the_release_that_is_named() {
    let mut world = deployed_twice();
    world.deploy("v3").succeeds();
    back(&mut world, RollbackTarget::Release(1)).succeeds().serves("v1");
    let ran = back(&mut world, RollbackTarget::Release(9)).says("no release 9 ever served");
    ran.changes_nothing().exits(1);
}

#[test]
fn a_rollback_pulls_an_image_that_was_removed_by_hand() {
    let mut world = deployed_twice();
    world.shared.lock().local.retain(|image| !image.contains(&digest("v1")));
    back(&mut world, RollbackTarget::Nearest).calls(&["pull"]).succeeds().serves("v1");
}

#[test]
fn a_rollback_to_a_release_that_fails_is_undone() {
    let mut world = deployed_twice();
    world.image("v1", App::Answers(500), Migration::Passes);
    back(&mut world, RollbackTarget::Nearest).exits(3).serves("v2");
    assert!(world.is_held("v1"));
    let ran = back(&mut world, RollbackTarget::Nearest).says("is held");
    ran.changes_nothing().exits(1);
}

#[test]
fn a_rollback_works_without_an_engine_that_answers() {
    let mut world = deployed_twice();
    world.fault("GET /", How::Status(500, "no space left on device"));
    back(&mut world, RollbackTarget::Nearest).succeeds().serves("v1");
}

#[test]
fn a_rollback_works_while_caddy_does_not_start() {
    let mut world = deployed_twice();
    world.systemctl("StopUnit", "astra-caddy.service");
    world.fault("StartUnit astra-caddy.service", How::Ends("failed"));
    let ran = back(&mut world, RollbackTarget::Nearest).says("continuing although repairs failed");
    ran.exits(4);
    assert_eq!(world.release(), 1);
    world.heal();
    world.reconcile().succeeds().serves("v1");
}
