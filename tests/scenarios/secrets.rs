//! Variables whose values are secrets and parameters in AWS.

use astra_agent::converge::{RollbackTarget, Selector};
use astra_agent::model::entry::Verb;

use crate::imds::aws;
use crate::state::How;
use crate::units;
use crate::world::World;

const AWS: &str = "secretsmanager.GetSecretValue";

/// An instance with a role, and a site with one secret and one parameter.
fn on_aws() -> World {
    let world = World::new();
    let endpoint = world.shared.lock().imds.clone();
    let config = format!(
        "[aws]\nendpoint = \"{endpoint}\"\n[env]\nDB = {{ secret = \"prod/db\", key = \"password\" }}\n\
         DSN = {{ parameter = \"/prod/dsn\" }}\n[migrate]"
    );
    let world = world.config("[migrate]", &config);
    let mut state = world.shared.lock();
    state.facts = aws::role("web");
    state.vault.parameters.insert("/prod/dsn".into(), "https://dsn".into());
    drop(state);
    password(&world, "canary-1");
    world
}

fn password(world: &World, text: &str) {
    let secret = format!("{{\"username\": \"astra\", \"password\": \"{text}\"}}");
    world.shared.lock().vault.secrets.insert("prod/db".into(), secret);
}

fn env(world: &World, key: &str) -> Option<String> {
    units::lines(&world.text("/etc/astra/astra.env")).get(key).cloned()
}

#[test]
fn a_release_gets_its_secrets_and_parameters() {
    let mut world = on_aws().install("v1");
    assert_eq!(env(&world, "DB").as_deref(), Some("canary-1"));
    assert_eq!(env(&world, "DSN").as_deref(), Some("https://dsn"));
    password(&world, "canary-2");
    world.reconcile().never_calls(AWS).succeeds();
    let text = world.deploy("v2").calls(&[AWS]).text();
    assert!(!text.contains("canary"), "{text}");
    world.serves("v2");
    assert_eq!(env(&world, "DB").as_deref(), Some("canary-2"));
    world
        .run(Verb::Rollback, Selector::Rollback(RollbackTarget::Nearest))
        .never_calls(AWS)
        .succeeds()
        .serves("v1");
    assert_eq!(env(&world, "DB").as_deref(), Some("canary-2"));
}

#[test]
fn a_service_that_gives_nothing_changes_nothing() {
    let mut world = on_aws().install("v1");
    password(&world, "canary-2");
    for (how, version) in [(How::Hangs, "v2"), (How::Status(503, ""), "v3")] {
        world.heal();
        world.fault(AWS, how);
        let ran = world.deploy(version).says("DB keeps its committed value");
        ran.says("AWS Secrets Manager in eu-central-1 cannot be reached").succeeds().serves(version);
        assert_eq!(env(&world, "DB").as_deref(), Some("canary-1"));
    }
    world.heal();
    world.shared.lock().vault.fails = Some((400, "AccessDeniedException", "not authorized"));
    world.deploy("v4").says("secretsmanager:GetSecretValue on arn:aws:secretsmanager").succeeds();
    world.shared.lock().vault.fails = None;
    world.shared.lock().vault.secrets.insert("prod/db".into(), "{\"password\": \"\"}".into());
    world.deploy("v5").says("secret prod/db is empty").succeeds();
    assert_eq!(env(&world, "DB").as_deref(), Some("canary-1"));
}

#[test]
fn a_first_release_needs_its_secrets() {
    for (secret, why) in [
        ("text", "is no JSON object"),
        ("{\"a\": 1}", "has no key `password`"),
        ("{\"password\": []}", "neither"),
    ] {
        let mut world = on_aws();
        world.shared.lock().vault.secrets.insert("prod/db".into(), secret.into());
        world.publish("v1");
        let ran = world.run(Verb::Install, Selector::Tracked);
        ran.says("setting DB in the env file").says(why).exits(2);
    }
}

/// The next run of the timer asks the sources.
fn due(world: &World) {
    let _ = std::fs::remove_file(world.shared.lock().root.join("run/astra/asked"));
}

#[test]
fn the_timer_brings_a_rotated_secret() {
    let mut world = on_aws().config("[aws]\n", "[aws]\nrefresh = \"1h\"\n").install("v1");
    password(&world, "canary-2");
    assert_eq!(world.timer().run(Verb::Reconcile, Selector::Keep).never_calls(AWS).code(), 0);
    due(&world);
    let ran = world.timer().run(Verb::Reconcile, Selector::Keep);
    ran.calls(&["StartUnit astra-app@1.service", "StartUnit astra-app@2.service"]).succeeds().serves("v1");
    assert_eq!(env(&world, "DB").as_deref(), Some("canary-2"));
    assert_eq!(world.release(), 2);
    due(&world);
    let idle = world.timer().run(Verb::Reconcile, Selector::Keep).calls(&[AWS]).never_calls("StartUnit");
    assert_eq!(idle.code(), 0);
    // An operator's run asks for nothing.
    due(&world);
    world.reconcile().never_calls(AWS).succeeds();
}

#[test]
fn a_bad_rotated_secret_is_undone_and_held() {
    let mut world = on_aws().config("[aws]\n", "[aws]\nrefresh = \"1h\"\n").install("v1");
    password(&world, "canary-bad");
    due(&world);
    world.faults("StartUnit astra-app@1.service", How::Ends("failed"), 0, 1);
    let ran = world.timer().run(Verb::Reconcile, Selector::Keep).logs("ASTRA_OUTCOME", "undone");
    ran.exits(3).serves("v1");
    assert_eq!(env(&world, "DB").as_deref(), Some("canary-1"));
    due(&world);
    let ran = world.timer().run(Verb::Reconcile, Selector::Keep).calls(&[AWS]);
    assert_eq!(ran.never_calls("StartUnit astra-app").code(), 0);
    world.serves("v1");
    // The next rotation is another environment.
    password(&world, "canary-3");
    due(&world);
    world.timer().run(Verb::Reconcile, Selector::Keep).succeeds().serves("v1");
    assert_eq!(env(&world, "DB").as_deref(), Some("canary-3"));
}

#[test]
fn the_timer_leaves_other_changes_to_an_operator() {
    let mut world = on_aws().config("[aws]\n", "[aws]\nrefresh = \"1h\"\n").install("v1");
    password(&world, "canary-2");
    due(&world);
    world.change_config("DSN = {", "COLOUR = \"blue\"\nDSN = {");
    let ran = world.timer().run(Verb::Reconcile, Selector::Keep).calls(&[AWS]).never_calls("StartUnit");
    assert_eq!(ran.says("wait for a `deploy`: COLOUR changed, too").code(), 0);
    world.change_config("COLOUR = \"blue\"\n", "");
    let staged = world.shared.lock().root.join("etc/astra/astra.staged.env");
    std::fs::write(&staged, "OTHER=1\n").unwrap();
    due(&world);
    let ran = world.timer().run(Verb::Reconcile, Selector::Keep).never_calls("StartUnit");
    assert_eq!(ran.says("OTHER is staged").code(), 0);
    std::fs::remove_file(&staged).unwrap();
    world.change_config("[app]\n", "[app]\ncommand = [\"other\"]\n");
    due(&world);
    let ran = world.timer().run(Verb::Reconcile, Selector::Keep).never_calls("StartUnit");
    assert_eq!(ran.says("arguments or services changed").code(), 0);
    world.deploy("v2").succeeds().serves("v2");
    assert_eq!(env(&world, "DB").as_deref(), Some("canary-2"));
}

#[test]
fn a_run_without_a_release_says_which_values_are_old() {
    let mut world = on_aws().config("[aws]\n", "[aws]\nrefresh = \"1h\"\n").install("v1");
    world.shared.lock().vault.fails = Some((400, "AccessDeniedException", "not authorized"));
    world.deploy("v1").says("DB keeps its committed value").code();
    for _ in 0..2 {
        // Without an answer it asks again at the next run.
        due(&world);
        let ran = world.timer().run(Verb::Reconcile, Selector::Keep).calls(&[AWS]);
        assert_eq!(ran.says("DSN keeps its committed value").code(), 0);
        assert!(!world.shared.lock().is_there("/run/astra/asked"));
    }
}

#[test]
fn a_held_image_keeps_no_secret_from_the_one_that_serves() {
    let mut world = on_aws()
        .config("[deploy]\n", "[deploy]\nauto = true\n")
        .config("[aws]\n", "[aws]\nrefresh = \"1h\"\n")
        .install("v1");
    world.image("v2", crate::state::App::Exits(1), crate::state::Migration::Passes);
    world.deploy("v2").exits(3);
    password(&world, "canary-2");
    due(&world);
    world.timer().run(Verb::Reconcile, Selector::Keep).succeeds().serves("v1");
    assert_eq!(env(&world, "DB").as_deref(), Some("canary-2"));
}
