//! A deploy that fails at each kind of step, and an undo that fails itself.

use crate::state::{App, How, Migration};
use crate::world::World;

#[test]
fn both_instances_return_when_the_second_one_fails() {
    let mut world = World::installed("v1");
    world.faults("StartUnit astra-app@2.service", How::Ends("failed"), 0, 1);
    let ran = world.deploy("v2").calls(&[
        "StartUnit astra-app@1.service",
        "StartUnit astra-app@2.service",
        "StartUnit astra-app@2.service",
        "StartUnit astra-app@1.service",
    ]);
    ran.logs("ASTRA_OUTCOME", "undone").exits(3).serves("v1");
    assert_eq!(world.release(), 1);
}

#[test]
fn an_undo_that_fails_is_reported_and_recovered_from() {
    let mut world = World::installed("v1");
    world.faults("StartUnit astra-app@1.service", How::Ends("failed"), 0, 2);
    let ran = world.deploy("v2").logs("ASTRA_OUTCOME", "incomplete");
    ran.says("then, taking it back").exits(4);
    assert!(world.is_held("v2"));
    assert_eq!(crate::units::status(&world.shared.lock(), "2".parse().unwrap()), Some(200));
    world.reconcile().succeeds().serves("v1");
}

#[test]
fn a_stop_that_does_not_end_leaves_the_instance_to_an_operator() {
    let mut world = World::installed("v1");
    world.fault("StopUnit astra-app@1.service", How::Hangs);
    world.deploy("v2").says("its job did not end within 70 s").exits(4);
    assert!(!world.is_held("v2"));
    assert_eq!(world.release(), 1);
}

#[test]
fn a_caddy_that_hangs_stops_a_deploy_before_an_instance_is_touched() {
    let mut world = World::installed("v1");
    world.shared.lock().caddy.hangs = true;
    world.deploy("v2").never_calls("StopUnit astra-app").exits(1);
    world.shared.lock().caddy.hangs = false;
    world.serves("v1");
    assert!(!world.is_held("v2"));
}

#[test]
fn a_caddy_that_ignores_the_marker_stops_a_deploy_before_an_instance_is_stopped() {
    let mut world = World::installed("v1");
    world.shared.lock().caddy.blind = true;
    let ran = world.deploy("v2").says("Caddy does not see its marker");
    ran.never_calls("StopUnit astra-app").exits(1).serves("v1");
    assert!(!world.is_held("v2"));
}

#[test]
fn a_caddy_that_is_starting_does_not_stop_a_deploy() {
    for call in ["pull", "StartUnit astra-app@1.service", "StartUnit astra-app@2.service"] {
        let mut world = World::installed("v1");
        world.restart_caddy_at(call);
        world.deploy("v2").succeeds().serves("v2");
    }
}

#[test]
fn a_migration_that_fails_touches_no_instance() {
    let mut world = World::installed("v1");
    world.image("v2", App::Ready, Migration::Exits(1));
    let ran = world.deploy("v2").says("the migration ended with code 1");
    ran.never_calls("StopUnit astra-app").exits(3).serves("v1");
}

#[test]
fn the_log_lines_of_a_failed_start_are_in_the_error() {
    let mut world = World::installed("v1");
    world.image("v2", App::Exits(3), Migration::Passes);
    world.deploy("v2").says("exit code 3").says("cannot reach the database").exits(3);
}

#[test]
fn a_spare_that_fails_leaves_the_only_instance_alone() {
    let mut world = World::new().config("[app]\n", "[app]\ninstances = 1\n").install("v1");
    world.image("v2", App::Silent, Migration::Passes);
    world.deploy("v2").never_calls("StopUnit astra-app@1").exits(3).serves("v1");
}

#[test]
fn a_refused_migration_is_not_explained_by_the_one_before() {
    let mut world = World::installed("v1");
    world.image("v2", App::Ready, Migration::Exits(7));
    world.deploy("v2").exits(3);
    world.fault("StartUnit astra-migrate", How::Refused("org.freedesktop.DBus.Error.AccessDenied"));
    let text = world.deploy("v3").text();
    assert!(text.contains("AccessDenied") && !text.contains("code 7"), "{text}");
    assert!(!world.is_held("v3"));
}
