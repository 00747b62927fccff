//! `[aws] refresh`: the timer asks the sources outside the host, and deploys a value that changed.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;

use super::{Event, Reconciler, Snapshot, VerbRequest};
use crate::model::entry::Verb;
use crate::model::name::ASKED;
use crate::plan::release::pending;

impl Reconciler<'_> {
    /// Whether this run of the timer asks the sources again.
    pub(super) fn refresh_is_due(&self, ask: &VerbRequest) -> bool {
        let Some(interval) = self.config.aws.refresh else { return false };
        if ask.verb != Verb::Reconcile
            || !ask.automatic()
            || !self.config.env.values().any(|of| of.is_remote())
        {
            return false;
        }
        let seen = self.host.files.read(Path::new(ASKED)).ok().flatten();
        let last = seen.and_then(|file| String::from_utf8(file.bytes).ok()?.trim().parse::<u64>().ok());
        let now = now();
        // A time in the future is of a clock that was wrong.
        last.is_none_or(|last| last > now || now - last >= interval.as_secs())
    }

    /// Whether nothing but new values of the sources would be deployed: an operator decides on all other changes.
    pub(super) fn may_refresh(&self, snapshot: &Snapshot) -> bool {
        let waits = pending(&self.inputs(snapshot));
        let Some(first) = waits.first() else { return true };
        (self.watch)(&Event::Note(&format!(
            "the sources of [env] are not asked, another change waits: {first}"
        )));
        false
    }

    /// Remembers that the sources were asked now.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub(super) fn note_asked(&self, snapshot: &Snapshot) -> Result<()> {
        if self.config.aws.refresh.is_none() || !snapshot.observed.env.asked {
            return Ok(());
        }
        self.host.files.write_atomic(Path::new(ASKED), now().to_string().as_bytes(), 0o600)
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
