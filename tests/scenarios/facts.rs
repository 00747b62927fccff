//! Variables whose values are facts of the EC2 instance.

use astra_agent::converge::{RollbackTarget, Selector};
use astra_agent::model::entry::Verb;

use crate::state::How;
use crate::units;
use crate::world::World;

const TOKEN: &str = "PUT /latest/api/token";

fn on_ec2(address: &str) -> World {
    let env =
        "[env]\nHOSTS = { host = [\"public-hostname\", \"public-ipv4\"], also = [\"localhost\"] }\n[migrate]";
    let world = World::new().config("[migrate]", env);
    world.shared.lock().facts.insert("public-ipv4".to_owned(), address.to_owned());
    world
}

fn hosts(world: &World) -> Option<String> {
    units::lines(&world.text("/etc/astra/astra.env")).get("HOSTS").cloned()
}

#[test]
fn a_release_gets_the_facts_of_its_instance() {
    let mut world = on_ec2("203.0.113.7").install("v1");
    assert_eq!(hosts(&world).as_deref(), Some("203.0.113.7,localhost"));
    // Neither the timer nor a restart or a rollback asks; the timer with `auto` does for another image alone.
    world.reconcile().never_calls(TOKEN).succeeds();
    assert_eq!(world.timer().run(Verb::Reconcile, Selector::Tracked).changes_nothing().code(), 0);
    world.run(Verb::Deploy, Selector::Restart).never_calls(TOKEN).succeeds();
    world.shared.lock().facts.insert("public-ipv4".to_owned(), "203.0.113.8".to_owned());
    world.deploy("v2").calls(&[TOKEN]).succeeds().serves("v2");
    assert_eq!(hosts(&world).as_deref(), Some("203.0.113.8,localhost"));
}

#[test]
fn a_mute_metadata_service_changes_nothing() {
    let mut world = on_ec2("203.0.113.7").install("v1");
    for (how, version) in [(How::Hangs, "v2"), (How::Status(403, ""), "v3")] {
        world.heal();
        world.fault(TOKEN, how);
        world.deploy(version).says("HOSTS keeps its committed value").succeeds().serves(version);
        assert_eq!(hosts(&world).as_deref(), Some("203.0.113.7,localhost"));
        let back = world.run(Verb::Rollback, Selector::Rollback(RollbackTarget::Nearest));
        back.never_calls(TOKEN).succeeds().serves("v1");
    }
}

#[test]
fn a_variable_that_was_never_committed_does_not_stop_a_rollback() {
    let mut world = World::installed("v1");
    world.deploy("v2").succeeds();
    world.change_config("[migrate]", "[env]\nHOSTS = { host = \"public-ipv4\" }\n[migrate]");
    world.fault(TOKEN, How::Hangs);
    let back = world.run(Verb::Rollback, Selector::Rollback(RollbackTarget::Nearest));
    back.never_calls(TOKEN).says("HOSTS gets its value with the next `deploy`").succeeds().serves("v1");
    assert_eq!(hosts(&world), None);
}

#[test]
fn a_fact_that_is_gone_is_told() {
    let mut world = on_ec2("203.0.113.7").install("v1");
    world.shared.lock().facts.clear();
    world.deploy("v2").says("HOSTS: this instance has no public-hostname and no public-ipv4").succeeds();
    assert_eq!(hosts(&world).as_deref(), Some("localhost"));
}

#[test]
fn a_first_release_needs_its_facts() {
    let mut world = on_ec2("203.0.113.7");
    world.fault(TOKEN, How::Status(405, ""));
    world.publish("v1");
    let ran = world.run(Verb::Install, Selector::Tracked);
    ran.says("setting HOSTS in the env file").says("it does not know IMDSv2").exits(2);
}
