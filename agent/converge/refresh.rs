//! `[aws] refresh`: the timer asks the sources outside the host, and deploys a value that changed.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::refuse::Committed;
use super::{Reconciler, Refused, Report, Selector, Snapshot, VerbRequest};
use crate::config::EnvSource;
use crate::host::lock::Lock;
use crate::model::entry::Verb;
use crate::model::name::ASKED;

/// The timer does not run to the second: a run that is early by this much counts.
const EARLY: Duration = Duration::from_secs(30);

impl Reconciler<'_> {
    /// Whether this run of the timer asks the sources again. Not while a service is paused: its release would be
    /// committed without a trial of it.
    pub(super) fn refresh_is_due(&self, ask: &VerbRequest, committed: Option<&Committed>) -> bool {
        let Some(interval) = self.config.aws.refresh else { return false };
        let is_timers = ask.verb == Verb::Reconcile && ask.selector == Selector::Keep && ask.automatic();
        let remote = self.config.env.values().any(EnvSource::is_remote);
        if !is_timers || committed.is_none() || !remote || self.config.paused().next().is_some() {
            return false;
        }
        let seen = self.host.files.read(Path::new(ASKED)).ok().flatten();
        let last = seen.and_then(|file| String::from_utf8(file.bytes).ok()?.trim().parse::<u64>().ok());
        let now = now();
        // A time in the future is of a clock that was wrong.
        last.is_none_or(|last| last > now || now - last + EARLY.as_secs() >= interval.as_secs())
    }

    /// Deploys the release that the run asks for; without one, or if it serves already, what the sources have now.
    pub(super) async fn releases(
        &self,
        ask: &VerbRequest,
        selector: Option<Selector>,
        committed: Option<&Committed>,
        lock: &Lock,
        report: &mut Report,
    ) -> Result<(), Refused> {
        let (due, follows) = (self.refresh_is_due(ask, committed), selector.is_some());
        let followed = match selector {
            Some(selector) => {
                self.release(&VerbRequest { selector, ..ask.clone() }, false, lock, report).await
            }
            None => Ok(false),
        };
        // A tag that cannot be resolved, or whose image is held, keeps no secret from the release that serves.
        let refreshes = due && !matches!(followed, Ok(true));
        if refreshes {
            let ask = VerbRequest { selector: Selector::Committed, ..ask.clone() };
            self.release(&ask, true, lock, report).await?;
        }
        followed?;
        match follows || refreshes {
            true => self.restore_others(ask, report).await,
            false => Ok(()),
        }
    }

    /// Remembers that all sources answered a request of this time. If it cannot, the next run asks again.
    pub(super) fn note_asked(&self, snapshot: &Snapshot, asked_at: u64) {
        let given = &snapshot.observed.env;
        let mute = given.unread.keys().any(|key| self.config.env.get(key).is_some_and(EnvSource::is_remote));
        if self.config.aws.refresh.is_some() && given.asked && !mute {
            let text = asked_at.to_string();
            let _ = self.host.files.write_atomic(Path::new(ASKED), text.as_bytes(), 0o600);
        }
    }
}

/// Seconds since the epoch.
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
