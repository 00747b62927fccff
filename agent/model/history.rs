//! What the journal teaches: the stack of commits, what is held, which number comes next, what is still open.
//! A pure fold over the runs; the journal's files are read elsewhere.

use std::collections::BTreeSet;

use super::digest::Digest;
use super::entry::{Entry, RunId, Stamped, Verb};
use super::fingerprint::Fingerprint;
use super::outcome::{Blame, Outcome};
use super::release::Release;

/// One run, as its file tells it.
#[derive(Clone, Debug, PartialEq)]
pub struct RunRecord {
    pub id: RunId,
    pub entries: Vec<Stamped>,
}

/// A release that nothing automatic tries again.
#[derive(Clone, Debug, PartialEq)]
pub struct Held {
    pub release: Release,
    pub run: RunId,
    pub reason: String,
    pub why: HeldFor,
}

/// What a release is held for, which says for whom and how widely.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeldFor {
    /// It failed. A person may try its image with another environment.
    Failed,
    /// It failed while the same image served with another environment: the image is no worse for it.
    Environment,
    /// Somebody rolled back from its image: it stays away whatever environment it is given.
    RolledBack,
}

/// All that earlier runs say about the next one.
#[derive(Clone, Debug, Default)]
pub struct History {
    pub runs: Vec<RunRecord>,
    /// Committed releases, the current one last. A rollback takes entries off.
    pub commits: Vec<Release>,
    /// Every release that was ever committed here, by digest.
    pub ever_committed: BTreeSet<Digest>,
    pub held: Vec<Held>,
    /// Releases by number, tried or committed.
    pub releases: Vec<Release>,
    /// The last commit chose its digest itself: nothing automatic follows the tag until a plain deploy.
    pub pinned: bool,
    /// Why the journal cannot be trusted: safe mode.
    pub damaged: Option<String>,
}

impl RunRecord {
    /// Verb, actor, start (milliseconds since 1970), planned release.
    pub fn opened(&self) -> Option<Opened<'_>> {
        let first = self.entries.first()?;
        match &first.entry {
            Entry::Opened { verb, actor, old, new, pins, .. } => Some(Opened {
                verb: *verb,
                actor,
                at: first.at,
                old: old.as_ref(),
                new: new.as_ref(),
                pins: *pins,
            }),
            _ => None,
        }
    }

    pub fn closed(&self) -> Option<(Outcome, Option<&str>, u64)> {
        self.entries.iter().rev().find_map(|s| match &s.entry {
            Entry::Closed { outcome, reason, .. } => Some((*outcome, reason.as_deref(), s.at)),
            _ => None,
        })
    }

    pub fn committed(&self) -> Option<&Release> {
        self.entries.iter().find_map(|s| match &s.entry {
            Entry::Committed { release } => Some(release),
            _ => None,
        })
    }

    /// The release failed, whatever came of the way back.
    fn blamed(&self) -> bool {
        let outcome = self.closed().map(|(outcome, ..)| outcome);
        let named = Outcome::Undone { blame: Blame::Release };
        let failed = |s: &Stamped| matches!(s.entry, Entry::Failed { blame: Blame::Release, .. });
        outcome == Some(named)
            || outcome == Some(Outcome::Failed { blame: Blame::Release })
            || outcome.is_some() && self.entries.iter().any(failed)
    }

    /// Nothing had to be done, and that was worth a run: it follows the tag again, or no longer.
    fn is_empty(&self) -> bool {
        let first = self.entries.first().map(|s| &s.entry);
        matches!(first, Some(Entry::Opened { plan, .. }) if plan.is_empty())
    }

    /// The release whose commit was about to happen.
    pub fn intended(&self) -> Option<u64> {
        self.entries.iter().find_map(|s| match &s.entry {
            Entry::CommitIntent { new, .. } => Some(new.release),
            _ => None,
        })
    }
}

/// The first line of a run.
#[derive(Clone, Copy, Debug)]
pub struct Opened<'a> {
    pub verb: Verb,
    pub actor: &'a str,
    pub at: u64,
    pub old: Option<&'a Release>,
    pub new: Option<&'a Release>,
    pub pins: bool,
}

impl History {
    /// Fold `runs`, oldest first.
    pub fn of(runs: Vec<RunRecord>) -> Self {
        let history = Self::fold(&runs);
        Self { runs, ..history }
    }

    /// What `runs` teach, oldest first, without the runs themselves.
    pub fn fold<'a>(runs: impl IntoIterator<Item = &'a RunRecord>) -> Self {
        let mut history = Self::default();
        for run in runs {
            history.add(run);
        }
        history
    }

    fn add(&mut self, run: &RunRecord) {
        let Some(opened) = run.opened() else { return };
        if let Some(new) = opened.new {
            match self.releases.iter_mut().find(|r| r.number == new.number) {
                // Until one is committed, each try of a first release has its number.
                Some(known) if self.commits.is_empty() => known.clone_from(new),
                Some(_) => {}
                None => self.releases.push(new.clone()),
            }
        }
        if let Some(release) = run.committed() {
            self.commit(release, opened.verb, run.id);
            self.pinned = opened.pins;
            return;
        }
        let chooses = matches!(opened.verb, Verb::Deploy | Verb::DeploySha | Verb::Rollback);
        // A release that is committed already may still have had instances to start.
        if chooses
            && (run.is_empty() || opened.new.is_some())
            && matches!(run.closed(), Some((Outcome::Converged, ..)))
        {
            self.pinned = opened.pins;
        }
        // The very first release is never held: there is nothing to go back to, and install tries again.
        // Nor is the committed one, which may only have met a bad hour: it is what everything goes back to.
        let (Some(new), Some(current)) = (opened.new, self.current()) else { return };
        if run.blamed()
            && (&new.image.digest, &new.fingerprint) != (&current.image.digest, &current.fingerprint)
        {
            let same = new.image.digest == current.image.digest;
            let why = if same { HeldFor::Environment } else { HeldFor::Failed };
            let reason = run.closed().and_then(|(_, reason, _)| reason).unwrap_or("it failed").to_owned();
            self.hold(Held { release: new.clone(), run: run.id, reason, why });
        }
    }

    fn hold(&mut self, mut new: Held) {
        let rolled_back = |h: &Held| h.release == new.release && h.why == HeldFor::RolledBack;
        if self.held.iter().any(rolled_back) {
            new.why = HeldFor::RolledBack;
        }
        self.held.retain(|h| h.release != new.release);
        self.held.push(new);
    }

    fn commit(&mut self, release: &Release, verb: Verb, run: RunId) {
        let digest = &release.image.digest;
        if verb == Verb::Rollback {
            let left = self.commits.last().filter(|r| r.image.digest != *digest);
            let below = self.commits.iter().any(|r| r.image.digest == *digest);
            // Towards a newer image it is the end of a rollback: what is left is as good as it was.
            if let Some(left) = left.filter(|left| below || !self.is_newer(release, left)).cloned() {
                let reason = format!("rolled back to release {}", release.number);
                self.hold(Held { release: left, run, reason, why: HeldFor::RolledBack });
            }
            if let Some(at) = self.commits.iter().rposition(|r| r.image.digest == *digest) {
                self.commits.truncate(at);
            }
        } else if self.commits.last().is_some_and(|top| top.image.digest == *digest) {
            // The same image with another config is no step that a rollback, which keeps today's config, could take.
            self.commits.pop();
        }
        self.held.retain(|h| h.release.image.digest != *digest);
        self.commits.push(release.clone());
        self.ever_committed.insert(digest.clone());
    }

    /// The committed release, as the journal remembers it.
    pub fn current(&self) -> Option<&Release> {
        self.commits.last()
    }

    /// The commits below the current one with another digest, held or not, the nearest first.
    pub fn earlier(&self) -> impl Iterator<Item = &Release> {
        let mut commits = self.commits.iter().rev();
        let current = commits.next().map(|current| &current.image.digest);
        commits.filter(move |r| Some(&r.image.digest) != current)
    }

    /// What `rollback` goes to: the nearest of the earlier ones. When that is held, because an earlier attempt to go
    /// there failed, it is [`History::way_back_held`]: going past it is for a person to say.
    pub fn rollback_target(&self) -> Option<&Release> {
        self.earlier().next()
    }

    /// Why the nearest earlier release is held, and the nearest one behind it that is not.
    pub fn way_back_held(&self) -> Option<(&Held, Option<&Release>)> {
        let held = self.held_image(&self.rollback_target()?.image.digest)?;
        Some((held, self.earlier().find(|r| self.held_image(&r.image.digest).is_none())))
    }

    /// The image is held, and not just what it was tried with while it served.
    pub fn held_image(&self, digest: &Digest) -> Option<&Held> {
        self.holds(digest).find(|h| h.why != HeldFor::Environment)
    }

    /// For automatic runs: a digest is held whatever it ran with.
    pub fn held_for_timer(&self, digest: &Digest) -> Option<&Held> {
        self.holds(digest).next()
    }

    /// For a person: after a failure another environment deserves another try; after a rollback it does not.
    pub fn held_for_person(&self, digest: &Digest, fingerprint: &Fingerprint) -> Option<&Held> {
        self.holds(digest).find(|h| h.why == HeldFor::RolledBack || h.release.fingerprint == *fingerprint)
    }

    /// The newest first.
    fn holds(&self, digest: &Digest) -> impl Iterator<Item = &Held> {
        self.held.iter().rev().filter(move |h| h.release.image.digest == *digest)
    }

    /// The image of `a` came to this host after that of `b`.
    fn is_newer(&self, a: &Release, b: &Release) -> bool {
        let first = |of: &Release| {
            let same = self.releases.iter().filter(|r| r.image.digest == of.image.digest);
            same.map(|r| r.number).min().unwrap_or(of.number)
        };
        first(a) > first(b)
    }

    /// The number of the release with this image and fingerprint: its own when it had one, else the next. Tries that
    /// failed before anything was ever committed use up no number.
    pub fn number_for(&self, digest: &Digest, fingerprint: &Fingerprint, at_least: u64) -> u64 {
        let known = self
            .releases
            .iter()
            .find(|r| r.image.digest == *digest && r.fingerprint == *fingerprint)
            .map(|r| r.number);
        let used = if self.commits.is_empty() { None } else { self.releases.iter().map(|r| r.number).max() };
        let next = used.unwrap_or(0).max(at_least) + 1;
        known.unwrap_or(next)
    }

    /// The run that was cut off: opened, never closed.
    pub fn open_runs(&self) -> impl Iterator<Item = &RunRecord> {
        self.runs.iter().filter(|r| !r.entries.is_empty() && r.closed().is_none())
    }

    /// The newest `keep` distinct digests that were ready here, the current one first.
    pub fn newest_digests(&self, keep: usize) -> Vec<Digest> {
        let mut newest: Vec<Digest> = Vec::new();
        let committed = self.runs.iter().rev().filter_map(RunRecord::committed);
        for release in self.commits.iter().rev().chain(committed) {
            if newest.len() < keep && !newest.contains(&release.image.digest) {
                newest.push(release.image.digest.clone());
            }
        }
        newest
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::fingerprint::HostKey;
    use crate::model::image::PinnedImage;

    fn release(number: u64, image: u8) -> Release {
        let image: PinnedImage =
            format!("ghcr.io/a/b@sha256:{}", format!("{image:02x}").repeat(32)).parse().unwrap();
        Release { number, image, fingerprint: HostKey::new([0; 32]).fingerprint([b"env".as_slice()]) }
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
    fn rollback_twice_goes_two_back_and_holds_what_it_left() {
        let [a, b, c] = [release(1, 1), release(2, 2), release(3, 3)];
        let mut runs = vec![
            run(1, Verb::Deploy, &a, GOOD),
            run(2, Verb::Deploy, &b, GOOD),
            run(3, Verb::Deploy, &c, GOOD),
        ];
        assert_eq!(History::of(runs.clone()).rollback_target(), Some(&b));
        runs.push(run(4, Verb::Rollback, &b, GOOD));
        let history = History::of(runs.clone());
        assert_eq!(history.rollback_target(), Some(&a));
        assert!(history.held_image(&c.image.digest).is_some() && history.pinned);
        runs.push(run(5, Verb::Rollback, &a, GOOD));
        let history = History::of(runs.clone());
        assert_eq!(history.rollback_target(), None);
        assert!(history.held_image(&b.image.digest).is_some());
        runs.push(run(6, Verb::Deploy, &b, GOOD));
        let history = History::of(runs);
        assert!(history.held_image(&b.image.digest).is_none(), "a committed release is held no more");
        assert_eq!(history.rollback_target(), Some(&a));
    }

    #[test]
    fn what_was_rolled_back_from_stays_away_whatever_its_environment() {
        let [a, b] = [release(1, 1), release(2, 2)];
        let other = HostKey::new([0; 32]).fingerprint([b"another".as_slice()]);
        let mut runs = vec![
            run(1, Verb::Deploy, &a, GOOD),
            run(2, Verb::Deploy, &b, GOOD),
            run(3, Verb::Rollback, &a, GOOD),
        ];
        let history = History::of(runs.clone());
        assert!(history.held_for_person(&b.image.digest, &other).is_some());
        // A forced try that fails does not soften it.
        runs.push(run(4, Verb::Deploy, &b, BAD));
        assert!(History::of(runs).held_for_person(&b.image.digest, &other).is_some());
        let failed = vec![run(1, Verb::Deploy, &a, GOOD), run(2, Verb::Deploy, &b, BAD)];
        let failed = History::of(failed);
        assert!(
            failed.held_for_person(&b.image.digest, &other).is_none(),
            "it may be tried with another one"
        );
        assert!(failed.held_for_person(&b.image.digest, &b.fingerprint).is_some());
        assert!(failed.held_for_timer(&b.image.digest).is_some(), "but not by a timer");
    }

    #[test]
    fn the_way_to_a_newer_release_holds_nothing() {
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
        // To one that is older, and no longer on the stack.
        runs.truncate(2);
        runs.extend([run(3, Verb::Rollback, &a, GOOD), run(4, Verb::Deploy, &c, GOOD)]);
        runs.push(run(5, Verb::Rollback, &b, GOOD));
        let history = History::of(runs);
        assert!(history.held_image(&c.image.digest).is_some());
    }

    #[test]
    fn a_rollback_that_failed_is_not_stepped_over() {
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
        assert!(history.held_for_person(&b.image.digest, &b.fingerprint).is_some());
        assert_eq!(history.current(), Some(&a));
        let undone = Outcome::Undone { blame: Blame::Host };
        assert!(History::of(vec![runs[0].clone(), run(2, Verb::Deploy, &b, undone)]).held.is_empty());
    }

    #[test]
    fn only_what_a_person_chose_pins() {
        let [a, b] = [release(1, 1), release(2, 2)];
        let opened = |verb, plan: &[&str], pins| Entry::Opened {
            verb,
            actor: "test".into(),
            agent: "0".into(),
            plan: plan.iter().map(ToString::to_string).collect(),
            old: Some(a.clone()),
            new: None,
            pins,
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
        // Files were kept in order before a release that was refused.
        assert!(!pinned(&[(Verb::Deploy, &["write /etc/astra/Caddyfile"], true)]));
        assert!(pinned(&[(Verb::DeploySha, &[], true), (Verb::Deploy, &["write"], false)]));
        let undone = Outcome::Undone { blame: Blame::Host };
        let failed = History::of(vec![run(1, Verb::Deploy, &a, GOOD), run(2, Verb::DeploySha, &b, undone)]);
        assert!(!failed.pinned);
    }

    #[test]
    fn the_same_image_again_is_no_new_place_to_roll_back_to() {
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
}
