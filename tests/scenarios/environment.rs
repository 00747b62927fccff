//! `deploy --keep-image` after `env set` and `env unset`, which stage the changes in a file.

use astra_agent::converge::Selector;
use astra_agent::model::entry::Verb;

use crate::ran::Ran;
use crate::state::{App, Migration};
use crate::units;
use crate::world::World;

const STAGED: &str = "/etc/astra/astra.staged.env";

fn keep_image(world: &mut World) -> Ran<'_> {
    world.run(Verb::Deploy, Selector::Committed)
}

fn value(world: &World, key: &str) -> Option<String> {
    units::lines(&world.text("/etc/astra/astra.env")).get(key).cloned()
}

#[test]
fn a_staged_variable_becomes_a_release_of_the_same_image() {
    let mut world = World::installed("v1");
    world.write(STAGED, "COLOUR=green\n");
    let ran = keep_image(&mut world).never_calls("pull").never_calls("StartUnit astra-migrate");
    ran.calls(&["StopUnit astra-app@1.service", "StopUnit astra-app@2.service"]).succeeds().serves("v1");
    assert_eq!(value(&world, "COLOUR").as_deref(), Some("green"));
    assert_eq!((world.release(), world.text(STAGED).as_str()), (2, ""));
    world.write(STAGED, "# unset COLOUR\n");
    keep_image(&mut world).succeeds().serves("v1");
    assert_eq!(value(&world, "COLOUR"), None);
}

#[test]
fn an_environment_that_fails_is_taken_back_and_the_image_is_not_held() {
    let mut world = World::installed("v1");
    world.write(STAGED, "COLOUR=green\n");
    world.image("v1", App::Exits(3), Migration::Passes);
    // It starts again with the former environment.
    world.faults("StartUnit astra-app@1.service", crate::state::How::Ends("failed"), 0, 1);
    world.image("v1", App::Ready, Migration::Passes);
    keep_image(&mut world).exits(3).serves("v1");
    assert_eq!((value(&world, "COLOUR"), world.text(STAGED).as_str()), (None, "COLOUR=green\n"));
    world.deploy("v2").succeeds().serves("v2");
    assert_eq!(value(&world, "COLOUR").as_deref(), Some("green"));
}

#[test]
fn a_generated_value_is_made_once() {
    let mut world =
        World::new().config("[migrate]", "[env]\nKEY = { generate = 32 }\n[migrate]").install("v1");
    let made = value(&world, "KEY").unwrap();
    assert_eq!(made.len(), 32);
    world.deploy("v2").succeeds();
    assert_eq!(value(&world, "KEY"), Some(made));
}
