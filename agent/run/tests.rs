use std::cell::RefCell;
use std::time::Duration;

use super::*;
use crate::model::envfile::{ManagedLines, ServiceLines};
use crate::model::fingerprint::HostKey;
use crate::model::instance::InstanceName;
use crate::model::name::AppName;
use crate::model::release::{Candidate, Release};
use crate::model::step::{Check, Content, Fallback, Probe, Target};

fn target(id: u16) -> Target {
    let app: AppName = "astra".parse().unwrap();
    let address = format!("127.0.0.1:{}", 8000 + id).parse().unwrap();
    let id: InstanceName = id.to_string().parse().unwrap();
    Target { id, unit: app.unit(id), container: app.container(id), upstream: Some(address) }
}

/// Pull, trial environment, migration, two instances one after the other, commit, one cleaning step.
fn deploy() -> Plan {
    let image: crate::model::image::PinnedImage =
        format!("ghcr.io/a/b@sha256:{}", "ab".repeat(32)).parse().unwrap();
    let fingerprint = HostKey::new([1; 32]).fingerprint([b"x".as_slice()]);
    let release =
        Release { number: 2, image: image.clone(), images: std::collections::BTreeMap::new(), fingerprint };
    let app = ServiceLines {
        image: image.clone(),
        args: vec![],
        command: vec![],
        port: Some(8000),
        since: None,
        env: None,
    };
    let lines = ManagedLines { release: 2, app, services: Default::default(), keys: Default::default() };
    let candidate = Candidate { release, lines };
    let stop = Duration::from_secs(1);
    let probe = Probe { check: Check::Settle(stop), timeout: stop };
    let limits = crate::model::step::Drain { requests: stop, streams: stop };
    let mut steps = vec![
        Step::Pull { image },
        Step::WriteTrialEnv { content: Content::Secret { bytes: vec![], changed: vec![] } },
        Step::Migrate {
            service: "app".parse().unwrap(),
            unit: "astra-migrate.service".into(),
            others: vec![],
            release: 2,
            timeout: stop,
            longest: stop,
        },
    ];
    for id in [1, 2] {
        let fallback = Fallback::Committed { probe: probe.clone(), stop };
        steps.push(Step::Drain { instance: target(id), limits, probe: probe.clone() });
        steps.push(Step::StartTrial {
            instance: target(id),
            candidate: candidate.clone(),
            fallback,
            stop,
            timeout: stop,
        });
        steps.push(Step::AwaitReady { instance: target(id), probe: probe.clone() });
        steps.push(Step::Undrain { instance: target(id), probe: probe.clone(), limits });
    }
    let commit = steps.len();
    let env = std::collections::BTreeMap::new();
    steps.push(Step::Commit { file: "/e".into(), old: None, candidate: candidate.clone(), env });
    steps.push(Step::RemoveFile { path: "/run/astra/trial.env".into() });
    Plan { steps, commit: Some(commit), candidate: Some(candidate), ..Plan::default() }
}

/// The deploy with one of its instances as the spare.
fn with_spare(spare: u16) -> Plan {
    let mut plan = deploy();
    for step in &mut plan.steps {
        if let Step::StartTrial { instance, fallback, .. } = step
            && instance.id.number.get() == spare
        {
            *fallback = Fallback::Stopped;
        }
    }
    plan
}

#[test]
fn a_spare_that_was_tried_last_is_stopped_last() {
    let plan = with_spare(2);
    let started: Vec<usize> = (1..plan.steps.len() - 2).collect();
    let way: Vec<String> = way_back(&plan, &started, None).iter().map(ToString::to_string).collect();
    let at = |text: &str| way.iter().position(|step| step.starts_with(text)).unwrap();
    assert!(at("put astra-app@1") < at("drain astra-app@2"), "{way:?}");
    assert!(at("drain astra-app@2") < at("stop astra-app@2"), "{way:?}");
    assert_eq!(at("remove"), way.len() - 1, "{way:?}");
}

#[test]
fn undo_begins_with_the_instance_that_a_soak_found_unready() {
    let plan = deploy();
    let started: Vec<usize> = (1..plan.steps.len() - 2).collect();
    let first = |unready: Option<u16>| {
        let unready = unready.map(|id| id.to_string().parse().unwrap());
        way_back(&plan, &started, unready).first().unwrap().to_string()
    };
    assert!(first(None).starts_with("drain astra-app@2"), "the last one that was tried");
    assert!(first(Some(1)).starts_with("drain astra-app@1"), "2 alone serves");
}

#[test]
fn undo_stops_a_spare_without_a_rejoin() {
    let plan = with_spare(1);
    let way: Vec<String> =
        way_back(&plan, &[1, 2, 3, 4, 7, 8], None).iter().map(ToString::to_string).collect();
    assert!(way.iter().any(|s| s.starts_with("stop astra-app@1")), "{way:?}");
    assert!(!way.iter().any(|s| s.starts_with("put astra-app@1")), "{way:?}");
    assert!(way.iter().any(|s| s.starts_with("put astra-app@2")), "{way:?}");
}

#[test]
fn undo_stops_an_instance_with_its_own_stop_timeout() {
    let mut plan = deploy();
    let (long, stopped) = (Duration::from_secs(150), Fallback::Stopped);
    for step in &mut plan.steps {
        if let Step::StartTrial { fallback, stop, .. } = step {
            (*fallback, *stop) = (stopped.clone(), long);
        }
    }
    let way = way_back(&plan, &[1, 2, 3, 4], None);
    let stops = |step: &Step| matches!(step, Step::StopInstance { stop, .. } if *stop == long);
    assert!(way.iter().any(stops), "{way:?}");
}

/// A simulated host in which step number `fails` fails.
struct World {
    /// Per instance: runs the trial, is in rotation.
    instances: RefCell<[(bool, bool); 2]>,
    /// The fewest instances in rotation at any time.
    fewest: RefCell<usize>,
}

impl World {
    fn new() -> Self {
        Self { instances: RefCell::new([(false, true); 2]), fewest: RefCell::new(2) }
    }

    fn act(&self, step: &Step) {
        let mut instances = self.instances.borrow_mut();
        let at = |t: &Target| usize::from(t.id.number.get()) - 1;
        match step {
            Step::Drain { instance, .. } => instances[at(instance)].1 = false,
            Step::StartTrial { instance, .. } => instances[at(instance)].0 = true,
            Step::RestoreCommitted { instance, .. } => instances[at(instance)].0 = false,
            Step::Undrain { instance, .. } => instances[at(instance)].1 = true,
            _ => {}
        }
        let serving = instances.iter().filter(|(_, rotating)| *rotating).count();
        let mut fewest = self.fewest.borrow_mut();
        *fewest = serving.min(*fewest);
    }
}

async fn with_failure(plan: &Plan, fails: usize) -> (Outcome, World, Vec<Entry>) {
    let world = World::new();
    let count = RefCell::new(0);
    let perform = async |step: &Step, undoing: bool| {
        world.act(step);
        let mut count = count.borrow_mut();
        *count += 1;
        if !undoing && *count == fails + 1 {
            let error = anyhow::anyhow!("planted");
            return Performed::Failed(StepError::release(error));
        }
        Performed::Done(StepNote::default())
    };
    let (outcome, entries) = run(plan, perform, |_, _| Ok(())).await;
    (outcome, world, entries)
}

#[tokio::test]
async fn a_failure_before_the_commit_point_undoes_everything() {
    let plan = deploy();
    for fails in 0..=plan.commit.unwrap() {
        let (outcome, world, _) = with_failure(&plan, fails).await;
        assert!(matches!(outcome, Outcome::Undone { .. } | Outcome::Failed { .. }), "{fails}: {outcome:?}");
        assert_eq!(*world.instances.borrow(), [(false, true); 2], "step {fails} of {plan:?}");
        assert!(*world.fewest.borrow() >= 1, "step {fails}: nothing served");
    }
}

#[tokio::test]
async fn after_the_commit_point_it_only_goes_forward() {
    let plan = deploy();
    let (outcome, world, entries) = with_failure(&plan, plan.commit.unwrap() + 1).await;
    assert_eq!(outcome, Outcome::Incomplete, "a trial file that stays needs a look");
    assert_eq!(*world.instances.borrow(), [(true, true); 2]);
    assert!(!entries.iter().any(|e| matches!(e, Entry::UndoStarted { .. })));
}

#[tokio::test]
async fn a_working_plan_converges_and_records_its_commit_intent_first() {
    let plan = deploy();
    let (outcome, world, entries) = with_failure(&plan, usize::MAX - 1).await;
    assert_eq!(outcome, Outcome::Converged);
    assert_eq!(*world.instances.borrow(), [(true, true); 2]);
    let at = |wanted: fn(&Entry) -> bool| entries.iter().position(wanted).unwrap();
    let intent = at(|e| matches!(e, Entry::CommitIntent { .. }));
    assert!(intent < at(|e| matches!(e, Entry::Committed { .. })));
}

#[tokio::test]
async fn a_failed_undo_stops() {
    let plan = deploy();
    let perform = async |step: &Step, undoing: bool| match step {
        Step::AwaitReady { .. } => {
            let error = anyhow::anyhow!("planted, undoing: {undoing}");
            Performed::Failed(StepError::release(error))
        }
        _ => Performed::Done(StepNote::default()),
    };
    let (outcome, entries) = run(&plan, perform, |_, _| Ok(())).await;
    assert_eq!(outcome, Outcome::Incomplete);
    let rejoined =
        entries.iter().filter(|e| matches!(e, Entry::UndoStarted { what, .. } if what.contains("rotation")));
    assert_eq!(rejoined.count(), 0, "an instance that is not ready must not be undrained");
}

#[tokio::test]
async fn an_unwritable_journal_touches_nothing() {
    let plan = deploy();
    let touched = RefCell::new(0);
    let perform = async |_: &Step, _: bool| {
        *touched.borrow_mut() += 1;
        Performed::Done(StepNote::default())
    };
    let (outcome, _) = run(&plan, perform, |_, _| anyhow::bail!("disk full")).await;
    assert_eq!((outcome, *touched.borrow()), (Outcome::Failed { blame: Blame::Host }, 0));
}
