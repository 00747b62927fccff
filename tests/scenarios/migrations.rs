//! A service with an image and a database of its own: its migration beside that of the app.

use astra_agent::converge::Selector;
use astra_agent::model::entry::Verb;
use astra_agent::plan::migrations::MigratePolicy;

use crate::images::{deploy_front, rollback};
use crate::state::{App, Migration};
use crate::world::World;

const APP: &str = "StartUnit astra-app@1";
const OF_APP: &str = "StartUnit astra-migrate.service";
const OF_FRONT: &str = "StartUnit astra-front-migrate.service";
const UNIT: &str = "etc/systemd/system/astra-front-migrate.service";
const TABLE: &str = "[services.front.migrate]\ncommand = [\"up\"]\ntimeout = \"60s\"\n";

/// A worker with an image of its own that migrates, without the first deploy.
fn site() -> World {
    let world = World::new();
    let front = format!(
        "[services.front]\nkind = \"worker\"\nimage = \"{}/front:latest\"\n{TABLE}",
        world.registry()
    );
    for name in ["front-1", "front-2", "front-3"] {
        world.image(name, App::Ready, Migration::Passes);
    }
    world.image("front-bad", App::Ready, Migration::Exits(1));
    world.image("front-slow", App::Ready, Migration::Runs);
    world.tag("front:latest", "front-1");
    world.config("[deploy]\n", &format!("{front}[deploy]\n"))
}

#[test]
fn a_new_image_migrates_its_service_alone_and_once() {
    let mut world = site();
    world.publish("v1");
    world.run(Verb::Install, Selector::Tracked).calls(&[OF_APP, OF_FRONT, APP]).succeeds();
    let ran = deploy_front(&mut world, "front-2").calls(&[OF_FRONT, "StartUnit astra-front@1"]);
    ran.never_calls(OF_APP).succeeds();
    deploy_front(&mut world, "front-1").never_calls(OF_FRONT).succeeds();
    world.deploy("v2").calls(&[OF_APP, APP]).never_calls(OF_FRONT).succeeds();
    world.tag("front:latest", "front-3");
    world.deploy("v3").calls(&["pull", "pull", OF_APP, OF_FRONT, "StopUnit astra-app@1"]).succeeds();
    world.deploy("v3").changes_nothing().succeeds();
}

#[test]
fn a_digest_that_only_the_app_had_is_new_to_a_service() {
    let mut world = site().install("v1");
    deploy_front(&mut world, "v1").calls(&[OF_FRONT]).never_calls(OF_APP).succeeds();
}

#[test]
fn a_rollback_migrates_no_service() {
    let mut world = site().install("v1");
    deploy_front(&mut world, "front-2").succeeds();
    rollback(&mut world).calls(&["StartUnit astra-front@1"]).never_calls(OF_FRONT).succeeds();
    // Nor one whose former image was that of the app.
    let shared = World::new().config("[deploy]\n", "[services.front]\nkind = \"worker\"\n[deploy]\n");
    let mut world = shared.install("v1");
    world.deploy("v2").succeeds();
    let image = format!("kind = \"worker\"\nimage = \"{}/front:latest\"\n{TABLE}", world.registry());
    world.change_config("kind = \"worker\"\n", &image);
    rollback(&mut world)
        .calls(&[APP, "StartUnit astra-front@1"])
        .never_calls("StartUnit astra-front-migrate")
        .succeeds();
}

#[test]
fn a_failed_migration_of_a_service_touches_no_instance_and_holds_its_image() {
    let mut world = site().install("v1");
    let ran = deploy_front(&mut world, "front-bad").says("migrating front: the migration ended with code 1");
    ran.never_calls("StopUnit astra-app").never_calls("StopUnit astra-front@").exits(3).serves("v1");
    world.run(Verb::Deploy, Selector::Tracked).says("is held").exits(1);
    world.deploy("v2").says("is held").never_calls(OF_APP).exits(1);
    world.tag("front:latest", "front-2");
    world.deploy("v2").calls(&[OF_APP, OF_FRONT]).succeeds().serves("v2");
}

#[test]
fn a_migration_waits_for_that_of_another_service_of_a_killed_run() {
    let mut world = site().install("v1");
    world.tag("front:latest", "front-slow");
    world.kill_at(OF_FRONT).run(Verb::Deploy, Selector::Tracked).was_killed();
    world.recover();
    world.tag("front:latest", "front-1");
    let ran = world.deploy("v2").says("waiting for an earlier migration to end");
    ran.never_calls(OF_APP).exits(1).serves("v1");
    world.systemctl("StopUnit", "astra-front-migrate.service");
    world.deploy("v2").calls(&[OF_APP]).succeeds().serves("v2");
}

#[test]
fn ctrl_c_in_a_migration_of_a_service_says_which() {
    let mut world = site().install("v1");
    world.tag("front:latest", "front-slow");
    let ran = world.interrupt_at(OF_FRONT).run(Verb::Deploy, Selector::Tracked);
    let ran =
        ran.says("in the migration of front, half-way").calls(&[OF_FRONT, "StopUnit astra-front-migrate"]);
    ran.exits(1).serves("v1");
    assert!(world.history().held.is_empty());
}

#[test]
fn a_migration_that_never_ends_is_stopped_and_its_timeout_named() {
    let mut world = site().install("v1");
    let ran = deploy_front(&mut world, "front-slow").says("migrating front: ");
    ran.calls(&[OF_FRONT, "StopUnit astra-front-migrate"]).exits(3).serves("v1");
}

#[test]
fn a_requested_migration_is_of_the_services_that_the_command_names() {
    let mut world = site().install("v1");
    world.migrate = MigratePolicy::Always;
    world
        .only("front")
        .run(Verb::Deploy, Selector::Tracked)
        .calls(&[OF_FRONT])
        .never_calls(OF_APP)
        .succeeds();
    world.migrate = MigratePolicy::Always;
    world.run(Verb::Deploy, Selector::Tracked).calls(&[OF_APP, OF_FRONT]).succeeds();
    world.migrate = MigratePolicy::Never;
    deploy_front(&mut world, "front-2").never_calls(OF_FRONT).succeeds();
}

#[test]
fn the_unit_of_a_migration_goes_with_its_table() {
    let mut world = site().install("v1");
    deploy_front(&mut world, "front-bad").exits(3);
    assert!(world.root.join(UNIT).exists());
    // As systemd leaves it, also after a stop.
    world.set_unit("astra-front-migrate.service", ("failed", "failed"));
    world.change_config(TABLE, "");
    world.reconcile().calls(&["StopUnit astra-front-migrate"]).succeeds();
    assert!(!world.root.join(UNIT).exists());
}

#[test]
fn a_variable_for_a_migration_must_have_a_value() {
    for (table, key) in [("[migrate]\n", "APP_ONLY"), (TABLE, "FRONT_ONLY")] {
        let mut world = site().install("v1");
        world.change_config(table, &format!("{table}env_only = [\"{key}\"]\n"));
        let ran = world.deploy("v2").says(&format!("astra.env: {key} is required, but missing"));
        ran.never_calls("StartUnit").exits(2).serves("v1");
        world.change_config("[deploy]\n", &format!("[env]\n{key} = \"x\"\n[deploy]\n"));
        world.deploy("v2").succeeds().serves("v2");
    }
}
