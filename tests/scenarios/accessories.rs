//! Accessories: started by the first deploy, changed by their own verbs alone.

use astra_agent::converge::{RollbackTarget, Selector};
use astra_agent::model::entry::Verb;

use crate::ran::Ran;
use crate::state::{App, How, Migration, digest};
use crate::units::FAILS;
use crate::world::World;

const UNIT: &str = "astra-redis@1.service";
const FILE: &str = "/etc/astra/astra-redis.env";

/// A site with an accessory, without its first deploy.
fn site() -> World {
    let world = World::new();
    let registry = world.registry();
    let redis = format!(
        "[services.redis]\nkind = \"accessory\"\nimage = \"{registry}/redis:7\"\ncommand = [\"serve\"]\n\
         secrets = {{ PASSWORD = \"CACHE_PASSWORD\" }}\n[env]\nCACHE_PASSWORD = {{ generate = 16 }}\n"
    );
    world.image("redis-old", App::Ready, Migration::Passes);
    world.image("redis-new", App::Ready, Migration::Passes);
    world.image("redis-bad", App::Exits(1), Migration::Passes);
    world.tag("redis:7", "redis-old");
    world.config("[deploy]\n", &format!("{redis}[deploy]\n"))
}

/// Puts other lines in place of the accessory's table.
fn replace_table(world: &mut World, lines: &str) {
    let at = |text: &str| world.config.find(text).unwrap();
    let range = at("[services.redis]")..at("[env]");
    world.config.replace_range(range, lines);
}

fn verb(world: &mut World, verb: Verb) -> Ran<'_> {
    world.run(verb, Selector::Accessory("redis".parse().unwrap()))
}

fn upgrade(world: &mut World) -> Ran<'_> {
    verb(world, Verb::AccessoryUpgrade)
}

fn restart(world: &mut World) -> Ran<'_> {
    verb(world, Verb::AccessoryRestart)
}

#[track_caller]
fn runs(world: &World, image: &str) {
    runs_beside(world, image, "v1");
}

#[track_caller]
fn runs_beside(world: &World, image: &str, release: &str) {
    let state = world.shared.lock();
    let container = &state.containers["astra-redis-1"];
    assert!(container.labels["astra.image"].contains(&digest(image)), "{:?}", container.labels);
    assert!(state.text(FILE).contains(&digest(image)), "{}", state.text(FILE));
    for path in ["/run/astra/trial-redis-1.env", "/run/astra/trial.env"] {
        assert!(!state.is_there(path), "{path}");
    }
    drop(state);
    world.serves(release);
}

fn container(world: &World) -> u128 {
    world.shared.lock().units[UNIT].invocation
}

#[test]
fn the_first_deploy_starts_it_before_the_release_and_later_ones_leave_it_alone() {
    let mut world = site();
    world.publish("v1");
    let order = [
        "create network astra-site",
        "StartUnit astra-redis@1",
        "StartUnit astra-migrate",
        "StartUnit astra-app@1",
    ];
    world.run(Verb::Install, Selector::Tracked).calls(&order).succeeds();
    runs(&world, "redis-old");
    assert!(world.shared.lock().enabled.contains(UNIT));
    let before = container(&world);
    world.tag("redis:7", "redis-new");
    world.deploy("v2").never_calls(UNIT).succeeds();
    world.deploy("v2").changes_nothing().succeeds();
    world.deploy_sha("v1").never_calls(UNIT).succeeds();
    world.reconcile().changes_nothing().succeeds();
    assert_eq!(container(&world), before);
    runs(&world, "redis-old");
}

#[test]
fn its_secret_is_in_its_own_file_and_the_same_in_that_of_the_app() {
    let world = site().install("v1");
    let value = |path: &str, key: &str| crate::units::lines(&world.text(path))[key].clone();
    let password = value("/etc/astra/astra.env", "CACHE_PASSWORD");
    assert_eq!(password.len(), 16);
    assert_eq!(value(FILE, "PASSWORD"), password);
    assert!(!world.text(FILE).contains("CACHE_PASSWORD"));
}

#[test]
fn a_first_start_that_fails_leaves_no_trace_and_the_release_is_not_tried() {
    let mut world = site();
    world.publish("v1");
    world.tag("redis:7", "redis-bad");
    world.run(Verb::Install, Selector::Tracked).never_calls("StartUnit astra-app").exits(3);
    assert!(!world.shared.lock().is_there(FILE));
    let password = crate::units::lines(&world.text("/etc/astra/astra.staged.env"))["CACHE_PASSWORD"].clone();
    world.tag("redis:7", "redis-old");
    world.run(Verb::Install, Selector::Tracked).succeeds();
    runs(&world, "redis-old");
    assert_eq!(crate::units::lines(&world.text(FILE))["PASSWORD"], password);
}

#[test]
fn an_upgrade_runs_the_current_image_and_touches_no_instance() {
    let mut world = site().install("v1");
    upgrade(&mut world).changes_nothing().succeeds();
    world.tag("redis:7", "redis-new");
    let calls = ["pull", "StopUnit astra-redis@1", "StartUnit astra-redis@1"];
    upgrade(&mut world).calls(&calls).never_calls("StopUnit astra-app").succeeds();
    runs(&world, "redis-new");
    world.reconcile().changes_nothing().succeeds();
}

#[test]
fn an_upgrade_that_fails_goes_back() {
    let mut world = site().install("v1");
    world.tag("redis:7", "redis-bad");
    upgrade(&mut world).says("cannot reach the database").exits(3);
    runs(&world, "redis-old");
    world.reconcile().changes_nothing().succeeds();
    // Nothing is held: the next attempt is a new one.
    world.tag("redis:7", "redis-new");
    upgrade(&mut world).succeeds();
    runs(&world, "redis-new");
}

#[test]
fn settings_change_with_a_restart_and_a_bad_one_goes_back() {
    let mut world = site().install("v1");
    let before = container(&world);
    world.change_config("[\"serve\"]", "[\"serve\", \"--more\"]");
    world.reconcile().never_calls(UNIT).succeeds();
    world.deploy("v1").never_calls(UNIT).succeeds();
    assert_eq!(container(&world), before);
    restart(&mut world).calls(&["StartUnit astra-redis@1"]).succeeds();
    assert!(world.text(FILE).contains("--more"));
    world.change_config("[\"serve\", \"--more\"]", &format!("[\"{FAILS}\"]"));
    restart(&mut world).exits(3);
    runs(&world, "redis-old");
    assert!(world.text(FILE).contains("--more"));
}

#[test]
fn an_upgrade_killed_at_any_step_ends_with_one_image_or_the_other() {
    for step in 0.. {
        let mut world = site().install("v1");
        world.tag("redis:7", "redis-new");
        world.kill_before(step);
        let ended = upgrade(&mut world).is_ended();
        world.recover();
        let file = world.text(FILE);
        runs(&world, if file.contains(&digest("redis-new")) { "redis-new" } else { "redis-old" });
        world.reconcile().changes_nothing().succeeds();
        if ended {
            assert!(step > 6, "only {step} steps");
            return;
        }
    }
}

#[test]
fn a_first_start_killed_at_any_step_leaves_nothing_that_no_file_names() {
    for step in 0.. {
        let mut world = site();
        world.publish("v1");
        world.kill_before(step);
        let ended = world.run(Verb::Install, Selector::Tracked).is_ended();
        world.recover();
        let runs = world.shared.lock().containers.contains_key("astra-redis-1");
        assert_eq!(runs, world.shared.lock().is_there(FILE), "killed before step {step}");
        world.run(Verb::Install, Selector::Tracked).succeeds();
        runs_beside(&world, "redis-old", "v1");
        if ended {
            assert!(step > 20, "only {step} steps");
            return;
        }
    }
}

#[test]
fn a_lost_file_is_no_first_start() {
    let mut world = site().install("v1");
    let text = world.text(FILE);
    let path = world.root.join(FILE.trim_start_matches('/'));
    std::fs::remove_file(&path).unwrap();
    world.tag("redis:7", "redis-new");
    world.reconcile().never_calls(UNIT).succeeds();
    world.deploy("v2").never_calls(UNIT).succeeds();
    restart(&mut world).never_calls(UNIT).says("is lost; its last run did: pin redis to").exits(2);
    world.write(FILE, &text);
    runs_beside(&world, "redis-old", "v2");
    // A link to a file elsewhere is not followed, and is no first start either.
    std::fs::rename(&path, path.with_extension("moved")).unwrap();
    std::os::unix::fs::symlink(path.with_extension("moved"), &path).unwrap();
    world.deploy("v1").never_calls(UNIT).succeeds();
    upgrade(&mut world).never_calls(UNIT).says("names no image that can be read").exits(2);
    std::fs::remove_file(&path).unwrap();
    upgrade(&mut world).calls(&["StartUnit astra-redis@1"]).succeeds();
    runs_beside(&world, "redis-new", "v1");
}

#[test]
fn a_release_is_not_tried_while_an_accessory_is_down() {
    let mut world = site().install("v1");
    world.systemctl("StopUnit", UNIT);
    world.fault("StartUnit astra-redis@1", How::Ends("failed"));
    world.deploy("v2").says("redis did not come back").never_calls("StartUnit astra-migrate").exits(4);
    world.deploy_sha("v2").never_calls("StopUnit astra-app").exits(4);
    world.heal();
    world.deploy("v2").succeeds();
    world.systemctl("StopUnit", UNIT);
    world.fault("StartUnit astra-redis@1", How::Ends("failed"));
    world.run(Verb::Rollback, Selector::Rollback(RollbackTarget::Nearest)).succeeds();
}

#[test]
fn a_timer_that_deploys_starts_a_new_accessory_first() {
    let mut world = site();
    let config = world.config.clone();
    replace_table(&mut world, "");
    world = world.config("[deploy]\n", "[deploy]\nauto = true\n").install("v1");
    world.config = config.replace("[deploy]\n", "[deploy]\nauto = true\n");
    world.timer().reconcile().never_calls(UNIT).succeeds();
    world.publish("v2");
    let order = ["StartUnit astra-redis@1", "StartUnit astra-migrate", "StartUnit astra-app@1"];
    world.timer().reconcile().calls(&order).succeeds();
    runs_beside(&world, "redis-old", "v2");
}

#[test]
fn a_worker_that_is_to_be_an_accessory_stays_a_service_until_it_is_out_of_the_release() {
    let mut world = site();
    let accessory = world.config.clone();
    replace_table(&mut world, "[services.redis]\ninstances = 2\ncommand = [\"work\"]\n");
    let worker = world.config.clone();
    world = world.install("v1");
    world.config = accessory.clone();
    world.deploy("v2").says("first deploy without [services.redis]").exits(2);
    world.config = worker.replace("[services.redis]\ninstances = 2\ncommand = [\"work\"]\n", "");
    world.deploy("v2").succeeds();
    world.config = accessory;
    world.deploy("v2").calls(&["StartUnit astra-redis@1"]).succeeds();
    runs_beside(&world, "redis-old", "v2");
}

#[test]
fn a_signal_before_the_pin_goes_back_and_after_it_the_upgrade_ends() {
    let mut world = site().install("v1");
    world.tag("redis:7", "redis-new");
    world.interrupt_at("StartUnit astra-redis@1");
    upgrade(&mut world).exits(1);
    runs(&world, "redis-old");
}

#[test]
fn one_that_is_down_comes_back_and_does_not_stop_the_rest() {
    let mut world = site().install("v1");
    world.systemctl("StopUnit", UNIT);
    world.fault("StartUnit astra-redis@1", How::Ends("failed"));
    world.systemctl("StopUnit", "astra-app@2.service");
    world.reconcile().says("redis did not come back").calls(&["StartUnit astra-app@2"]).exits(4);
    world.heal();
    world.reconcile().calls(&["StartUnit astra-redis@1"]).succeeds();
    runs(&world, "redis-old");
}

#[test]
fn a_secret_without_a_value_refuses_the_deploy() {
    let mut world = site().config("CACHE_PASSWORD = { generate = 16 }", "OTHER = \"1\"");
    world.publish("v1");
    world
        .run(Verb::Install, Selector::Tracked)
        .says("a secret of the accessory redis, has no value")
        .exits(2);
}

#[test]
fn an_edited_file_is_named_and_what_runs_is_left_alone() {
    let mut world = site().install("v1");
    let text = world.text(FILE);
    world.write(FILE, &text.replace(&digest("redis-old"), "latest"));
    world.reconcile().never_calls(UNIT).succeeds();
    restart(&mut world).never_calls(UNIT).says("names no image that can be read").exits(2);
    world.deploy("v2").never_calls(UNIT).succeeds();
    world.write(FILE, &text);
    runs_beside(&world, "redis-old", "v2");
}

#[test]
fn one_that_left_agent_toml_is_stopped_and_keeps_its_file() {
    let mut world = site().install("v1");
    replace_table(&mut world, "");
    world.reconcile().calls(&["StopUnit astra-redis@1"]).succeeds();
    assert!(world.text(FILE).contains(&digest("redis-old")));
}
