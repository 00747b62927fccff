//! Planted bugs: what the decision would be if it had one. Each must be found by the promises that the walk of the real
//! decision holds.

use astra_agent::model::entry::{Entry, Verb};
use astra_agent::model::history::History;
use astra_agent::model::name::{FILES_DIR, TRIAL_ENV};
use astra_agent::model::outcome::{Blame, Outcome};
use astra_agent::model::plan::Plan;
use astra_agent::model::step::Step;
use astra_agent::plan::migrations::MigratePolicy;
use astra_agent::run::{self, Next};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    None,
    StopsWithoutDraining,
    CommitsBeforeTheLastIsReady,
    CommitsBeforeTheStoreIsFlushed,
    MigratesAgain,
    NeverMigrates,
    DeploysWhatIsHeld,
    LeavesTrialFiles,
    UndoesAfterTheCommit,
    ForgetsToUndo,
    BlamesTheHost,
    RemovesTheWayBack,
    LeavesACutRunOpen,
    ForgetsTheCommitOfACutRun,
    RejoinsBeforeItIsReady,
    ReturnsNothing,
    LeavesTheSpare,
    RemovesFilesBeforeTheCommit,
}

impl Bug {
    pub fn migrate(self, wish: MigratePolicy) -> MigratePolicy {
        match self {
            Self::MigratesAgain => MigratePolicy::Always,
            Self::NeverMigrates => MigratePolicy::Never,
            _ => wish,
        }
    }

    pub fn forces(self) -> bool {
        self == Self::DeploysWhatIsHeld
    }

    pub fn skips_closing(self) -> bool {
        self == Self::LeavesACutRunOpen
    }

    pub fn plan(self, mut plan: Plan, verb: Verb) -> Plan {
        match self {
            Self::StopsWithoutDraining => without(&mut plan, |s| matches!(s, Step::Drain { .. })),
            Self::CommitsBeforeTheStoreIsFlushed => {
                without(&mut plan, |s| matches!(s, Step::FlushImages));
            }
            Self::LeavesTrialFiles => without(&mut plan, |s| match s {
                Step::RemoveFile { path } => path.starts_with("/run/astra/") && *path != *TRIAL_ENV,
                _ => false,
            }),
            Self::ReturnsNothing if verb != Verb::Rollback => {
                without(&mut plan, |s| matches!(s, Step::RestoreCommitted { .. }));
            }
            Self::LeavesTheSpare => without(&mut plan, |s| matches!(s, Step::StopInstance { .. })),
            Self::CommitsBeforeTheLastIsReady => commit_early(&mut plan),
            Self::RemovesFilesBeforeTheCommit => remove_early(&mut plan),
            Self::RejoinsBeforeItIsReady => rejoin_early(&mut plan),
            _ => {}
        }
        plan
    }

    pub fn next(self, plan: &Plan, entries: &[Entry]) -> Next {
        let next = run::next(plan, entries);
        match (self, next) {
            (Self::UndoesAfterTheCommit, Next::End(Outcome::Incomplete)) if plan.commit.is_some() => {
                let undone = entries.iter().any(|e| matches!(e, Entry::UndoDone { .. }));
                let step = plan.steps.iter().find(|s| matches!(s, Step::StartTrial { .. }));
                match step.and_then(|s| s.undo().into_iter().next()) {
                    Some(step) if !undone => Next::Undo(0, step),
                    _ => Next::End(Outcome::Incomplete),
                }
            }
            (Self::ForgetsToUndo, Next::Undo(..)) => {
                let failed = |e: &Entry| matches!(e, Entry::Failed { blame: Blame::Release, .. });
                let blame = if entries.iter().any(failed) { Blame::Release } else { Blame::Host };
                Next::End(Outcome::Undone { blame })
            }
            (Self::BlamesTheHost, Next::End(Outcome::Undone { .. })) => {
                Next::End(Outcome::Undone { blame: Blame::Host })
            }
            (_, next) => next,
        }
    }

    pub fn last_lines(self, mut lines: Vec<Entry>) -> Vec<Entry> {
        if self == Self::ForgetsTheCommitOfACutRun {
            lines.retain(|line| !matches!(line, Entry::Committed { .. }));
        }
        lines
    }

    pub fn tidy(self, mut steps: Vec<Step>, past: &History) -> Vec<Step> {
        if let (Self::RemovesTheWayBack, Some(target)) = (self, past.rollback_target()) {
            steps.push(Step::RemoveImage { image: target.image.clone() });
        }
        steps
    }
}

fn without(plan: &mut Plan, dropped: impl Fn(&Step) -> bool) {
    let before = plan.commit.map(|at| plan.steps[..at].iter().filter(|s| dropped(s)).count());
    plan.commit = plan.commit.zip(before).map(|(at, gone)| at - gone);
    plan.steps.retain(|step| !dropped(step));
}

fn commit_early(plan: &mut Plan) {
    let last = plan.steps.iter().rposition(|s| matches!(s, Step::AwaitReady { .. }));
    if let (Some(at), Some(last)) = (plan.commit, last.filter(|last| plan.commit > Some(*last))) {
        let flush = plan.steps[at - 1] == Step::FlushImages;
        let moved: Vec<Step> = plan.steps.splice(at - usize::from(flush)..=at, []).collect();
        plan.commit = Some(last + moved.len() - 1);
        plan.steps.splice(last..last, moved);
    }
}

/// The files of the release before go when those of the next are there.
fn remove_early(plan: &mut Plan) {
    let Some(commit) = plan.commit else { return };
    let Some(Step::Commit { old: Some(old), .. }) = plan.steps.get(commit) else { return };
    let args = old.all().flat_map(|(_, of)| &of.args);
    let files = args.filter_map(|arg| arg.strip_prefix("--volume=")?.split(':').next());
    let early: Vec<Step> = files
        .filter(|path| path.starts_with(FILES_DIR))
        .map(|path| Step::RemoveFile { path: path.into() })
        .collect();
    plan.commit = Some(commit + early.len());
    plan.steps.splice(commit..commit, early);
}

/// The marker goes before the wait.
fn rejoin_early(plan: &mut Plan) {
    for at in 0..plan.steps.len() {
        if let Step::Undrain { instance, .. } = &plan.steps[at] {
            let marker = Step::RemoveFile { path: instance.id.marker() };
            let waits = |s: &Step| matches!(s, Step::AwaitReady { instance: other, .. } if other == instance);
            if let Some(wait) = plan.steps[..at].iter().rposition(waits) {
                plan.steps.remove(at);
                plan.steps.insert(wait, marker);
            }
        }
    }
}
