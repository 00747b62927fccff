//! Files of a release that are lost, and those of accessories.

use astra_agent::converge::{RollbackTarget, Selector};
use astra_agent::model::entry::Verb;

use crate::own_files::{DIR, deploy, env, files, kept, site};
use crate::state::{App, Migration};
use crate::world::World;

/// The same with an accessory that has a file, serving v1; also the lines of its tables.
fn site_with_redis() -> (World, String) {
    let world = site();
    let redis = format!(
        "[services.redis]\nkind = \"accessory\"\nimage = \"{}/redis:7\"\n\
         [files.redis]\ncontent = \"save {{{{ RELAY }}}}\\n\"\nmount = {{ services = [\"redis\"], path = \"/etc/redis\" }}\n",
        world.registry()
    );
    world.image("redis", App::Ready, Migration::Passes);
    world.tag("redis:7", "redis");
    (world.config("[deploy]\n", &format!("{redis}[deploy]\n")).install("v1"), redis)
}

#[test]
fn lost_and_changed_files_are_made_again_and_those_of_others_stay() {
    let mut world = site().install("v1");
    let names = kept(&world);
    world.write(&format!("{DIR}/{}", names[0]), "SESSION_KEY=stolen\n");
    std::fs::remove_file(world.root.join("etc/astra/files").join(&names[1])).unwrap();
    world.write(&format!("{DIR}/notes.txt"), "of an operator");
    world.reconcile().succeeds();
    assert_eq!(kept(&world).len(), 3);
    std::fs::remove_file(world.root.join("etc/astra/files/notes.txt")).unwrap();
    assert_eq!(kept(&world), names);
    assert!(!world.text(&format!("{DIR}/{}", names[0])).contains("stolen"));
    world.reconcile().changes_nothing().succeeds();
}

#[test]
fn an_accessory_takes_a_changed_file_with_its_own_verb_and_goes_back() {
    let (mut world, _) = site_with_redis();
    let saved = |world: &World| files(world, "astra-redis-1")["/etc/redis"].clone();
    let restart = |world: &mut World| {
        world.run(Verb::AccessoryRestart, Selector::Accessory("redis".parse().unwrap())).code()
    };
    world.change_config("\"save ", "\"keep ");
    deploy(&mut world).changes_nothing().succeeds();
    assert_eq!(saved(&world), "save mx1\n");
    assert_eq!(restart(&mut world), 0);
    assert_eq!(saved(&world), "keep mx1\n");
    world.change_config("\"keep ", "\"fail ");
    assert_eq!(restart(&mut world), 3);
    assert_eq!(saved(&world), "keep mx1\n");
    // A file that a pin names is not removed by a deploy or reconcile.
    world.deploy("v2").succeeds();
    world.reconcile().succeeds();
    world.systemctl("RestartUnit", "astra-redis@1.service");
    assert_eq!(saved(&world), "keep mx1\n");
}

#[test]
fn the_files_of_an_accessory_stay_while_its_table_is_out_of_the_config() {
    let (mut world, redis) = site_with_redis();
    world.change_config(&redis, "");
    world.reconcile().succeeds();
    // Another value, and releases that remove files.
    world.change_config("\"mx1\"", "\"mx2\"");
    world.deploy("v2").succeeds();
    world.deploy("v3").succeeds();
    world.change_config("[deploy]\n", &format!("{redis}[deploy]\n"));
    world.reconcile().succeeds();
    assert_eq!(files(&world, "astra-redis-1")["/etc/redis"], "save mx1\n");
}

#[test]
fn something_else_in_place_of_the_directory_hinders_only_releases_that_use_it() {
    let mut world = World::installed("v1");
    world.write(DIR, "");
    world.deploy("v2").succeeds().serves("v2");
    world.run(Verb::Rollback, Selector::Rollback(RollbackTarget::Nearest)).succeeds().serves("v1");
}

#[test]
fn an_instance_that_serves_is_not_stopped_for_a_release_whose_files_are_lost() {
    let mut world = site().install("v1");
    let backup = world.text("/etc/astra/astra.env");
    world.change_config("COLOUR = \"green\"", "COLOUR = \"blue\"");
    world.change_config("SESSION_KEY =", "OTHER_KEY =");
    deploy(&mut world).succeeds();
    for name in kept(&world).iter().filter(|name| backup.contains(name.as_str())) {
        std::fs::remove_file(world.root.join("etc/astra/files").join(name)).unwrap();
    }
    world.write("/etc/astra/astra.env", &backup);
    world.reconcile().never_calls("StopUnit astra-front");
    assert_eq!(env(&world, "astra-front-1").keys().collect::<Vec<_>>(), ["OTHER_KEY"]);
    // A deploy of today's settings ends it.
    deploy(&mut world).succeeds();
    world.serves("v1");
}

#[test]
fn an_accessory_that_serves_is_not_stopped_for_a_pin_whose_files_are_lost() {
    let (mut world, _) = site_with_redis();
    let restart = |world: &mut World| {
        world.run(Verb::AccessoryRestart, Selector::Accessory("redis".parse().unwrap())).code()
    };
    let backup = world.text("/etc/astra/astra-redis.env");
    world.change_config("\"save ", "\"keep ");
    assert_eq!(restart(&mut world), 0);
    for name in kept(&world).iter().filter(|name| backup.contains(name.as_str())) {
        std::fs::remove_file(world.root.join("etc/astra/files").join(name)).unwrap();
    }
    world.write("/etc/astra/astra-redis.env", &backup);
    world.reconcile().never_calls("StopUnit astra-redis").code();
    assert_eq!(files(&world, "astra-redis-1")["/etc/redis"], "keep mx1\n");
    assert_eq!(restart(&mut world), 0);
}

#[test]
fn nothing_is_removed_while_the_pin_of_an_accessory_cannot_be_read() {
    let (mut world, _) = site_with_redis();
    let pin = world.text("/etc/astra/astra-redis.env");
    let of_pin: Vec<_> = kept(&world).into_iter().filter(|name| pin.contains(name.as_str())).collect();
    world.change_config("\"save ", "\"keep ");
    world.write("/etc/astra/astra-redis.env", "APP_IMAGE=nonsense\nASTRA_RELEASE=1\n");
    world.deploy("v2");
    world.deploy("v3");
    assert!(of_pin.iter().all(|name| kept(&world).contains(name)), "{:?}", kept(&world));
    world.write("/etc/astra/astra-redis.env", &pin);
    world.reconcile().succeeds();
}

#[test]
fn a_restart_is_refused_while_a_file_is_lost_that_cannot_be_made_again() {
    let mut world = site().install("v1");
    world.change_config("relay =", "smtp =");
    let lost: Vec<_> = kept(&world).into_iter().filter(|name| name.starts_with("mail")).collect();
    std::fs::remove_file(world.root.join("etc/astra/files").join(&lost[0])).unwrap();
    let again = Selector::Restart;
    world.run(Verb::Deploy, again).says("is lost").never_calls("StopUnit").exits(1);
    deploy(&mut world).succeeds();
    world.serves("v1");
}
