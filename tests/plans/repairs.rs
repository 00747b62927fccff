//! Repairs, drains and pruning: the image store, signatures, stray containers, a restart.

use super::*;

#[test]
fn prune_keeps_rollback_targets() {
    let mut world = World::serving("[deploy]\nkeep = 2\n");
    for number in 2..=6 {
        world.commit(Verb::Deploy, number);
    }
    let history = world.history();
    let steps = prune::housekeeping(&world.inputs(&history), Verb::Deploy);
    golden("prune", &printed(&Plan::forward(steps, Vec::new())));
}

#[test]
fn an_image_of_the_way_back_that_somebody_removed_is_pulled_again() {
    let mut world = World::serving("");
    world.commit(Verb::Deploy, 2);
    let tidying = |world: &World| prune::housekeeping(&world.inputs(&world.history()), Verb::Reconcile);
    let pull = Step::Pull { image: image(1) };
    assert!(!tidying(&world).contains(&pull));
    world.observed.images.retain(|seen| !seen.repo_digests.contains(&image(1)));
    assert!(tidying(&world).contains(&pull));
    let known = [image(1)].into();
    world.observed.images.push(ImageSeen { id: "id1".into(), repo_digests: known, created: 0 });
    assert!(!tidying(&world).contains(&pull));
    (world.observed.store_suspect, world.observed.unflushed) = (true, [image(1)].into());
    assert!(tidying(&world).contains(&pull), "the power went while it was pulled");
    world.silence_engine();
    assert!(!tidying(&world).contains(&pull), "an engine that is silent has told of no image");
}

#[test]
fn every_instance_is_drained_before_it_is_touched() {
    for more in ["", "[deploy]\nstrategy = \"surge\"\n"] {
        let plan = World::serving(more).plan(2).unwrap();
        let lines: Vec<String> = plan.steps.iter().map(ToString::to_string).collect();
        let at = |text: &str| lines.iter().position(|l| l.starts_with(text));
        let order: BTreeMap<_, _> = [1, 2]
            .map(|i| (at(&format!("drain astra-app@{i}")), at(&format!("try release 2 in astra-app@{i}"))))
            .into();
        assert!(order.iter().all(|(drain, start)| drain.is_some() && drain < start), "{lines:#?}");
        assert!(at("commit") > at("try release 2 in astra-app@2"));
    }
}

#[test]
fn an_image_that_a_power_cut_may_have_damaged_is_pulled_again_and_flushed() {
    let mut world = World::serving("");
    let known = [image(2)].into();
    world.observed.images.push(ImageSeen { id: "id2".into(), repo_digests: known, created: 0 });
    let fetches = |world: &World, number| {
        let plan = world.plan(number).unwrap();
        let at = |step: fn(&Step) -> bool| plan.steps.iter().position(step);
        (at(|s| matches!(s, Step::Pull { .. })), at(|s| matches!(s, Step::FlushImages)) < plan.commit)
    };
    assert_eq!(fetches(&world, 2), (None, true), "its flush may have been cut off");
    world.observed.store_suspect = true;
    assert_eq!(fetches(&world, 2), (Some(0), true));
    // Committed images were on disk; after another pull they have to be flushed again.
    world.commit(Verb::Deploy, 2);
    assert_eq!(fetches(&world, 1).0, None);
    world.observed.images.clear();
    assert_eq!(fetches(&world, 1), (Some(0), true));
}

#[test]
fn only_the_serving_image_needs_no_signature_check() {
    let mut world = World::serving("");
    world.commit(Verb::Deploy, 2);
    world.config = config("[verify]\nrequire_signature = true\n[env]\nWORKERS = \"4\"\n");
    let policy = format!(
        r#"{{"default": [{{"type": "reject"}}],
             "transports": {{"docker": {{"{}": [{{"type": "sigstoreSigned", "keyData": "AAAA"}}]}}}}}}"#,
        image(1).repository
    );
    let seen = |mode, kind| Ok(Owner { uid: 0, mode, kind, links: 1 });
    world.observed.files.insert(POLICY.into(), FileSeen { bytes: policy.into_bytes(), mode: 0o644 });
    world.observed.trust.insert(POLICY.into(), seen(0o644, Kind::File));
    for dir in ["/", "/etc", "/etc/containers"] {
        world.observed.trust.insert(dir.into(), seen(0o755, Kind::Dir));
    }
    let pulls = |lenient, number| {
        let migrate = MigratePolicy::Auto;
        let plan = world.plan_as(Request {
            image: image(number),
            images: Default::default(),
            only: Default::default(),
            migrate,
            force: true,
            automatic: false,
            lenient,
            restart: false,
            refresh: false,
            soak: true,
        });
        plan.unwrap().steps.iter().any(|step| matches!(step, Step::Pull { .. }))
    };
    assert!(!pulls(false, 2), "what serves, with another environment");
    assert!(pulls(false, 1), "a tag that was moved back");
    assert!(!pulls(true, 1), "a rollback");
}

#[test]
fn a_container_left_by_a_power_cut_is_removed() {
    let mut world = World::serving("");
    let stray = Stray { id: "8fff".into(), name: "astra-migrate".into() };
    world.observed.strays.push(stray.clone());
    let history = world.history();
    let steps = prune::housekeeping(&world.inputs(&history), Verb::Deploy);
    assert!(steps.contains(&Step::RemoveContainer { container: stray }), "{steps:?}");
}

#[test]
fn a_restart_replaces_the_containers_and_nothing_else() {
    let mut world = World::serving("");
    world.commit(Verb::Deploy, 2);
    let staged = world.config.name.staged_env();
    world.observed.files.insert(staged.clone(), FileSeen { bytes: b"NEW=1\n".to_vec(), mode: 0o600 });
    let request = |soak| Request {
        image: image(2),
        images: Default::default(),
        only: Default::default(),
        migrate: MigratePolicy::Auto,
        force: false,
        automatic: false,
        lenient: false,
        restart: true,
        refresh: false,
        soak,
    };
    let plan = world.plan_as(request(true)).unwrap();
    let steps: Vec<String> = plan.steps.iter().map(ToString::to_string).collect();
    assert_eq!(plan.candidate.unwrap().release.number, 2, "no new number");
    let count = |word: &str| steps.iter().filter(|s| s.starts_with(word)).count();
    let instances = world.config.instances().count();
    assert_eq!((count("drain"), count("try"), count("commit")), (instances, instances, 1), "{steps:#?}");
    assert_eq!((count("pull"), count("migrate")), (0, 0), "{steps:#?}");
    assert!(!steps.iter().any(|s| s.contains(staged.to_str().unwrap())), "what is staged waits: {steps:#?}");
    assert!(count("soak") > 0, "{steps:#?}");
    let unwatched = world.plan_as(request(false)).unwrap();
    assert!(!unwatched.steps.iter().any(|s| matches!(s, Step::Soak { .. })), "{:#?}", unwatched.steps);
}

#[test]
fn attempts_of_a_first_release_use_no_number() {
    let mut world = World::bare("");
    for number in [1, 2] {
        let release = world.plan(number).unwrap().candidate.unwrap().release;
        assert_eq!(release.number, 1);
        world.record(Verb::Install, &release, Outcome::Undone { blame: Blame::Release });
    }
    world.commit(Verb::Install, 3);
    let current = world.history().current().cloned().unwrap();
    assert_eq!((current.number, current.image), (1, image(3)));
    assert_eq!(world.history().releases.iter().filter(|r| r.number == 1).count(), 1);
    assert_eq!(world.plan(2).unwrap().candidate.unwrap().release.number, 2);
}

#[test]
fn a_requested_migration_is_a_change() {
    let world = World::serving("");
    let migrate = Request {
        image: image(1),
        images: Default::default(),
        only: Default::default(),
        migrate: MigratePolicy::Always,
        force: false,
        automatic: false,
        lenient: false,
        restart: false,
        refresh: false,
        soak: true,
    };
    let plan = world.plan_as(migrate).unwrap();
    assert!(plan.steps.iter().any(|s| matches!(s, Step::Migrate { .. })));
}

#[test]
fn a_trial_is_undone_although_the_engine_is_silent() {
    let mut world = World::serving("");
    world.silence_engine();
    let id = world.config.instances().next().unwrap();
    world.observed.trials.insert(id);
    world.observed.markers.insert(id);
    let history = world.history();
    let steps = instances::steps(&world.inputs(&history), RepairScope::All);
    assert!(
        steps.iter().any(|s| matches!(s, Step::RestoreCommitted { instance, .. } if instance.id == id)),
        "{steps:?}"
    );
}

#[test]
fn a_spare_that_serves_for_an_instance_is_left_alone_until_the_commit() {
    let mut world = World::serving("[deploy]\nstrategy = \"surge\"\n");
    let (spare, one) = (world.config.app.spare().unwrap(), world.config.app.instances().next().unwrap());
    let history = world.history();
    let lines = world.inputs(&history).committed().unwrap();
    world.runs_release(spare, &lines);
    world.observed.instances.get_mut(&one).unwrap().ready = false;
    let plan = world.plan(2).unwrap();
    let (trial, rest) = plan.steps.split_at(plan.commit.unwrap());
    let of = |steps: &[Step], id| steps.iter().filter(|step| step.to_string().contains(&id)).count();
    let name = |id: InstanceName| format!("astra-app@{}", id.number);
    assert_eq!(of(trial, name(spare)), 0, "{}", printed(&plan));
    assert!(of(trial, name(one)) > 2 && of(rest, name(spare)) == 2, "{}", printed(&plan));
}
