//! The files of a release: `[files]`, and environments of services that have their own.

use std::collections::BTreeMap;

use astra_agent::converge::{RollbackTarget, Selector};
use astra_agent::model::entry::Verb;

use crate::ran::Ran;
use crate::state::{App, Migration};
use crate::units;
use crate::world::World;

const APP: &str = "StartUnit astra-app";
const FRONT: &str = "StartUnit astra-front@1";
const WORKER: &str = "StartUnit astra-worker@1";
pub const DIR: &str = "/etc/astra/files";
const STAGED: &str = "/etc/astra/astra.staged.env";

/// A front end with an environment of its own, and a worker with a file.
pub fn site() -> World {
    let world = World::new();
    let base = world.base_port() + 3;
    let services = format!(
        "[env]\nDATABASE_PASSWORD = \"hidden\"\nFRONT_KEY = {{ generate = 16 }}\nRELAY = \"mx1\"\n\
         [services.front]\nport = 3000\nbase_port = {base}\nroute.path = \"/front\"\nreadiness.timeout = \"20s\"\n\
         inherit_env = false\nenv = {{ COLOUR = \"green\" }}\nsecrets = {{ SESSION_KEY = \"FRONT_KEY\" }}\n\
         [services.worker]\n\
         [files.mail]\ncontent = \"relay = {{{{ RELAY }}}}\\n\"\nmount = {{ services = [\"worker\"], path = \"/etc/mail\" }}\n"
    );
    world.config("[deploy]\n", &format!("{services}[deploy]\n"))
}

pub fn deploy(world: &mut World) -> Ran<'_> {
    world.run(Verb::Deploy, Selector::Committed)
}

pub fn env(world: &World, container: &str) -> BTreeMap<String, String> {
    world.shared.lock().containers[container].env.clone()
}

/// The files in a container.
pub fn files(world: &World, container: &str) -> BTreeMap<String, String> {
    world.shared.lock().containers[container].files.clone()
}

fn mail(world: &World) -> String {
    files(world, "astra-worker-1")["/etc/mail"].clone()
}

/// The names on disk.
pub fn kept(world: &World) -> Vec<String> {
    let listed = std::fs::read_dir(world.root.join("etc/astra/files")).unwrap();
    let mut names: Vec<_> = listed.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// The files of the committed release, and at most those of the release before.
#[track_caller]
fn keeps_what_is_needed(world: &World) {
    let lines = world.text("/etc/astra/astra.env");
    let (used, before): (Vec<_>, Vec<_>) =
        kept(world).into_iter().partition(|name| lines.contains(name.as_str()));
    let names: Vec<_> = used.iter().map(|name| name.rsplit_once('.').unwrap().0.to_owned()).collect();
    assert_eq!(names, ["front.env", "mail"]);
    assert!(before.len() <= 2, "{before:?}");
}

#[test]
fn a_service_without_the_environment_of_the_app_has_its_secrets_alone() {
    let world = site().install("v1");
    let own = env(&world, "astra-front-1");
    assert_eq!(own.keys().collect::<Vec<_>>(), ["SESSION_KEY"]);
    let site = units::lines(&world.text("/etc/astra/astra.env"));
    assert_eq!(own["SESSION_KEY"], site["FRONT_KEY"]);
    assert_eq!(env(&world, "astra-worker-1")["DATABASE_PASSWORD"], "hidden");
    assert!(site["FRONT_ARGS"].contains("--env=COLOUR=green"), "{}", site["FRONT_ARGS"]);
    world.serves("v1");
}

#[test]
fn a_secret_beside_the_environment_of_the_app_adds_to_it() {
    let world = site().config("inherit_env = false\n", "").install("v1");
    let own = env(&world, "astra-front-1");
    assert_eq!((own["DATABASE_PASSWORD"].as_str(), own["SESSION_KEY"].len()), ("hidden", 16));
    assert!(!own.contains_key("APP_IMAGE"), "{own:?}");
}

#[test]
fn a_changed_environment_restarts_only_services_that_have_it() {
    let mut world = site().install("v1");
    world.change_config("\"hidden\"", "\"other\"");
    deploy(&mut world).calls(&[APP, WORKER]).never_calls(FRONT).succeeds();
    world.write(STAGED, "FRONT_KEY=changed-by-hand\n");
    world.change_config("FRONT_KEY = { generate = 16 }\n", "");
    deploy(&mut world).calls(&[APP, FRONT, WORKER]).succeeds();
    assert_eq!(env(&world, "astra-front-1")["SESSION_KEY"], "changed-by-hand");
    keeps_what_is_needed(&world);
    world.serves("v1");
}

#[test]
fn a_service_takes_and_gives_back_the_environment_of_the_app() {
    let mut world = site().install("v1");
    world.change_config("inherit_env = false", "inherit_env = true");
    world.change_config("secrets = { SESSION_KEY = \"FRONT_KEY\" }\n", "");
    deploy(&mut world).calls(&[FRONT]).never_calls(APP).succeeds();
    assert_eq!(env(&world, "astra-front-1")["DATABASE_PASSWORD"], "hidden");
    world.change_config("inherit_env = true", "inherit_env = false");
    deploy(&mut world).succeeds();
    assert!(env(&world, "astra-front-1").is_empty());
    // Also after a restart by systemd alone, which reads the committed lines.
    world.systemctl("RestartUnit", "astra-front@1.service");
    assert!(env(&world, "astra-front-1").is_empty());
}

#[test]
fn a_changed_file_restarts_the_services_that_have_it() {
    let mut world = site().install("v1");
    assert_eq!(mail(&world), "relay = mx1\n");
    world.change_config("relay =", "smtp =");
    deploy(&mut world).calls(&[WORKER]).never_calls(APP).never_calls(FRONT).succeeds();
    assert_eq!(mail(&world), "smtp = mx1\n");
    keeps_what_is_needed(&world);
    deploy(&mut world).changes_nothing().succeeds();
    world.reconcile().changes_nothing().succeeds();
    world.deploy("v2").succeeds();
    assert_eq!(mail(&world), "smtp = mx1\n");
    world.serves("v2");
}

#[test]
fn a_release_that_fails_with_a_new_file_gets_the_old_one_back() {
    let mut world = site().install("v1");
    world.change_config("relay =", "fail =");
    deploy(&mut world).exits(3);
    assert_eq!(mail(&world), "relay = mx1\n");
    world.serves("v1");
    // The new one is used by none, and goes with the next release.
    world.change_config("fail =", "relay =");
    world.reconcile().changes_nothing().succeeds();
    world.deploy("v2").succeeds();
    world.deploy("v3").succeeds();
    assert_eq!(kept(&world).len(), 2);
}

#[test]
fn a_kill_at_any_step_leaves_every_container_the_files_of_its_release() {
    for step in 0.. {
        let mut world = site().install("v1");
        world.change_config("relay =", "smtp =");
        world.publish("v2");
        if world.kill_before(step).run(Verb::Deploy, Selector::Tracked).is_ended() {
            assert!(step > 20, "{step} steps");
            break;
        }
        world.recover();
        let (release, wanted) = if world.release() == 1 { ("v1", "relay") } else { ("v2", "smtp") };
        assert_eq!(mail(&world), format!("{wanted} = mx1\n"), "step {step}");
        world.serves(release);
        assert!(kept(&world).len() <= 3, "step {step}: {:?}", kept(&world));
        world.reconcile().succeeds();
        world.serves(release);
    }
}

#[test]
fn a_template_that_fails_changes_nothing() {
    let mut world = site().install("v1");
    let before = (kept(&world), world.text("/etc/astra/astra.env"));
    for (text, told) in [
        ("{{ RELAI }}", "[files.mail] content:1:12: `RELAI` has no value"),
        ("{{ RELAY", "[files.mail] content:1"),
        ("{{ RELAY | nofilter }}", "unknown filter"),
        (
            "{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}",
            "[files.mail] content",
        ),
    ] {
        let good = world.config.clone();
        world.change_config("{{ RELAY }}", text);
        deploy(&mut world).says(told).changes_nothing().exits(2);
        // A rollback has no need of it: the committed file stays.
        world.config = good;
    }
    assert_eq!((kept(&world), world.text("/etc/astra/astra.env")), before);
}

#[test]
fn a_rollback_keeps_the_committed_file_of_a_template_that_fails() {
    let mut world = site().install("v1");
    world.deploy("v2").succeeds();
    world.change_config("{{ RELAY }}", "{{ RELAI }}");
    let back = Selector::Rollback(RollbackTarget::Nearest);
    world.run(Verb::Rollback, back).says("stays as it was committed").succeeds();
    assert_eq!(mail(&world), "relay = mx1\n");
    world.serves("v1");
}

#[test]
fn a_secret_without_a_value_is_refused() {
    let mut world = site().install("v1");
    world.change_config(
        "secrets = { SESSION_KEY = \"FRONT_KEY\" }",
        "secrets = { SESSION_KEY = \"NO_SUCH\" }",
    );
    deploy(&mut world).says("NO_SUCH is required").changes_nothing().exits(2);
}

#[test]
fn a_template_of_its_own_is_read_from_its_file() {
    let mut world = site()
        .config("content = \"relay = {{ RELAY }}\\n\"", "template = \"templates/mail.j2\"\nmode = \"0400\"");
    world.publish("v1");
    world.run(Verb::Install, Selector::Tracked).says("templates/mail.j2 cannot be read").exits(2);
    std::fs::create_dir(world.root.join("etc/astra/templates")).unwrap();
    world
        .write("/etc/astra/templates/mail.j2", "{% if RELAY %}\nrelay = {{ RELAY | tojson }}\n{% endif %}\n");
    world.run(Verb::Install, Selector::Tracked).succeeds();
    assert_eq!(mail(&world), "relay = \"mx1\"\n");
    // It was removed since: the release goes on, and a rollback as well.
    std::fs::remove_file(world.root.join("etc/astra/templates/mail.j2")).unwrap();
    world.reconcile().succeeds();
    world.publish("v2");
    world.run(Verb::Deploy, Selector::Tracked).says("cannot be read").exits(2);
    assert_eq!(mail(&world), "relay = \"mx1\"\n");
}

#[test]
fn a_file_that_cannot_be_written_changes_nothing() {
    let mut world = site().install("v1");
    let before = world.text("/etc/astra/astra.env");
    world.change_config("relay =", "smtp =");
    // Something else in place of the directory.
    std::fs::remove_dir_all(world.root.join("etc/astra/files")).unwrap();
    world.write(DIR, "");
    assert_ne!(deploy(&mut world).code(), 0);
    assert_eq!(world.text("/etc/astra/astra.env"), before);
    std::fs::remove_file(world.root.join("etc/astra/files")).unwrap();
    deploy(&mut world).succeeds();
    world.serves("v1");
}

#[test]
fn a_rollback_keeps_the_committed_environment_when_a_secret_has_no_value_today() {
    let mut world = site().install("v1");
    world.deploy("v2").succeeds();
    let before = env(&world, "astra-front-1");
    world.change_config("SESSION_KEY = \"FRONT_KEY\"", "SESSION_KEY = \"NEW_KEY\"");
    // Staged values may be the reason for a rollback, so it takes none of them.
    world.write(STAGED, "NEW_KEY=other\n");
    world
        .run(Verb::Rollback, Selector::Rollback(RollbackTarget::Nearest))
        .says("NEW_KEY has no value")
        .succeeds();
    assert_eq!(env(&world, "astra-front-1"), before);
    world.serves("v1");
}

#[test]
fn a_rollback_keeps_the_committed_environment_when_a_secret_cannot_be_written_today() {
    let mut world = site().install("v1");
    world.deploy("v2").succeeds();
    let file = world.text("/etc/astra/astra.env") + "ODD=\"quoted\n";
    world.write("/etc/astra/astra.env", &file);
    world.change_config("SESSION_KEY = \"FRONT_KEY\"", "SESSION_KEY = \"ODD\"");
    deploy(&mut world).changes_nothing().exits(2);
    world.run(Verb::Rollback, Selector::Rollback(RollbackTarget::Nearest)).succeeds();
    assert_eq!(env(&world, "astra-front-1").len(), 1);
    world.serves("v1");
}

#[test]
fn a_template_that_fails_hinders_only_the_services_that_have_its_file() {
    let world = site();
    let redis = format!("[services.redis]\nkind = \"accessory\"\nimage = \"{}/redis:7\"\n", world.registry());
    world.image("redis", App::Ready, Migration::Passes);
    world.tag("redis:7", "redis");
    let mut world = world.config("[deploy]\n", &format!("{redis}[deploy]\n")).install("v1");
    world.change_config("{{ RELAY }}", "{{ RELAI }}");
    world.run(Verb::AccessoryRestart, Selector::Accessory("redis".parse().unwrap())).succeeds();
    world.change_config("COLOUR = \"green\"", "COLOUR = \"blue\"");
    world.only("front").run(Verb::Deploy, Selector::Committed).calls(&[FRONT]).never_calls(WORKER).succeeds();
    deploy(&mut world).says("RELAI").exits(2);
    assert_eq!(mail(&world), "relay = mx1\n");
}

#[test]
fn lines_edited_by_hand_are_tried_like_any_other() {
    let mut world = site().install("v1");
    world.change_config("COLOUR = \"green\"", "COLOUR = \"blue\"");
    let file = world.text("/etc/astra/astra.env").replace("COLOUR=green", "COLOUR=blue");
    world.write("/etc/astra/astra.env", &file);
    deploy(&mut world).calls(&[FRONT]).succeeds();
}

#[test]
fn a_comment_in_the_env_file_restarts_nothing() {
    let mut world = site().config("inherit_env = false\n", "").install("v1");
    let file = "# a note\n".to_owned() + &world.text("/etc/astra/astra.env");
    world.write("/etc/astra/astra.env", &file);
    deploy(&mut world).changes_nothing().succeeds();
}

#[test]
fn a_file_that_would_be_too_large_is_refused() {
    let mut world = site().install("v1");
    world.change_config("{{ RELAY }}", "{% for a in range(90000) %}long{% endfor %}");
    deploy(&mut world).says("larger than 256 KiB").changes_nothing().exits(2);
}

#[test]
fn a_placeholder_is_no_value_in_a_template() {
    let mut world = site().install("v1");
    world.change_config("RELAY = \"mx1\"", "RELAY = \"...\"");
    deploy(&mut world).says("`RELAY` has no value").changes_nothing().exits(2);
}

#[test]
fn one_service_is_deployed_beside_a_changed_environment_that_the_others_do_not_have() {
    let world = site().config("[services.worker]\n", "").config(
        "[files.mail]\ncontent = \"relay = {{ RELAY }}\\n\"\nmount = { services = [\"worker\"], path = \"/etc/mail\" }\n",
        "",
    );
    let registry = world.registry().to_owned();
    world.image("front-1", App::Ready, Migration::Passes);
    world.tag("front:latest", "front-1");
    let image = format!("[services.front]\nimage = \"{registry}/front:latest\"\n");
    let mut world = world.config("[services.front]\n", &image).install("v1");
    world.change_config("\"hidden\"", "\"other\"");
    world.only("app").run(Verb::Deploy, Selector::Committed).calls(&[APP]).never_calls(FRONT).succeeds();
    world.change_config("\"other\"", "\"third\"");
    world.only("front").run(Verb::Deploy, Selector::Committed).says("which app has as well").exits(1);
}
