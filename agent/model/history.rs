//! Derives the release history from the journal: committed releases, held ones, the next number, open runs. A
//! pure fold over the runs; journal.rs reads the files.

use std::collections::{BTreeMap, BTreeSet};

use super::digest::Digest;
use super::entry::{Entry, RunId, Stamped, Verb};
use super::fingerprint::Fingerprint;
use super::instance::ServiceName;
use super::outcome::{Blame, Outcome};
use super::release::Release;

/// One run, as recorded in its file.
#[derive(Clone, Debug, PartialEq)]
pub struct RunRecord {
    /// The number in the file's name.
    pub id: RunId,
    /// In the order of writing; a torn last line is left out.
    pub entries: Vec<Stamped>,
}

/// A release that no automatic run tries again.
#[derive(Clone, Debug, PartialEq)]
pub struct Held {
    /// The release, committed or only tried.
    pub release: Release,
    /// The run that failed, or that rolled back.
    pub run: RunId,
    /// The reason of that run's last entry, for messages.
    pub reason: String,
    /// Decides which runs may try it again.
    pub why: HeldFor,
    /// The images that it brought: one of them is to blame, and a release that has all of them is held as well. Empty
    /// for [`HeldFor::Environment`].
    pub brought: BTreeMap<ServiceName, Digest>,
}

/// Why a release is held, which decides for which runs and with which environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeldFor {
    /// It failed. Its images may be tried with another environment.
    Failed,
    /// It failed while the same images served with another environment: the images are not held.
    Environment,
    /// Its images were rolled back from: held with any environment.
    RolledBack,
}

impl Held {
    /// The images that are held, in short form.
    pub fn short(&self) -> String {
        let one = |(name, digest): (&ServiceName, &Digest)| match name.is_app() {
            true => digest.short().to_owned(),
            false => format!("{name} {}", digest.short()),
        };
        match self.why {
            HeldFor::Environment => self.release.short(),
            HeldFor::Failed | HeldFor::RolledBack => {
                self.brought.iter().map(one).collect::<Vec<_>>().join(", ")
            }
        }
    }

    /// Whether the hold is of the images of `release`.
    fn is_of(&self, release: &Release) -> bool {
        match self.why {
            HeldFor::Environment => self.release.same_images(release),
            HeldFor::Failed | HeldFor::RolledBack => release.has(&self.brought),
        }
    }
}

/// The state derived from all earlier runs.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// All runs, oldest first; empty after [`History::fold`].
    pub runs: Vec<RunRecord>,
    /// Committed releases, the current one last. A rollback removes entries.
    pub commits: Vec<Release>,
    /// The images of every release that was ever committed here: those of the app, and of services that have their own.
    pub ever_committed: BTreeSet<(ServiceName, Digest)>,
    /// The holds, oldest first; at most one for a release.
    pub held: Vec<Held>,
    /// Releases by number, tried or committed.
    pub releases: Vec<Release>,
    /// The last commit was of a chosen digest: no automatic run follows the tag until a plain deploy.
    pub pinned: bool,
    /// Why the journal cannot be trusted: safe mode.
    pub damaged: Option<String>,
}

impl RunRecord {
    /// The first entry: verb, actor, start (milliseconds since 1970), planned release.
    pub fn opened(&self) -> Option<Opened<'_>> {
        let first = self.entries.first()?;
        match &first.entry {
            Entry::Opened { verb, actor, old, new, pins, accessory, .. } => Some(Opened {
                verb: *verb,
                actor,
                at: first.at,
                old: old.as_ref(),
                new: new.as_ref(),
                pins: *pins,
                accessory: *accessory,
            }),
            _ => None,
        }
    }

    /// Outcome, reason and end (milliseconds since 1970) from the last entry; `None`: cut off or under way.
    pub fn closed(&self) -> Option<(Outcome, Option<&str>, u64)> {
        self.entries.iter().rev().find_map(|s| match &s.entry {
            Entry::Closed { outcome, reason, .. } => Some((*outcome, reason.as_deref(), s.at)),
            _ => None,
        })
    }

    /// The release that the run committed, whatever happened afterwards.
    pub fn committed(&self) -> Option<&Release> {
        self.entries.iter().find_map(|s| match &s.entry {
            Entry::Committed { release } => Some(release),
            _ => None,
        })
    }

    /// The accessory that the run pinned, and its step.
    pub fn pin(&self) -> Option<(ServiceName, &str)> {
        let Entry::Opened { plan, accessory, .. } = &self.entries.first()?.entry else { return None };
        let accessory = (*accessory)?;
        let at = plan.iter().position(|line| line.starts_with(&format!("pin {accessory} to ")))?;
        let done = |entry: &Entry| matches!(entry, Entry::Done { step, .. } if *step == at);
        let closed = matches!(self.closed(), Some((Outcome::Converged, ..)));
        let took_effect = closed || self.entries.iter().any(|stamped| done(&stamped.entry));
        Some((accessory, plan.get(at)?.as_str())).filter(|_| took_effect)
    }

    /// Whether the release failed, whatever the result of the undo.
    fn blamed(&self) -> bool {
        let outcome = self.closed().map(|(outcome, ..)| outcome);
        let named = Outcome::Undone { blame: Blame::Release };
        let failed = |s: &Stamped| matches!(s.entry, Entry::Failed { blame: Blame::Release, .. });
        outcome == Some(named)
            || outcome == Some(Outcome::Failed { blame: Blame::Release })
            || outcome.is_some() && self.entries.iter().any(failed)
    }

    /// Nothing had to be done, except that the tag is followed again or no longer.
    fn is_empty(&self) -> bool {
        let first = self.entries.first().map(|s| &s.entry);
        matches!(first, Some(Entry::Opened { plan, .. }) if plan.is_empty())
    }

    /// The release of the commit intent.
    pub fn intended(&self) -> Option<u64> {
        self.entries.iter().find_map(|s| match &s.entry {
            Entry::CommitIntent { new, .. } => Some(new.release),
            _ => None,
        })
    }
}

/// The first entry of a run.
#[derive(Clone, Copy, Debug)]
pub struct Opened<'a> {
    /// The command that started the run.
    pub verb: Verb,
    /// Login name, or `systemd`.
    pub actor: &'a str,
    /// Start of the run, in milliseconds since 1970.
    pub at: u64,
    /// The committed release before the run; `None` on a host without one.
    pub old: Option<&'a Release>,
    /// The release to be committed; `None` for a run that keeps the committed one.
    pub new: Option<&'a Release>,
    /// The tag is not followed automatically after this run.
    pub pins: bool,
    /// The accessory that the run changes or restores.
    pub accessory: Option<ServiceName>,
}

impl History {
    /// Folds `runs`, oldest first.
    pub fn of(runs: Vec<RunRecord>) -> Self {
        let history = Self::fold(&runs);
        Self { runs, ..history }
    }

    /// Folds `runs`, oldest first, without keeping them.
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
                // Until the first commit, each attempt of a first release keeps its number.
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
        // A committed release may still have had instances to start.
        if chooses
            && (run.is_empty() || opened.new.is_some())
            && matches!(run.closed(), Some((Outcome::Converged, ..)))
        {
            self.pinned = opened.pins;
        }
        // The very first release is never held: there is nothing to go back to, and install tries again. Nor
        // is the committed one, to which everything goes back: its failure may be temporary.
        let (Some(new), Some(current)) = (opened.new, self.current()) else { return };
        let brought = new.beyond(current);
        let same = brought.is_empty();
        if run.blamed() && !(same && new.fingerprint == current.fingerprint) {
            let why = if same { HeldFor::Environment } else { HeldFor::Failed };
            let reason = run.closed().and_then(|(_, reason, _)| reason).unwrap_or("it failed").to_owned();
            self.hold(Held { release: new.clone(), run: run.id, reason, why, brought });
        }
    }

    fn hold(&mut self, mut new: Held) {
        if let Some(known) = self.held.iter().find(|h| h.release == new.release) {
            // Both times one of the images was to blame: one that both have.
            let both = |(name, digest): &(&ServiceName, &Digest)| new.brought.get(*name) == Some(*digest);
            let both = known.brought.iter().filter(both).map(|(name, digest)| (*name, digest.clone()));
            let both: BTreeMap<_, _> = both.collect();
            let rolled_back = known.why == HeldFor::RolledBack;
            if !both.is_empty() {
                new.brought = both;
            } else if rolled_back {
                new.brought.clone_from(&known.brought);
            }
            if rolled_back {
                new.why = HeldFor::RolledBack;
            }
        }
        self.held.retain(|h| h.release != new.release);
        self.held.push(new);
    }

    fn commit(&mut self, release: &Release, verb: Verb, run: RunId) {
        if verb == Verb::Rollback {
            let left = self.commits.last().filter(|r| !r.same_images(release));
            let below = self.commits.iter().any(|r| r.same_images(release));
            // A step to a newer image ends an earlier rollback, and the release left behind is not held.
            if let Some(left) = left.filter(|left| below || !self.is_newer(release, left)).cloned() {
                let reason = format!("rolled back to release {}", release.number);
                let brought = left.beyond(release);
                self.hold(Held { release: left, run, reason, why: HeldFor::RolledBack, brought });
            }
            if let Some(at) = self.commits.iter().rposition(|r| r.same_images(release)) {
                self.commits.truncate(at);
            }
        } else if self.commits.last().is_some_and(|top| release.covers(top)) {
            // The same images with another config are no rollback target, because a rollback keeps today's
            // config.
            self.commits.pop();
        }
        self.held.retain(|h| !h.is_of(release));
        self.commits.push(release.clone());
        let images = release.by_service().map(|(name, image)| (name, image.digest.clone()));
        self.ever_committed.extend(images);
    }

    /// Whether a release with this digest was ever committed here, as the image of any service.
    pub fn knows(&self, digest: &Digest) -> bool {
        self.ever_committed.iter().any(|(_, of)| of == digest)
    }

    /// Whether `service` was ever committed here with this digest.
    pub fn knows_for(&self, service: ServiceName, digest: &Digest) -> bool {
        self.ever_committed.contains(&(service, digest.clone()))
    }

    /// The committed release according to the journal.
    pub fn current(&self) -> Option<&Release> {
        self.commits.last()
    }

    /// Earlier commits of other images, held or not, the nearest first.
    pub fn earlier(&self) -> impl Iterator<Item = &Release> {
        let mut commits = self.commits.iter().rev();
        let current = commits.next();
        commits.filter(move |r| current.is_none_or(|current| !current.same_images(r)))
    }

    /// The target of `rollback`: the nearest earlier commit. If it is held because an earlier rollback to it
    /// failed, [`History::way_back_held`] has it, and only an operator may skip it.
    pub fn rollback_target(&self) -> Option<&Release> {
        self.earlier().next()
    }

    /// The hold of the nearest earlier release, and the nearest one behind it that is not held.
    pub fn way_back_held(&self) -> Option<(&Held, Option<&Release>)> {
        let held = self.held_images(self.rollback_target()?)?;
        Some((held, self.earlier().find(|r| self.held_images(r).is_none())))
    }

    /// The hold of the images of `release`, unless they only failed with an environment while they served with
    /// another.
    pub fn held_images(&self, release: &Release) -> Option<&Held> {
        self.holds(release).find(|h| h.why != HeldFor::Environment)
    }

    /// For automatic runs: images are held with any fingerprint.
    pub fn held_for_timer(&self, release: &Release) -> Option<&Held> {
        self.holds(release).next()
    }

    /// For operators: failed images may be tried with another environment, those rolled back from may not.
    pub fn held_for_person(&self, release: &Release) -> Option<&Held> {
        // Beside other images the fingerprint is another one, too, and tells nothing of the environment.
        let other =
            |h: &Held| h.release.fingerprint != release.fingerprint && h.release.images == release.images;
        self.holds(release).find(|h| h.why == HeldFor::RolledBack || !other(h))
    }

    /// All holds of the images of `release`, the newest first.
    fn holds(&self, release: &Release) -> impl Iterator<Item = &Held> {
        self.held.iter().rev().filter(move |h| h.is_of(release))
    }

    /// Whether the images of `a` came to this host after those of `b`.
    fn is_newer(&self, a: &Release, b: &Release) -> bool {
        let first = |of: &Release| {
            let same = self.releases.iter().filter(|r| r.covers(of));
            same.map(|r| r.number).min().unwrap_or(of.number)
        };
        first(a) > first(b)
    }

    /// The number of the release with this image of the app and this fingerprint: its own if it has one, else the next.
    /// Failed attempts before the first commit use no number.
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

    /// The cut-off runs: opened, never closed.
    pub fn open_runs(&self) -> impl Iterator<Item = &RunRecord> {
        self.runs.iter().filter(|r| !r.entries.is_empty() && r.closed().is_none())
    }

    /// The digests of the newest `keep` releases of distinct images that were ready here, the current one first.
    pub fn newest_digests(&self, keep: usize) -> Vec<Digest> {
        let mut newest: Vec<&Release> = Vec::new();
        let committed = self.runs.iter().rev().filter_map(RunRecord::committed);
        for release in self.commits.iter().rev().chain(committed) {
            if newest.len() < keep && !newest.iter().any(|known| known.covers(release)) {
                newest.push(release);
            }
        }
        let mut digests = Vec::new();
        for digest in newest.into_iter().flat_map(Release::digests) {
            if !digests.contains(digest) {
                digests.push(digest.clone());
            }
        }
        digests
    }
}

#[cfg(test)]
mod tests;
