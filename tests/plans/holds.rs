//! Releases that are held, and those that are not.

use super::*;

#[test]
fn a_served_image_with_a_failed_environment_is_held_and_stays_a_rollback_target() {
    let mut world = World::serving("");
    let good = world.config.clone();
    world.config = config("[env]\nWORKERS = \"none\"\n");
    let failed = world.plan(1).unwrap().candidate.unwrap().release;
    world.record(Verb::Reconcile, &failed, Outcome::Undone { blame: Blame::Release });
    assert!(world.plan_as(environment::by_timer(1)).unwrap().is_empty(), "a timer brings no environment");
    assert!(matches!(world.plan(1), Err(Refusal::Held { .. })));
    world.config = good;
    assert!(world.plan(1).unwrap().is_empty());
    world.commit(Verb::Deploy, 2);
    assert_eq!(world.history().rollback_target().unwrap().image, image(1));
}

#[test]
fn a_release_whose_undo_failed_too_is_held() {
    let mut world = World::serving("");
    let failed = world.plan(2).unwrap().candidate.unwrap().release;
    world.record(Verb::Deploy, &failed, Outcome::Incomplete);
    let entry = Entry::Failed { step: 3, blame: Blame::Release, error: "it exits".into(), unready: None };
    world.runs.last_mut().unwrap().entries.insert(1, Stamped { at: 0, entry });
    assert!(matches!(world.plan(2), Err(Refusal::Held { .. })));
}
