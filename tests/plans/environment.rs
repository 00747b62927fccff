//! The environment of a release: generated values, variables that leave [env], the timer, and rollbacks.

use std::path::Path;

use astra_agent::model::entry::Verb;
use astra_agent::model::envfile::EnvFile;
use astra_agent::model::name::EnvKey;
use astra_agent::model::observed::FileSeen;
use astra_agent::model::outcome::{Blame, Outcome};
use astra_agent::model::plan::Plan;
use astra_agent::model::secret::Secret;
use astra_agent::model::step::Step;
use astra_agent::plan::migrations::MigratePolicy;
use astra_agent::plan::release::{self, Refusal, Request};

use super::{World, config, image, printed};

/// The timer's request.
pub fn by_timer(number: u8) -> Request {
    Request {
        image: image(number),
        images: Default::default(),
        only: Default::default(),
        migrate: MigratePolicy::Auto,
        force: false,
        automatic: true,
        lenient: false,
        restart: false,
        refresh: false,
        soak: true,
    }
}

/// A rollback's request.
fn back_to(number: u8) -> Request {
    Request {
        image: image(number),
        images: Default::default(),
        only: Default::default(),
        migrate: MigratePolicy::Auto,
        force: true,
        automatic: false,
        lenient: true,
        restart: false,
        refresh: false,
        soak: true,
    }
}

fn written<'p>(plan: &'p Plan, file: &Path) -> Option<(usize, &'p [u8])> {
    plan.steps.iter().enumerate().find_map(|(nth, step)| match step {
        Step::WriteFile { path, content, .. } if path == file => Some((nth, content.bytes())),
        _ => None,
    })
}

#[test]
fn a_generated_value_is_on_disk_before_its_first_use_and_found_by_the_next_attempt() {
    let mut world = World::serving("");
    world.config = config("[env]\nFIELD_KEY = { generate = 32 }\n");
    let key: EnvKey = "FIELD_KEY".parse().unwrap();
    world.observed.env.values.insert(key.clone(), Secret::new("the-first"));
    let staged = world.config.name.staged_env();
    let plan = world.plan(2).unwrap();
    let (at, bytes) = written(&plan, &staged).map(|(at, bytes)| (at, bytes.to_vec())).unwrap();
    assert_eq!(bytes, b"FIELD_KEY=the-first\n");
    let uses =
        |s: &Step| matches!(s, Step::WriteTrialEnv { .. } | Step::Migrate { .. } | Step::StartTrial { .. });
    assert!(plan.steps.iter().position(uses).unwrap() > at);
    assert!(plan.steps.contains(&Step::RemoveFile { path: staged.clone() }), "committed, it waits no more");

    // The run is undone; the next snapshot generates another value.
    let failed = plan.candidate.unwrap().release;
    world.record(Verb::Deploy, &failed, Outcome::Undone { blame: Blame::Release });
    world.observed.files.insert(staged.clone(), FileSeen { bytes, mode: 0o600 });
    world.observed.env.values.insert(key.clone(), Secret::new("another"));
    assert!(matches!(world.plan(2), Err(Refusal::Held { .. })), "it is the release that failed");
    assert!(matches!(world.plan_as(by_timer(2)), Err(Refusal::Held { .. })));
    for request in [Request { force: true, ..by_timer(2) }, back_to(2)] {
        let plan = world.plan_as(request).unwrap();
        let trial = plan.steps.iter().find_map(|s| match s {
            Step::WriteTrialEnv { content } => Some(String::from_utf8(content.bytes().to_vec()).unwrap()),
            _ => None,
        });
        assert!(trial.unwrap().contains("FIELD_KEY=the-first\n"));
        assert!(written(&plan, &staged).is_none(), "it is there");
    }
}

#[test]
fn a_timer_deploys_another_digest_and_nothing_else() {
    let mut world = World::serving("");
    let id = world.config.instances().next().unwrap();
    world.observed.instances.get_mut(&id).unwrap().ready = false;
    world.config = config("[env]\nWORKERS = \"4\"\n");
    assert!(world.plan_as(by_timer(1)).unwrap().is_empty(), "neither an unready instance nor an environment");
    assert!(!world.plan_as(by_timer(2)).unwrap().is_empty());
    let failed = world.plan(2).unwrap().candidate.unwrap().release;
    world.record(Verb::Reconcile, &failed, Outcome::Undone { blame: Blame::Release });
    world.config = config("[env]\nWORKERS = \"5\"\n");
    assert!(matches!(world.plan_as(by_timer(2)), Err(Refusal::Held { .. })), "held by its digest");
    assert!(!world.plan(2).unwrap().is_empty(), "an operator may try it with another environment");
}

#[test]
fn instances_with_the_committed_release_are_left_alone_by_its_deploy() {
    let mut world = World::serving("");
    for seen in world.observed.instances.values_mut() {
        seen.ready = false;
    }
    assert!(world.plan(1).unwrap().is_empty(), "readiness is no reason to restart it");
    // One more instance is wanted: only that one is started.
    let mut world = World::serving("");
    world.config.app.instances = 3;
    let plan = world.plan(1).unwrap();
    assert_eq!(plan.commit, None);
    let lines: Vec<String> = plan.steps.iter().map(ToString::to_string).collect();
    assert!(lines.iter().any(|l| l.starts_with("return astra-app@3")), "{lines:#?}");
    assert!(!lines.iter().any(|l| l.contains("astra-app@1") || l.contains("astra-app@2")), "{lines:#?}");
    // An instance restarted by hand with another image under the same number is restored.
    let mut world = World::serving("");
    let id = world.config.instances().next().unwrap();
    world.observed.instances.get_mut(&id).unwrap().runs.as_mut().unwrap().image = image(9);
    let lines: Vec<String> = world.plan(1).unwrap().steps.iter().map(ToString::to_string).collect();
    assert!(lines[0].starts_with("drain astra-app@1") && lines[1].starts_with("return"), "{lines:#?}");
}

#[test]
fn a_variable_removed_from_the_config_is_removed_from_the_host() {
    let mut world = World::serving("[env]\nOLD = \"1\"\nNEW = \"1\"\n");
    world.config = config("[env]\nNEW = \"1\"\n");
    let history = world.history();
    let pending = release::pending(&world.inputs(&history));
    assert_eq!(pending, ["deploy would remove from the environment: OLD"]);
    let plan = world.plan(1).unwrap();
    let removed = plan.steps.iter().any(|s| match s {
        Step::Commit { env, .. } => env.get(&"OLD".parse().unwrap()) == Some(&None) && env.len() == 1,
        _ => false,
    });
    assert!(removed, "{}", printed(&plan));
}

#[test]
fn a_line_that_the_config_takes_over_restarts_nothing() {
    let mut world = World::serving("");
    let env = world.config.name.env_file();
    world.observed.files.get_mut(&env).unwrap().bytes.extend_from_slice(b"OWN=1\n");
    let plan = world.plan(1).unwrap();
    let lines = plan.candidate.unwrap();
    // The hand-made line is in service.
    world.record(Verb::Deploy, &lines.release, Outcome::Converged);
    let bytes = EnvFile::parse("OWN=1\n").with_managed(&lines.lines).unwrap().render();
    world.observed.files.get_mut(&env).unwrap().bytes = bytes;
    for id in world.config.instances().collect::<Vec<_>>() {
        world.runs_release(id, &lines.lines);
    }
    assert!(world.plan(1).unwrap().is_empty());
    world.config = config("[env]\nOWN = \"1\"\n");
    let plan = world.plan(1).unwrap();
    assert!(matches!(&plan.steps[..], [Step::Commit { .. }]), "{}", printed(&plan));
}

#[test]
fn a_rollback_keeps_a_value_whose_file_is_gone_and_warns() {
    let env = "[env]\nTOKEN = { file = \"/etc/astra/token\" }\n";
    let key: EnvKey = "TOKEN".parse().unwrap();
    let mut world = World::bare(env);
    world.observed.env.values.insert(key.clone(), Secret::new("committed"));
    world.commit(Verb::Install, 1);
    world.commit(Verb::Deploy, 2);
    world.observed.env.values.clear();
    world.observed.env.unread.insert(key, "reading /etc/astra/token: No such file".into());
    assert!(matches!(world.plan(3), Err(Refusal::Env(_))));
    let plan = world.plan_as(back_to(1)).unwrap();
    assert_eq!(plan.warnings.len(), 1, "{:?}", plan.warnings);
    assert!(plan.warnings[0].starts_with("TOKEN keeps its committed value"), "{:?}", plan.warnings);
}

#[test]
fn a_rollback_pulls_an_image_that_a_power_cut_may_have_damaged() {
    let mut world = World::serving("");
    world.commit(Verb::Deploy, 2);
    let has = |plan: &Plan, step: fn(&Step) -> bool| plan.steps.iter().any(step);
    let pulls = |plan: &Plan| has(plan, |s| matches!(s, Step::Pull { .. }));
    let plan = world.plan_as(back_to(1)).unwrap();
    assert!(!pulls(&plan) && has(&plan, |s| matches!(s, Step::FlushImages)), "flushed whatever its history");
    world.observed.store_suspect = true;
    assert!(!pulls(&world.plan_as(back_to(1)).unwrap()), "it was on the disk when it was committed");
    world.observed.unflushed.insert(image(1));
    assert!(pulls(&world.plan_as(back_to(1)).unwrap()), "pruned since, and its pull was cut off");
    // No answer is no proof that it is gone.
    world.observed.store_suspect = false;
    world.observed.images.clear();
    world.observed.images_unknown = true;
    assert!(!pulls(&world.plan_as(back_to(1)).unwrap()));
    assert!(pulls(&world.plan(3).unwrap()));
}

#[test]
fn a_changed_variable_does_not_redeploy_the_release_rolled_back_from() {
    let mut world = World::serving("");
    world.commit(Verb::Deploy, 2);
    world.commit(Verb::Rollback, 1);
    world.config = config("[env]\nWORKERS = \"4\"\n");
    assert!(matches!(world.plan(2), Err(Refusal::Held { number: 2, .. })));
    let kept = world.plan(1).unwrap();
    assert!(kept.commit.is_some(), "the image that serves takes it");
    let history = world.history();
    let pending = release::pending(&world.inputs(&history)).join("\n");
    assert!(pending.contains("WORKERS") && pending.contains("deploy --keep-image"), "{pending}");
}
