//! Floor 3: what comes next. [`next`] is pure; [`run`] is the loop around it, which is handed a performer
//! (host/, in production) and a recorder (journal.rs), and knows neither.

use crate::model::entry::Entry;
use crate::model::outcome::{Blame, Outcome};
use crate::model::plan::Plan;
use crate::model::step::{Fallback, Step, Target};
use crate::model::told::Told;

/// What the loop does next.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    Do(usize, Step),
    /// The n-th step of the way back.
    Undo(usize, Step),
    End(Outcome),
}

/// Why a step did not work, and who is to blame.
#[derive(Debug)]
pub struct Failure {
    pub blame: Blame,
    pub error: anyhow::Error,
}

/// How a performer ends a step.
#[derive(Debug)]
pub enum Performed {
    /// Done, perhaps with something worth telling.
    Done(Told),
    Failed(Failure),
    /// A signal came while the step could still be left; the step was left.
    Interrupted(String),
}

/// What comes next for `plan` after `entries`: forward while all goes well, back after a failure before the
/// commit point, forward again past it.
pub fn next(plan: &Plan, entries: &[Entry]) -> Next {
    let state = State::of(plan, entries);
    if state.undo_failed {
        return Next::End(Outcome::Incomplete);
    }
    match state.stopped {
        Some(blame) if !state.committed => back(plan, &state, blame),
        _ => forward(plan, &state),
    }
}

fn forward(plan: &Plan, state: &State) -> Next {
    let todo = plan.steps.iter().enumerate().find(|(i, _)| !state.settled.contains(i));
    match todo {
        Some((i, step)) => Next::Do(i, step.clone()),
        None if state.incomplete => Next::End(Outcome::Incomplete),
        None => Next::End(Outcome::Converged),
    }
}

fn back(plan: &Plan, state: &State, blame: Blame) -> Next {
    if plan.commit.is_none() {
        let touched = state.settled.iter().any(|i| state.failed_at != Some(*i));
        return Next::End(if touched { Outcome::Incomplete } else { Outcome::Failed { blame } });
    }
    let way = way_back(plan, &state.started);
    match way.get(state.undone) {
        Some(step) => Next::Undo(state.undone, step.clone()),
        None if way.is_empty() => Next::End(Outcome::Failed { blame }),
        None => Next::End(Outcome::Undone { blame }),
    }
}

/// The steps that take back everything in `started`, last first.
fn way_back(plan: &Plan, started: &[usize]) -> Vec<Step> {
    let mut order = started.to_vec();
    order.sort_unstable();
    let begun: Vec<&Step> = order.iter().rev().filter_map(|i| plan.steps.get(*i)).collect();
    // What the way back stops cannot rejoin: its marker goes with it.
    let stops = |drained: &Target| {
        begun.iter().any(
            |s| matches!(s, Step::Try { instance, fallback: Fallback::Stopped, .. } if instance == drained),
        )
    };
    let lasts = |step: &&&Step| !matches!(step, Step::Drain { instance, .. } if stops(instance));
    begun.iter().filter(lasts).flat_map(|step| step.undo()).collect()
}

#[derive(Default)]
struct State {
    started: Vec<usize>,
    /// Done, or failed where only forward is left.
    settled: Vec<usize>,
    failed_at: Option<usize>,
    stopped: Option<Blame>,
    committed: bool,
    undone: usize,
    undo_failed: bool,
    /// Something past the commit point did not work that a person has to look at.
    incomplete: bool,
}

impl State {
    fn of(plan: &Plan, entries: &[Entry]) -> Self {
        let mut state = Self::default();
        for entry in entries {
            match entry {
                Entry::Started { step } => state.started.push(*step),
                Entry::Done { step, .. } => {
                    state.settled.push(*step);
                    state.committed |= plan.commit == Some(*step);
                }
                Entry::Failed { step, blame, .. } => {
                    state.settled.push(*step);
                    if state.committed {
                        state.incomplete |= !plan.steps.get(*step).is_some_and(Step::is_housekeeping);
                    } else {
                        state.failed_at = Some(*step);
                        state.stopped = state.stopped.or(Some(*blame));
                    }
                }
                Entry::Interrupted { .. } => state.stopped = state.stopped.or(Some(Blame::Host)),
                Entry::UndoDone { .. } => state.undone += 1,
                Entry::UndoFailed { .. } => state.undo_failed = true,
                Entry::Opened { .. }
                | Entry::UndoStarted { .. }
                | Entry::CommitIntent { .. }
                | Entry::Committed { .. }
                | Entry::Closed { .. } => {}
            }
        }
        state
    }
}

/// Carry out `plan`. `perform` does one step (`undoing` says on which way); `record` makes an entry durable
/// before it returns when told to, and an error of it ends the run before the step is touched.
pub async fn run(
    plan: &Plan,
    mut perform: impl AsyncFnMut(&Step, bool) -> Performed,
    mut record: impl FnMut(&Entry, bool) -> anyhow::Result<()>,
) -> anyhow::Result<(Outcome, Vec<Entry>)> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut note = |entries: &mut Vec<Entry>, entry: Entry, durable: bool| {
        let written = record(&entry, durable);
        entries.push(entry);
        written
    };
    loop {
        match next(plan, &entries) {
            Next::End(outcome) => return Ok((outcome, entries)),
            Next::Do(step, act) => {
                let durable = act.is_durable();
                let written = note(&mut entries, Entry::Started { step }, durable);
                // Past the commit point a journal that cannot be written stops nothing: what is left of the trial
                // would outrank what astra.env says.
                let past = entries.iter().any(|e| matches!(e, Entry::Committed { .. }));
                if let (Err(error), false) = (written, past) {
                    // Not touched: the entry that would say so could not be written.
                    entries.pop();
                    let error = format!("{:#}", error.context(format!("writing the journal before `{act}`")));
                    entries.push(Entry::Failed { step, blame: Blame::Host, error });
                    continue;
                }
                if let Step::Commit { old, candidate, .. } = &act {
                    let intent = Entry::CommitIntent { old: old.clone(), new: candidate.lines.clone() };
                    if let Err(error) = note(&mut entries, intent, true) {
                        let error = format!("{:#}", error.context("writing the commit intent"));
                        entries.push(Entry::Failed { step, blame: Blame::Host, error });
                        continue;
                    }
                }
                let entry = match perform(&act, false).await {
                    Performed::Done(told) => Entry::Done { step, told },
                    Performed::Failed(Failure { blame, error }) => {
                        Entry::Failed { step, blame, error: format!("{error:#}") }
                    }
                    Performed::Interrupted(signal) => Entry::Interrupted { signal },
                };
                let committed = match (&act, &entry) {
                    (Step::Commit { candidate, .. }, Entry::Done { .. }) => Some(candidate.release.clone()),
                    _ => None,
                };
                // From here the host has changed; a journal that cannot be written no longer stops anything,
                // because astra.env and the containers' labels tell recover the truth.
                let _ = note(&mut entries, entry, durable && committed.is_none());
                if let Some(release) = committed {
                    let _ = note(&mut entries, Entry::Committed { release }, true);
                }
            }
            Next::Undo(step, act) => {
                let _ = note(&mut entries, Entry::UndoStarted { step, what: act.to_string() }, false);
                let entry = match perform(&act, true).await {
                    Performed::Done(told) => Entry::UndoDone { step, told },
                    Performed::Interrupted(_) => Entry::UndoDone { step, told: Told::default() },
                    Performed::Failed(Failure { error, .. }) => {
                        Entry::UndoFailed { step, error: format!("{error:#}") }
                    }
                };
                let _ = note(&mut entries, entry, act.is_durable());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::time::Duration;

    use super::*;
    use crate::model::envfile::ManagedLines;
    use crate::model::fingerprint::HostKey;
    use crate::model::name::{AppName, InstanceId};
    use crate::model::release::{Candidate, Release};
    use crate::model::step::{Content, Fallback, Probe, Target};

    fn target(id: u16) -> Target {
        let app: AppName = "astra".parse().unwrap();
        let id = InstanceId::new(id).unwrap();
        let address = format!("127.0.0.1:{}", 8000 + id.get()).parse().unwrap();
        Target { id, unit: app.unit(id), container: app.container(id), upstream: address }
    }

    /// Pull, trial environment, migration, two instances one after the other, commit, one cleaning step.
    fn deploy() -> Plan {
        let image: crate::model::image::PinnedImage =
            format!("ghcr.io/a/b@sha256:{}", "ab".repeat(32)).parse().unwrap();
        let fingerprint = HostKey::new([1; 32]).fingerprint([b"x".as_slice()]);
        let release = Release { number: 2, image: image.clone(), fingerprint };
        let lines = ManagedLines {
            image: image.clone(),
            release: 2,
            args: vec![],
            command: vec![],
            port: 8000,
            keys: Default::default(),
        };
        let candidate = Candidate { release, lines };
        let stop = Duration::from_secs(1);
        let probe = Probe { path: "/".into(), host: "h".into(), https: false, answer: stop, timeout: stop };
        let limits = crate::model::step::Drain { requests: stop, streams: stop };
        let mut steps = vec![
            Step::Pull { image },
            Step::WriteTrialEnv { content: Content::Secret { bytes: vec![], changed: vec![] } },
            Step::Migrate { release: 2, timeout: stop },
        ];
        for id in [1, 2] {
            let fallback = Fallback::Committed { probe: probe.clone(), stop };
            steps.push(Step::Drain { instance: target(id), limits, probe: probe.clone() });
            steps.push(Step::Try {
                instance: target(id),
                candidate: candidate.clone(),
                fallback,
                stop,
                timeout: stop,
            });
            steps.push(Step::AwaitReady { instance: target(id), probe: probe.clone() });
            steps.push(Step::Rejoin { instance: target(id), probe: probe.clone(), limits });
        }
        let commit = steps.len();
        let env = std::collections::BTreeMap::new();
        steps.push(Step::Commit { file: "/e".into(), old: None, candidate: candidate.clone(), env });
        steps.push(Step::RemoveFile { path: "/run/astra/trial.env".into() });
        Plan { steps, commit: Some(commit), candidate: Some(candidate), warnings: vec![] }
    }

    #[test]
    fn a_spare_that_is_stopped_again_does_not_rejoin() {
        let mut plan = deploy();
        for step in &mut plan.steps {
            if let Step::Try { instance, fallback, .. } = step
                && instance.id.get() == 1
            {
                *fallback = Fallback::Stopped;
            }
        }
        let way: Vec<String> = way_back(&plan, &[1, 2, 3, 4, 7, 8]).iter().map(ToString::to_string).collect();
        assert!(way.iter().any(|s| s.starts_with("stop astra-app@1")), "{way:?}");
        assert!(!way.iter().any(|s| s.starts_with("put astra-app@1")), "{way:?}");
        assert!(way.iter().any(|s| s.starts_with("put astra-app@2")), "{way:?}");
    }

    #[test]
    fn an_instance_that_is_stopped_again_gets_the_time_to_stop_that_it_was_started_with() {
        let mut plan = deploy();
        let (long, stopped) = (Duration::from_secs(150), Fallback::Stopped);
        for step in &mut plan.steps {
            if let Step::Try { fallback, stop, .. } = step {
                (*fallback, *stop) = (stopped.clone(), long);
            }
        }
        let way = way_back(&plan, &[1, 2, 3, 4]);
        let stops = |step: &Step| matches!(step, Step::StopInstance { stop, .. } if *stop == long);
        assert!(way.iter().any(stops), "{way:?}");
    }

    /// What a host would be after a run in which the step number `fails` does not work.
    struct World {
        /// Per instance: runs the trial, in rotation.
        instances: RefCell<[(bool, bool); 2]>,
        /// The fewest instances that were ever in rotation.
        fewest: RefCell<usize>,
    }

    impl World {
        fn new() -> Self {
            Self { instances: RefCell::new([(false, true); 2]), fewest: RefCell::new(2) }
        }

        fn act(&self, step: &Step) {
            let mut instances = self.instances.borrow_mut();
            let at = |t: &Target| usize::from(t.id.get()) - 1;
            match step {
                Step::Drain { instance, .. } => instances[at(instance)].1 = false,
                Step::Try { instance, .. } => instances[at(instance)].0 = true,
                Step::Return { instance, .. } => instances[at(instance)].0 = false,
                Step::Rejoin { instance, .. } => instances[at(instance)].1 = true,
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
                return Performed::Failed(Failure { blame: Blame::Release, error });
            }
            Performed::Done(Told::default())
        };
        let (outcome, entries) = run(plan, perform, |_, _| Ok(())).await.unwrap();
        (outcome, world, entries)
    }

    #[tokio::test]
    async fn a_failure_anywhere_before_the_commit_point_takes_everything_back() {
        let plan = deploy();
        for fails in 0..=plan.commit.unwrap() {
            let (outcome, world, _) = with_failure(&plan, fails).await;
            assert!(
                matches!(outcome, Outcome::Undone { .. } | Outcome::Failed { .. }),
                "{fails}: {outcome:?}"
            );
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
    async fn a_plan_that_works_converges_and_says_what_it_commits_before_it_does() {
        let plan = deploy();
        let (outcome, world, entries) = with_failure(&plan, usize::MAX - 1).await;
        assert_eq!(outcome, Outcome::Converged);
        assert_eq!(*world.instances.borrow(), [(true, true); 2]);
        let at = |wanted: fn(&Entry) -> bool| entries.iter().position(wanted).unwrap();
        let intent = at(|e| matches!(e, Entry::CommitIntent { .. }));
        assert!(intent < at(|e| matches!(e, Entry::Committed { .. })));
    }

    #[tokio::test]
    async fn a_way_back_that_fails_stops_there() {
        let plan = deploy();
        let perform = async |step: &Step, undoing: bool| match step {
            Step::AwaitReady { .. } => {
                let error = anyhow::anyhow!("planted, undoing: {undoing}");
                Performed::Failed(Failure { blame: Blame::Release, error })
            }
            _ => Performed::Done(Told::default()),
        };
        let (outcome, entries) = run(&plan, perform, |_, _| Ok(())).await.unwrap();
        assert_eq!(outcome, Outcome::Incomplete);
        let rejoined = entries
            .iter()
            .filter(|e| matches!(e, Entry::UndoStarted { what, .. } if what.contains("rotation")));
        assert_eq!(rejoined.count(), 0, "an instance that is not ready must not rejoin");
    }

    #[tokio::test]
    async fn a_journal_that_cannot_be_written_touches_nothing() {
        let plan = deploy();
        let touched = RefCell::new(0);
        let perform = async |_: &Step, _: bool| {
            *touched.borrow_mut() += 1;
            Performed::Done(Told::default())
        };
        let (outcome, _) = run(&plan, perform, |_, _| anyhow::bail!("disk full")).await.unwrap();
        assert_eq!((outcome, *touched.borrow()), (Outcome::Failed { blame: Blame::Host }, 0));
    }
}
