//! caddy-upgrade.

use astra_agent::converge::Selector;
use astra_agent::model::entry::Verb;

use crate::ran::Ran;
use crate::state::{App, How, Migration, digest};
use crate::world::World;

fn upgrade(world: &mut World) -> Ran<'_> {
    world.run(Verb::CaddyUpgrade, Selector::Keep)
}

fn with_new_caddy(app: App) -> World {
    let world = World::installed("v1");
    world.image("caddy-new", app, Migration::Passes);
    world.tag("caddy:2", "caddy-new");
    world
}

#[track_caller]
fn runs(world: &World, name: &str) {
    assert!(world.text("/etc/astra/caddy.env").contains(&digest(name)));
    assert_eq!(world.text("/run/astra/trial-caddy.env"), "");
    world.serves("v1");
}

#[test]
fn a_new_image_runs_and_no_instance_restarts() {
    let mut world = with_new_caddy(App::Ready);
    let calls = ["pull", "StopUnit astra-caddy.service", "StartUnit astra-caddy.service"];
    upgrade(&mut world).calls(&calls).never_calls("StopUnit astra-app").succeeds();
    runs(&world, "caddy-new");
}

#[test]
fn an_image_that_does_not_start_is_replaced_by_the_former_one() {
    let mut world = with_new_caddy(App::Exits(1));
    upgrade(&mut world).exits(1);
    runs(&world, "caddy");
}

#[test]
fn the_same_image_changes_nothing() {
    let mut world = World::installed("v1");
    upgrade(&mut world).changes_nothing().succeeds();
    runs(&world, "caddy");
}

#[test]
fn a_pull_that_fails_leaves_caddy_alone() {
    let mut world = with_new_caddy(App::Ready);
    world.fault("POST /images/create", How::Status(500, "denied"));
    upgrade(&mut world).never_calls("StopUnit").exits(1);
    runs(&world, "caddy");
}

#[test]
fn an_upgrade_that_was_killed_goes_back_to_the_image_that_worked() {
    let mut world = with_new_caddy(App::Ready);
    world.kill_at("StopUnit astra-caddy.service");
    upgrade(&mut world).was_killed();
    world.recover().succeeds();
    runs(&world, "caddy");
}
