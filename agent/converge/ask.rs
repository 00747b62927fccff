//! The request of a verb: the release that it asks for, and how.

use super::Selector;
use crate::model::entry::Verb;
use crate::plan::migrations::MigratePolicy;
use crate::plan::release::Only;

/// The request of a verb.
#[derive(Clone, Debug)]
pub struct VerbRequest {
    /// The command.
    pub verb: Verb,
    /// The release that it asks for.
    pub selector: Selector,
    /// The services that it may change.
    pub only: Only,
    /// When the migration runs.
    pub migrate: MigratePolicy,
    /// Also deploy a held release.
    pub force: bool,
    /// Soak the release before it is committed, as the config says.
    pub soak: bool,
    /// Login name behind the command; [`SYSTEM_ACTOR`] when a timer asks.
    pub actor: String,
}

/// The actor of a run that systemd started.
pub const SYSTEM_ACTOR: &str = "systemd";

impl VerbRequest {
    /// It says nothing on whether tags are followed: it keeps images, or is not for all services.
    pub(super) fn keeps_choice(&self) -> bool {
        let narrow = self.selector == Selector::Tracked && !self.only.0.is_empty();
        narrow || self.selector == Selector::Committed
    }

    pub(super) fn automatic(&self) -> bool {
        self.actor == SYSTEM_ACTOR
    }
}
