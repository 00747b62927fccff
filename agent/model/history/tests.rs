use std::collections::BTreeMap;

use super::*;
use crate::model::fingerprint::HostKey;
use crate::model::image::PinnedImage;

fn release(number: u64, image: u8) -> Release {
    let image: PinnedImage =
        format!("ghcr.io/a/b@sha256:{}", format!("{image:02x}").repeat(32)).parse().unwrap();
    Release {
        number,
        image,
        images: BTreeMap::new(),
        fingerprint: HostKey::new([0; 32]).fingerprint([b"env".as_slice()]),
    }
}

fn run(id: RunId, verb: Verb, new: &Release, outcome: Outcome) -> RunRecord {
    let mut entries = vec![Entry::Opened {
        verb,
        actor: "test".into(),
        agent: "0".into(),
        plan: vec![],
        old: None,
        new: Some(new.clone()),
        pins: verb != Verb::Deploy,
        accessory: None,
    }];
    if outcome == Outcome::Converged {
        entries.push(Entry::Committed { release: new.clone() });
    }
    entries.push(Entry::Closed { outcome, reason: None, recovered: false });
    RunRecord { id, entries: entries.into_iter().map(|entry| Stamped { at: id, entry }).collect() }
}

const GOOD: Outcome = Outcome::Converged;
const BAD: Outcome = Outcome::Undone { blame: Blame::Release };

#[test]
fn rollback_twice_goes_two_back_and_holds_both() {
    let [a, b, c] = [release(1, 1), release(2, 2), release(3, 3)];
    let mut runs =
        vec![run(1, Verb::Deploy, &a, GOOD), run(2, Verb::Deploy, &b, GOOD), run(3, Verb::Deploy, &c, GOOD)];
    assert_eq!(History::of(runs.clone()).rollback_target(), Some(&b));
    runs.push(run(4, Verb::Rollback, &b, GOOD));
    let history = History::of(runs.clone());
    assert_eq!(history.rollback_target(), Some(&a));
    assert!(history.held_images(&c).is_some() && history.pinned);
    runs.push(run(5, Verb::Rollback, &a, GOOD));
    let history = History::of(runs.clone());
    assert_eq!(history.rollback_target(), None);
    assert!(history.held_images(&b).is_some());
    runs.push(run(6, Verb::Deploy, &b, GOOD));
    let history = History::of(runs);
    assert!(history.held_images(&b).is_none(), "a committed release is held no more");
    assert_eq!(history.rollback_target(), Some(&a));
}

#[test]
fn an_image_rolled_back_from_is_held_with_any_environment() {
    let [a, b] = [release(1, 1), release(2, 2)];
    let other = HostKey::new([0; 32]).fingerprint([b"another".as_slice()]);
    let other = Release { fingerprint: other, ..b.clone() };
    let mut runs = vec![
        run(1, Verb::Deploy, &a, GOOD),
        run(2, Verb::Deploy, &b, GOOD),
        run(3, Verb::Rollback, &a, GOOD),
    ];
    let history = History::of(runs.clone());
    assert!(history.held_for_person(&other).is_some());
    // A forced deploy that fails does not weaken the hold.
    runs.push(run(4, Verb::Deploy, &b, BAD));
    assert!(History::of(runs).held_for_person(&other).is_some());
    let failed = vec![run(1, Verb::Deploy, &a, GOOD), run(2, Verb::Deploy, &b, BAD)];
    let failed = History::of(failed);
    assert!(failed.held_for_person(&other).is_none(), "it may be tried with another one");
    assert!(failed.held_for_person(&b).is_some());
    assert!(failed.held_for_timer(&b).is_some(), "but not by a timer");
}

#[test]
fn going_to_a_newer_release_holds_nothing() {
    let [a, b, c] = [release(1, 1), release(2, 2), release(3, 3)];
    let mut runs = vec![
        run(1, Verb::Deploy, &a, GOOD),
        run(2, Verb::Deploy, &b, GOOD),
        run(3, Verb::Deploy, &c, GOOD),
        run(4, Verb::Rollback, &b, GOOD),
        run(5, Verb::Rollback, &c, GOOD),
    ];
    let history = History::of(runs.clone());
    assert!(history.held.is_empty(), "{:?}", history.held);
    assert_eq!((history.current(), history.rollback_target()), (Some(&c), Some(&b)));
    // To an older one that is no longer on the stack.
    runs.truncate(2);
    runs.extend([run(3, Verb::Rollback, &a, GOOD), run(4, Verb::Deploy, &c, GOOD)]);
    runs.push(run(5, Verb::Rollback, &b, GOOD));
    let history = History::of(runs);
    assert!(history.held_images(&c).is_some());
}

#[test]
fn a_failed_rollback_target_is_not_skipped() {
    let [a, b, c] = [release(1, 1), release(2, 2), release(3, 3)];
    let runs = vec![
        run(1, Verb::Deploy, &a, GOOD),
        run(2, Verb::Deploy, &b, GOOD),
        run(3, Verb::Deploy, &c, GOOD),
        run(4, Verb::Rollback, &b, BAD),
    ];
    let history = History::of(runs);
    assert_eq!(history.rollback_target(), Some(&b));
    let (held, behind) = history.way_back_held().unwrap();
    assert_eq!((&held.release, held.run, behind), (&b, 4, Some(&a)));
}

#[test]
fn a_failed_release_is_held_but_the_first_never() {
    let [a, b] = [release(1, 1), release(2, 2)];
    assert!(History::of(vec![run(1, Verb::Install, &a, BAD)]).held.is_empty());
    let runs = vec![run(1, Verb::Install, &a, GOOD), run(2, Verb::Deploy, &b, BAD)];
    let history = History::of(runs.clone());
    assert!(history.held_for_person(&b).is_some());
    assert_eq!(history.current(), Some(&a));
    let undone = Outcome::Undone { blame: Blame::Host };
    assert!(History::of(vec![runs[0].clone(), run(2, Verb::Deploy, &b, undone)]).held.is_empty());
}

#[test]
fn only_a_chosen_digest_pins() {
    let [a, b] = [release(1, 1), release(2, 2)];
    let opened = |verb, plan: &[&str], pins| Entry::Opened {
        verb,
        actor: "test".into(),
        agent: "0".into(),
        plan: plan.iter().map(ToString::to_string).collect(),
        old: Some(a.clone()),
        new: None,
        pins,
        accessory: None,
    };
    let closed = Entry::Closed { outcome: GOOD, reason: None, recovered: false };
    let pinned = |runs: &[(Verb, &[&str], bool)]| {
        let mut all = vec![run(1, Verb::Deploy, &a, GOOD)];
        for (verb, plan, pins) in runs {
            let entries = [opened(*verb, plan, *pins), closed.clone()];
            let entries = entries.into_iter().map(|entry| Stamped { at: 0, entry }).collect();
            all.push(RunRecord { id: all.len() as u64 + 1, entries });
        }
        History::of(all).pinned
    };
    assert!(pinned(&[(Verb::DeploySha, &[], true)]), "what serves, and is to stay");
    assert!(!pinned(&[(Verb::DeploySha, &[], true), (Verb::Deploy, &[], false)]));
    // Files were repaired before a release that was refused.
    assert!(!pinned(&[(Verb::Deploy, &["write /etc/astra/Caddyfile"], true)]));
    assert!(pinned(&[(Verb::DeploySha, &[], true), (Verb::Deploy, &["write"], false)]));
    let undone = Outcome::Undone { blame: Blame::Host };
    let failed = History::of(vec![run(1, Verb::Deploy, &a, GOOD), run(2, Verb::DeploySha, &b, undone)]);
    assert!(!failed.pinned);
}

#[test]
fn the_same_image_again_is_no_rollback_target() {
    let [a, b] = [release(1, 1), release(2, 2)];
    let mut again = b.clone();
    again.number = 3;
    let runs = vec![
        run(1, Verb::Deploy, &a, GOOD),
        run(2, Verb::Deploy, &b, GOOD),
        run(3, Verb::Deploy, &again, GOOD),
    ];
    assert_eq!(History::of(runs).rollback_target(), Some(&a));
}
