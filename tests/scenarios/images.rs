//! A site whose services have images of their own: one release of all of them.

use std::collections::BTreeMap;

use astra_agent::converge::{Choice, RollbackTarget, Selector};
use astra_agent::model::entry::Verb;
use astra_agent::model::image::DigestArg;

use crate::ran::Ran;
use crate::state::{App, How, Migration, digest};
use crate::world::World;

const APP: &str = "StartUnit astra-app";
const FRONT: &str = "StartUnit astra-front@1";
const MAIL: &str = "StartUnit astra-mail@1";
const TABLE: &str = "[services.mail]\nkind = \"worker\"\nimage = \"REGISTRY/mail:1\"\n";

/// A front end and a worker, each with a repository of its own, without the first deploy.
fn site() -> World {
    let world = World::new();
    let (base, registry) = (world.base_port() + 3, world.registry().to_owned());
    let front = format!(
        "[services.front]\nimage = \"REGISTRY/front:latest\"\nport = 3000\nbase_port = {base}\n\
         route.path = \"/front\"\nreadiness.timeout = \"20s\"\n"
    );
    for name in ["front-1", "front-2", "front-3", "mail-1"] {
        world.image(name, App::Ready, Migration::Passes);
    }
    world.image("front-bad", App::Silent, Migration::Passes);
    world.tag("front:latest", "front-1");
    world.tag("mail:1", "mail-1");
    world.config("[deploy]\n", &format!("{front}{TABLE}[deploy]\n").replace("REGISTRY", &registry))
}

/// Deploys after a push of another front end.
pub fn deploy_front<'w>(world: &'w mut World, name: &str) -> Ran<'w> {
    world.tag("front:latest", name);
    world.run(Verb::Deploy, Selector::Tracked)
}

pub fn rollback(world: &mut World) -> Ran<'_> {
    world.run(Verb::Rollback, Selector::Rollback(RollbackTarget::Nearest))
}

/// The images in astra.env: those of the app and of the front end.
#[track_caller]
fn runs(world: &World, app: &str, front: &str) {
    world.serves(app);
    let lines = crate::units::lines(&world.text("/etc/astra/astra.env"));
    assert!(lines["FRONT_IMAGE"].ends_with(&digest(front)), "{lines:?}");
    assert!(lines["MAIL_IMAGE"].ends_with(&digest("mail-1")), "{lines:?}");
}

#[test]
fn a_new_image_of_one_service_restarts_that_service_alone() {
    let mut world = site().install("v1");
    runs(&world, "v1", "front-1");
    deploy_front(&mut world, "front-2").calls(&[FRONT]).never_calls(APP).never_calls(MAIL).succeeds();
    runs(&world, "v1", "front-2");
    world.deploy("v1").changes_nothing().succeeds();
    world.reconcile().changes_nothing().succeeds();
    world.deploy("v2").calls(&[APP]).never_calls(FRONT).never_calls(MAIL).succeeds();
    runs(&world, "v2", "front-2");
}

#[test]
fn a_rollback_takes_the_images_of_all_services_back_without_a_registry() {
    let mut world = site().install("v1");
    deploy_front(&mut world, "front-2").succeeds();
    world.fault("HEAD /v2/", How::Status(500, "down"));
    rollback(&mut world).calls(&[FRONT]).never_calls(APP).succeeds();
    runs(&world, "v1", "front-1");
    // The images rolled back from are held, those that serve are not.
    world.heal();
    world.run(Verb::Deploy, Selector::Tracked).says("is held").exits(1);
    world.tag("front:latest", "front-1");
    world.run(Verb::Deploy, Selector::Tracked).succeeds();
    world.deploy("v2").succeeds();
    runs(&world, "v2", "front-1");
}

#[test]
fn an_image_rolled_back_from_does_not_come_back_beside_another() {
    let mut world = site().config("[deploy]\n", "[deploy]\nauto = true\n").install("v1");
    deploy_front(&mut world, "front-2").succeeds();
    rollback(&mut world).succeeds();
    world.publish("v2");
    // The release is pinned, also after a deploy of the other service.
    assert_eq!(world.timer().reconcile().changes_nothing().code(), 0);
    world.deploy("v2").says("is held").exits(1);
    world.only("app").run(Verb::Deploy, Selector::Tracked).calls(&[APP]).never_calls(FRONT).succeeds();
    runs(&world, "v2", "front-1");
    assert_eq!(world.timer().reconcile().changes_nothing().code(), 0);
    // The tags are followed again by a plain deploy.
    deploy_front(&mut world, "front-1").succeeds();
    world.tag("front:latest", "front-2");
    assert_eq!(world.timer().reconcile().changes_nothing().code(), 0);
    world.force().run(Verb::Deploy, Selector::Tracked).succeeds();
    runs(&world, "v2", "front-2");
}

#[test]
fn of_two_images_rolled_back_from_each_may_come_back_beside_another() {
    let mut world = site().install("v1");
    world.tag("front:latest", "front-2");
    world.deploy("v2").succeeds();
    rollback(&mut world).succeeds();
    world.run(Verb::Deploy, Selector::Tracked).says("is held").exits(1);
    world.tag("front:latest", "front-3");
    world.deploy("v2").succeeds();
    runs(&world, "v2", "front-3");
}

#[test]
fn the_timer_tries_a_bad_image_once_whatever_comes_beside_it() {
    let mut world = site().config("[deploy]\n", "[deploy]\nauto = true\n").install("v1");
    world.tag("front:latest", "front-bad");
    world.timer().reconcile().exits(3);
    world.publish("v2");
    assert_eq!(world.timer().reconcile().changes_nothing().code(), 0);
    // Nor does it come back when the service was out of the release in between.
    let front = world.config.find("[services.front]").unwrap()..world.config.find("[services.mail]").unwrap();
    let table = world.config[front].to_owned();
    world.change_config(&table, "");
    world.run(Verb::Deploy, Selector::Tracked).succeeds();
    world.change_config("[services.mail]", &format!("{table}[services.mail]"));
    world.run(Verb::Deploy, Selector::Tracked).says("is held").exits(1);
    world.tag("front:latest", "front-2");
    world.run(Verb::Deploy, Selector::Tracked).succeeds();
    runs(&world, "v2", "front-2");
}

#[test]
fn an_app_that_failed_is_not_tried_again_beside_a_new_front_end() {
    let mut world = site().install("v1");
    world.image("bad", App::Silent, Migration::Passes);
    world.deploy("bad").exits(3);
    world.tag("front:latest", "front-2");
    world.deploy("bad").says("is held").exits(1);
    world.only("front").run(Verb::Deploy, Selector::Tracked).succeeds();
    runs(&world, "v1", "front-2");
}

#[test]
fn a_service_that_gets_an_image_of_its_own_goes_back_with_the_app_until_then() {
    let mut world =
        World::new().config("[deploy]\n", "[services.mail]\nkind = \"worker\"\n[deploy]\n").install("v1");
    world.deploy("v2").succeeds();
    let own = format!("kind = \"worker\"\nimage = \"{}/mail:1\"\n", world.registry());
    world.change_config("kind = \"worker\"\n", &own);
    rollback(&mut world).calls(&[APP, MAIL]).succeeds();
    let lines = crate::units::lines(&world.text("/etc/astra/astra.env"));
    assert_eq!(lines["MAIL_IMAGE"], world.pinned("v1"));
    world.serves("v1");
}

#[test]
fn a_step_forward_again_holds_nothing_and_can_be_taken_back() {
    let mut world = site();
    let table = TABLE.replace("REGISTRY", world.registry());
    world.change_config(&table, "");
    let mut world = world.install("v1");
    world.change_config("[deploy]\n", &format!("{table}[deploy]\n"));
    world.run(Verb::Deploy, Selector::Tracked).succeeds();
    deploy_front(&mut world, "front-2").succeeds();
    rollback(&mut world).succeeds();
    runs(&world, "v1", "front-1");
    let newer = world.history().releases.last().unwrap().number;
    let forward = Selector::Rollback(RollbackTarget::Release(newer));
    world.run(Verb::Rollback, forward).succeeds();
    runs(&world, "v1", "front-2");
    assert!(world.history().held.is_empty());
    rollback(&mut world).succeeds();
    runs(&world, "v1", "front-1");
}

#[test]
fn a_rollback_asks_for_no_image_of_a_service_that_it_leaves_alone() {
    let mut world = site().install("v1");
    world.deploy("v2").succeeds();
    let running = format!("{}/front@{}", world.registry(), digest("front-1"));
    assert!(world.shared.lock().local.remove(&running));
    world.fault("POST /images/create", How::Status(500, "down"));
    world.fault("HEAD /v2/", How::Status(500, "down"));
    rollback(&mut world).calls(&[APP]).never_calls(FRONT).succeeds();
    world.heal();
    // The fake asks a running container's image for its answer.
    world.shared.lock().local.insert(running);
    runs(&world, "v1", "front-1");
}

#[test]
fn a_deploy_by_digest_asks_no_registry_for_the_others() {
    let mut world = site().install("v1");
    world.deploy("v2").succeeds();
    world.fault("HEAD /v2/", How::Status(500, "down"));
    world.deploy_sha("v1").calls(&[APP]).never_calls(FRONT).succeeds();
    runs(&world, "v1", "front-1");
}

#[test]
fn a_line_edited_by_hand_refuses_a_deploy_of_one_service() {
    let mut world = site().install("v1");
    let env = world.text("/etc/astra/astra.env");
    world.write("/etc/astra/astra.env", &format!("{env}GREETING=hello\n"));
    world.tag("front:latest", "front-2");
    let ran = world.only("front").run(Verb::Deploy, Selector::Tracked);
    ran.never_calls("Start").says("was edited by hand, and app reads it as well").exits(1);
}

#[test]
fn a_release_that_fails_by_one_image_is_held_with_that_image_alone() {
    let mut world = site().install("v1");
    world.tag("front:latest", "front-bad");
    world.deploy("v2").calls(&[APP, "StartUnit astra-front@2"]).exits(3);
    runs(&world, "v1", "front-1");
    world.deploy("v2").says("is held").exits(1);
    assert_eq!(world.timer().reconcile().changes_nothing().code(), 0);
    world.tag("front:latest", "front-2");
    world.deploy("v2").succeeds();
    runs(&world, "v2", "front-2");
}

#[test]
fn a_deploy_of_one_service_leaves_the_images_of_the_others() {
    let mut world = site().install("v1");
    world.publish("v2");
    world.tag("front:latest", "front-2");
    world.only("front").run(Verb::Deploy, Selector::Tracked).calls(&[FRONT]).never_calls(APP).succeeds();
    runs(&world, "v1", "front-2");
    world.only("app").run(Verb::Deploy, Selector::Tracked).calls(&[APP]).never_calls(FRONT).succeeds();
    runs(&world, "v2", "front-2");
    world.only("front").run(Verb::Deploy, Selector::Restart).calls(&[FRONT]).never_calls(APP).succeeds();
    runs(&world, "v2", "front-2");
}

#[test]
fn a_deploy_of_one_service_is_refused_when_others_would_change() {
    let mut world = site().install("v1");
    let mut refused = |service: &str, words: &str, code| {
        world.only(service).run(Verb::Deploy, Selector::Tracked).changes_nothing().says(words).exits(code);
    };
    refused("nosuch", "agent.toml has: app, front, mail", 2);
    world.change_config("[deploy]\n", "[env]\nGREETING = \"hello\"\n[deploy]\n");
    let mut refused = |service: &str, words: &str, code| {
        world.only(service).run(Verb::Deploy, Selector::Tracked).changes_nothing().says(words).exits(code);
    };
    refused("front", "the environment changed, which app has as well: GREETING", 1);
    world.run(Verb::Deploy, Selector::Tracked).succeeds();
    let table = TABLE.replace("REGISTRY", world.registry());
    world.change_config(&table, "");
    world.reconcile().succeeds();
    world.only("front").run(Verb::Deploy, Selector::Tracked).says("mail is no longer in agent.toml").exits(1);
}

#[test]
fn an_image_of_the_command_line_stays_until_a_plain_deploy() {
    let mut world = site().install("v1").config("[deploy]\n", "[deploy]\nauto = true\n");
    let choose = |image: &str| {
        let digest = DigestArg { repository: None, digest: digest(image).parse().unwrap() };
        Selector::Chosen(BTreeMap::from([("front".parse().unwrap(), Choice::Digest(digest))]))
    };
    world.publish("v2");
    world.run(Verb::Deploy, choose("front-2")).calls(&[FRONT]).never_calls(APP).succeeds();
    runs(&world, "v1", "front-2");
    assert_eq!(world.timer().reconcile().changes_nothing().code(), 0);
    world.deploy("v2").calls(&[APP, FRONT]).succeeds();
    runs(&world, "v2", "front-1");
    let shared = Selector::Chosen(BTreeMap::from([(
        "front".parse().unwrap(),
        Choice::Tag(format!("{}/shop:latest", world.registry()).parse().unwrap()),
    )]));
    world.run(Verb::Deploy, shared).says("is not the repository of front").exits(2);
}

#[test]
fn the_timer_follows_the_tag_of_every_service() {
    let mut world = site().install("v1").config("[deploy]\n", "[deploy]\nauto = true\n");
    assert_eq!(world.timer().reconcile().changes_nothing().code(), 0);
    world.tag("front:latest", "front-2");
    world.timer().reconcile().calls(&[FRONT]).never_calls(APP).succeeds();
    runs(&world, "v1", "front-2");
    // A changed environment waits for an operator.
    world.change_config("[deploy]\n", "[env]\nGREETING = \"hello\"\n[deploy]\n");
    assert_eq!(world.timer().reconcile().changes_nothing().code(), 0);
}

#[test]
fn a_killed_deploy_never_leaves_images_of_two_releases() {
    for step in 0.. {
        let mut world = site().install("v1");
        world.tag("front:latest", "front-2");
        let ended = world.kill_before(step).deploy("v2").is_ended();
        world.recover();
        let new = world.text("/etc/astra/astra.env").contains(&digest("v2"));
        if new {
            runs(&world, "v2", "front-2")
        } else {
            runs(&world, "v1", "front-1")
        }
        if ended {
            assert!(step > 20, "only {step} steps");
            return;
        }
    }
}

#[test]
fn a_service_that_came_later_stays_through_a_rollback() {
    let mut world = site();
    let table = TABLE.replace("REGISTRY", world.registry());
    world.change_config(&table, "");
    let mut world = world.install("v0");
    world.deploy("v1").succeeds();
    world.change_config("[deploy]\n", &format!("{table}[deploy]\n"));
    world.run(Verb::Deploy, Selector::Tracked).calls(&[MAIL]).never_calls(APP).succeeds();
    rollback(&mut world).calls(&[APP]).never_calls(MAIL).succeeds();
    runs(&world, "v0", "front-1");
}

#[test]
fn every_image_of_the_rollback_target_is_pulled_again() {
    let mut world = site().install("v1");
    world.tag("front:latest", "front-2");
    world.deploy("v2").succeeds();
    let lost = ["v1", "front-1"].map(digest);
    world.shared.lock().local.retain(|image| !lost.iter().any(|digest| image.contains(digest.as_str())));
    std::fs::remove_file(world.root.join("run/astra/way-back")).unwrap();
    world.reconcile().succeeds();
    let local = world.shared.lock().local.clone();
    assert!(lost.iter().all(|digest| local.iter().any(|image| image.contains(digest.as_str()))), "{local:?}");
    rollback(&mut world).succeeds();
    runs(&world, "v1", "front-1");
}
