//! install, deploy, deploy-sha.

use std::time::Duration;

use astra_agent::converge::{RollbackTarget, Selector};
use astra_agent::model::entry::Verb;

use crate::state::{App, How, Migration, digest};
use crate::world::World;

#[test]
fn an_install_on_an_empty_host_serves_the_tracked_image() {
    let mut world = World::new();
    world.publish("v1");
    let ran = world.run(Verb::Install, Selector::Tracked).logs("ASTRA_OUTCOME", "converged").calls(&[
        "pull 127.0.0.1",
        "StartUnit astra-caddy.service",
        "StartUnit astra-migrate.service",
        "StartUnit astra-app@1.service",
        "StartUnit astra-app@2.service",
    ]);
    let world = ran.succeeds();
    world.serves("v1");
    assert_eq!(world.release(), 1);
    let enabled = world.shared.lock().enabled.clone();
    for unit in ["astra-caddy.service", "astra-app@1.service", "astra-app@2.service"] {
        assert!(enabled.contains(unit), "{unit}");
    }
}

#[test]
fn the_marker_of_an_installed_host_comes_with_the_first_success() {
    let mut world = World::new();
    let marker = world.root.join("var/lib/astra-agent/installed");
    world.image("broken", App::Exits(3), Migration::Passes);
    world.publish("broken");
    world.run(Verb::Install, Selector::Tracked).exits(3);
    assert!(!marker.exists());
    // Only an install writes it, also one that finds nothing to do.
    world.deploy("v1").succeeds().serves("v1");
    assert!(!marker.exists());
    world.run(Verb::Install, Selector::Tracked).changes_nothing().succeeds();
    assert!(marker.exists());
    world.deploy("broken").exits(3);
    assert!(marker.exists());
}

#[test]
fn a_second_install_changes_nothing() {
    let mut world = World::installed("v1");
    world.run(Verb::Install, Selector::Tracked).changes_nothing().succeeds().serves("v1");
}

#[test]
fn a_deploy_replaces_one_instance_after_another() {
    let mut world = World::installed("v1");
    let ran = world.deploy("v2").logs("ASTRA_RELEASE", "2").calls(&[
        "pull 127.0.0.1",
        "StartUnit astra-migrate.service",
        "StopUnit astra-app@1.service",
        "StartUnit astra-app@1.service",
        "StopUnit astra-app@2.service",
        "StartUnit astra-app@2.service",
    ]);
    let world = ran.never_calls("StopUnit astra-caddy").succeeds();
    world.serves("v2");
    assert_eq!(world.release(), 2);
    assert!(world.text("/etc/astra/last_app_image").contains(&digest("v1")));
}

#[test]
fn a_deploy_of_the_serving_image_changes_nothing() {
    let mut world = World::installed("v1");
    world.deploy("v1").changes_nothing().succeeds().serves("v1");
}

#[test]
fn a_single_instance_is_replaced_by_way_of_a_spare() {
    let mut world = World::new().config("[app]\n", "[app]\ninstances = 1\n").install("v1");
    let calls = [
        "StartUnit astra-app@2.service",
        "StopUnit astra-app@1.service",
        "StartUnit astra-app@1.service",
        "StopUnit astra-app@2.service",
    ];
    world.deploy("v2").calls(&calls).succeeds().serves("v2");
}

#[test]
fn a_digest_is_migrated_once() {
    let mut world = World::installed("v1");
    world.deploy("v2").succeeds();
    world.deploy("v1").never_calls("StartUnit astra-migrate").succeeds().serves("v1");
}

#[test]
fn a_digest_deployed_by_hand_is_pinned_until_a_plain_deploy() {
    let mut world = World::installed("v1").config("[deploy]\n", "[deploy]\nauto = true\n");
    world.publish("v2");
    world.tag("shop:latest", "v1");
    world.deploy_sha("v2").succeeds().serves("v2");
    assert!(world.history().pinned);
    world.timer().reconcile().changes_nothing();
    world.serves("v2");
    world.deploy("v3").succeeds().serves("v3");
    assert!(!world.history().pinned);
}

#[test]
fn a_digest_that_the_registry_does_not_have_is_not_deployed() {
    let mut world = World::installed("v1");
    let ran = world.deploy_sha("unknown").says("manifest unknown");
    ran.exits(1).serves("v1");
    assert!(!world.is_held("unknown"));
}

#[test]
fn a_held_release_is_refused_until_it_is_forced() {
    let mut world = World::installed("v1");
    world.image("v2", App::Exits(3), Migration::Passes);
    world.deploy("v2").exits(3).serves("v1");
    assert!(world.is_held("v2"));
    world.deploy("v2").says("held").changes_nothing().exits(1);
    world.image("v2", App::Ready, Migration::Passes);
    world.force().deploy("v2").succeeds().serves("v2");
    assert!(!world.is_held("v2"));
}

#[test]
fn a_first_release_that_fails_leaves_no_instance_and_is_not_held() {
    let mut world = World::new();
    world.image("v1", App::Exits(3), Migration::Passes);
    world.publish("v1");
    let ran = world.run(Verb::Install, Selector::Tracked).says("exit code 3");
    ran.exits(3).is_tidy();
    assert!(!world.is_held("v1"));
    assert_eq!(world.text("/etc/astra/astra.env"), "");
    assert_eq!(world.shared.lock().units["astra-app@1.service"].active, "inactive");
    world.install("v2").serves("v2");
}

#[test]
fn a_registry_that_is_down_stops_a_deploy_before_it_begins() {
    let mut world = World::installed("v1");
    world.fault("HEAD /v2/shop/", How::Status(503, ""));
    world.deploy("v2").says("gave up after").changes_nothing().exits(1).serves("v1");
}

#[test]
fn a_port_that_another_process_has_stops_a_deploy_before_it_begins() {
    let mut world = World::installed("v1").config("[app]\n", "[app]\ninstances = 3\n");
    let base = world.base_port();
    let taken = std::net::TcpListener::bind(("127.0.1.3", base + 3)).unwrap();
    world.deploy("v2").says("another process listens").never_calls("StartUnit astra-app").exits(1);
    drop(taken);
    world.deploy("v2").succeeds().serves("v2");
}

#[test]
fn a_restart_replaces_each_container_and_nothing_else() {
    let mut world = World::installed("v1");
    let before = world.shared.lock().units["astra-app@2.service"].invocation;
    let ran = world.run(Verb::Deploy, Selector::Restart).never_calls("pull");
    let ran = ran.never_calls("StartUnit astra-migrate").calls(&[
        "StopUnit astra-app@1.service",
        "StartUnit astra-app@1.service",
        "StopUnit astra-app@2.service",
        "StartUnit astra-app@2.service",
    ]);
    ran.succeeds().serves("v1");
    assert_ne!(world.shared.lock().units["astra-app@2.service"].invocation, before);
    assert_eq!(world.release(), 1);
}

#[test]
fn after_a_power_cut_in_a_pull_the_store_is_checked_first() {
    let mut world = World::installed("v1");
    world.write("/var/lib/astra-agent/unflushed", "");
    world.deploy("v2").says("the image store was checked and repaired").succeeds().serves("v2");
    assert!(!world.root.join("var/lib/astra-agent/unflushed").exists());
}

#[test]
fn a_deploy_waits_for_the_migration_of_a_killed_run() {
    let mut world = World::installed("v1");
    world.image("v2", App::Ready, Migration::Runs);
    world.kill_at("StartUnit astra-migrate.service").deploy("v2").was_killed();
    let ran = world.deploy("v3").says("waiting for an earlier migration to end");
    ran.exits(1).serves("v1");
    assert!(!world.is_held("v3"));
    world.systemctl("StopUnit", "astra-migrate.service");
    world.deploy("v3").succeeds().serves("v3");
}

#[test]
fn a_deploy_goes_on_when_the_bus_restarts_while_an_instance_starts() {
    let mut world = World::installed("v1");
    world.faults("StartUnit astra-app@1.service", How::Late(Duration::from_secs(3)), 0, 1);
    world.restart_bus_at("StartUnit astra-app@1.service");
    world.deploy("v2").succeeds().serves("v2");
}

#[test]
fn ctrl_c_in_a_move_to_another_port_first_brings_the_instance_back() {
    let mut world = World::installed("v1").config("[app]\n", "[app]\ninstances = 1\n");
    world.change_config("[deploy]\n", "[deploy]\nstrategy = \"rolling\"\n");
    world.deploy("v1").succeeds();
    let base = world.base_port();
    world.change_config(&format!("base_port = {base}"), &format!("base_port = {}", base + 4));
    world.interrupt_at("StartUnit astra-app@1.service");
    world.deploy("v1").calls(&["StartUnit astra-app@1.service", "load"]).exits(1).serves("v1");
    world.run(Verb::Reconcile, Selector::Keep).succeeds().serves("v1");
}

#[test]
fn ctrl_c_in_a_move_ends_between_two_instances() {
    let mut world = World::installed("v1");
    let base = world.base_port();
    world.change_config(&format!("base_port = {base}"), &format!("base_port = {}", base + 3));
    // The ports rise, so the last instance moves first.
    world.interrupt_at("StartUnit astra-app@2.service");
    let ran = world.deploy("v1").calls(&["StartUnit astra-app@2.service", "load"]);
    ran.never_calls("StopUnit astra-app@1.service").exits(4).serves("v1");
    let ran = world.deploy("v1").calls(&["StartUnit astra-app@1.service", "load"]);
    ran.never_calls("StopUnit astra-app@2.service").succeeds().serves("v1");
}

#[test]
fn errors_for_visitors_during_the_soak_take_a_release_back() {
    let limit = |world: World| world.config("soak = \"1s\"", "soak = \"1s\"\nmax_5xx = \"5%\"");
    let mut world = limit(World::installed("v1"));
    world.deploy("v2").succeeds().serves("v2");
    world.shared.lock().caddy.errors = 5;
    let ran = world.deploy("v3").says("answers to visitors had a status of 5xx, limit 5 %");
    ran.exits(3).serves("v2");
    assert!(world.is_held("v3"));
    // An operator who insists is not judged.
    world.force().deploy("v3").succeeds().serves("v3");
    // A rollback is not judged, nor is a release without the limit.
    world.run(Verb::Rollback, Selector::Rollback(RollbackTarget::Nearest)).succeeds().serves("v2");
    world.change_config("\nmax_5xx = \"5%\"", "");
    world.deploy("v4").succeeds().serves("v4");
}

#[test]
fn answers_that_caddy_does_not_count_are_told_and_judge_nothing() {
    let mut world = World::installed("v1").config("soak = \"1s\"", "soak = \"1s\"\nmax_5xx = \"5%\"");
    world.fault("GET /metrics", How::Status(500, "none"));
    world.deploy("v2").says("no answer was judged").succeeds().serves("v2");
}
