//! Decides which runs may be removed. Called by journal.rs when there are too many.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::entry::RunId;
use crate::model::history::{History, RunRecord};

/// At most `surplus` of `runs` (oldest first; never the `recent` newest) that do not affect the history. They
/// are in removal order: the history is also the same after each single removal.
pub(super) fn forgettable(runs: &[RunRecord], surplus: usize, recent: usize) -> Vec<RunId> {
    let mut left: Vec<&RunRecord> = runs.iter().collect();
    let all = History::fold(left.iter().copied());
    let stems = stems(&all, runs);
    let (mut gone, mut at) = (Vec::new(), 0);
    for run in runs.iter().take(runs.len().saturating_sub(recent)) {
        if gone.len() == surplus {
            break;
        }
        let open = !run.entries.is_empty() && run.closed().is_none();
        // Known to stay without folding the history again.
        if !open && !stems.contains(&run.id) {
            left.remove(at);
            if says_as_much(&History::fold(left.iter().copied()), &all) {
                gone.push(run.id);
                continue;
            }
            left.insert(at, run);
        }
        at += 1;
    }
    gone
}

/// Runs that certainly stay: the last commit of each release on the stack, the origin of each hold, and the last pin of
/// each accessory.
fn stems(history: &History, runs: &[RunRecord]) -> BTreeSet<RunId> {
    let last = |release| runs.iter().rev().find(|run| run.committed() == Some(release)).map(|run| run.id);
    let pins: BTreeMap<_, _> = runs.iter().filter_map(|run| Some((run.pin()?.0, run.id))).collect();
    let held = history.held.iter().map(|held| held.run);
    history.commits.iter().filter_map(last).chain(held).chain(pins.into_values()).collect()
}

/// Whether both agree on rollback targets, holds, the pin, migrations, and used release numbers.
fn says_as_much(one: &History, all: &History) -> bool {
    let highest = |history: &History| history.releases.iter().map(|release| release.number).max();
    one.commits == all.commits
        && one.held == all.held
        && one.pinned == all.pinned
        && one.ever_committed == all.ever_committed
        && highest(one) == highest(all)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use proptest::prelude::*;

    use super::*;
    use crate::model::entry::{Entry, Stamped, Verb};
    use crate::model::fingerprint::HostKey;
    use crate::model::outcome::{Blame, Outcome};
    use crate::model::release::Release;

    const BAD: Outcome = Outcome::Undone { blame: Blame::Release };
    const GOOD: Outcome = Outcome::Converged;

    fn release(number: u64, of: u8, with: u8) -> Release {
        let image = format!("ghcr.io/a/b@sha256:{}", format!("{of:02x}").repeat(32)).parse().unwrap();
        Release {
            number,
            image,
            images: BTreeMap::new(),
            fingerprint: HostKey::new([0; 32]).fingerprint([[with].as_slice()]),
        }
    }

    fn run(id: RunId, verb: Verb, new: Option<Release>, commits: bool, closed: Option<Outcome>) -> RunRecord {
        let (actor, agent, pins) =
            ("test".into(), "0".into(), matches!(verb, Verb::DeploySha | Verb::Rollback));
        let opened = Entry::Opened {
            verb,
            actor,
            agent,
            plan: vec![],
            old: None,
            new: new.clone(),
            pins,
            accessory: None,
        };
        let mut entries = vec![opened];
        entries.extend(new.filter(|_| commits).map(|release| Entry::Committed { release }));
        entries.extend(closed.map(|outcome| Entry::Closed { outcome, reason: None, recovered: false }));
        RunRecord { id, entries: entries.into_iter().map(|entry| Stamped { at: id, entry }).collect() }
    }

    fn without(runs: &[RunRecord], gone: &[RunId]) -> Vec<RunRecord> {
        runs.iter().filter(|run| !gone.contains(&run.id)).cloned().collect()
    }

    fn any_run() -> impl Strategy<Value = (Verb, Option<Release>, bool, Option<Outcome>)> {
        let verbs = vec![Verb::Install, Verb::Deploy, Verb::DeploySha, Verb::Rollback, Verb::Reconcile];
        let outcomes = vec![GOOD, BAD, Outcome::Failed { blame: Blame::Host }, Outcome::Incomplete];
        let new = prop::option::weighted(0.8, (1..4u8, 1..3u8));
        let closed = prop::option::weighted(0.95, prop::sample::select(outcomes));
        (prop::sample::select(verbs), new, prop::bool::weighted(0.6), closed).prop_map(
            |(verb, new, commits, closed)| {
                let new = new.map(|(of, with)| release(u64::from(of) * 2 + u64::from(with), of, with));
                (verb, new, commits, closed)
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_forgotten_was_said_by_others(
            runs in prop::collection::vec(any_run(), 1..40), surplus in 1..40usize, recent in 1..6usize
        ) {
            let runs: Vec<_> = (1..).zip(runs).map(|(id, (v, n, c, o))| run(id, v, n, c, o)).collect();
            let before = History::of(runs.clone());
            let gone = forgettable(&runs, surplus, recent);
            prop_assert!(gone.len() <= surplus);
            prop_assert!(runs.iter().rev().take(recent).all(|run| !gone.contains(&run.id)));
            // A cut-off pruning also leaves a journal.
            for cut in 0..=gone.len() {
                let after = History::of(without(&runs, &gone[..cut]));
                prop_assert_eq!(&after.held, &before.held);
                prop_assert_eq!(after.pinned, before.pinned);
                prop_assert_eq!(&after.commits, &before.commits);
                prop_assert_eq!(after.current(), before.current());
                prop_assert_eq!(after.rollback_target(), before.rollback_target());
                prop_assert_eq!(&after.ever_committed, &before.ever_committed);
                prop_assert!(after.open_runs().eq(before.open_runs()));
            }
        }
    }

    /// The release that was rolled back from, and the pin, in runs far apart.
    #[test]
    fn a_hold_and_a_pin_survive_pruning() {
        let [a, b] = [release(1, 1, 1), release(2, 2, 1)];
        let mut runs = vec![
            run(1, Verb::Deploy, Some(a.clone()), true, Some(GOOD)),
            run(2, Verb::Deploy, Some(b.clone()), true, Some(GOOD)),
            run(3, Verb::Rollback, Some(a.clone()), true, Some(GOOD)),
        ];
        runs.extend((4..700).map(|id| run(id, Verb::Reconcile, None, false, Some(GOOD))));
        let kept = without(&runs, &forgettable(&runs, 199, 100));
        assert_eq!(kept.len(), 500);
        let history = History::of(kept);
        assert!(history.pinned && history.held_images(&b).is_some());
        assert_eq!((history.current(), history.rollback_target()), (Some(&a), None));
    }

    /// Two releases that alternate add no history beyond the last two turns.
    #[test]
    fn a_thousand_alternating_runs_are_pruned_quickly() {
        let turn = |id: RunId| match id % 2 {
            1 => run(id, Verb::Deploy, Some(release(2, 2, 1)), true, Some(GOOD)),
            _ => run(id, Verb::Rollback, Some(release(1, 1, 1)), true, Some(GOOD)),
        };
        let mut runs = vec![run(0, Verb::Install, Some(release(1, 1, 1)), true, Some(GOOD))];
        runs.extend((1..=1000).map(turn));
        let begun = Instant::now();
        let gone = forgettable(&runs, 900, 1);
        println!("{} of {} runs in {:?}", gone.len(), runs.len(), begun.elapsed());
        assert_eq!(gone.len(), 900);
        // Every commit is on the stack, so every run must stay, which is decided quickly.
        let stack: Vec<_> = (1..200)
            .map(|id| run(id.into(), Verb::Deploy, Some(release(id.into(), id, 1)), true, Some(GOOD)))
            .collect();
        assert!(forgettable(&stack, 100, 1).is_empty());
    }
}
