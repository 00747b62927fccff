//! Each verb's repairs and tolerances in one table, one row a verb.

use super::instances::RepairScope;
use crate::model::entry::Verb;

/// When a run does the housekeeping although it changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Housekeeping {
    /// Only after a change.
    IfChanged,
    /// If the image of the rollback target may be missing, or last_app_image is wrong.
    IfDue,
    /// Always: the run that was cut off may have missed it.
    Always,
}

/// How a run of a verb treats the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerbPolicy {
    /// Repairs everything that differs from the config; otherwise only what a cut-off run leaves.
    pub repairs_drift: bool,
    /// Which instances return to the committed release before the verb's own.
    pub repairs: RepairScope,
    /// Moves serving instances to the configured ports, which restarts them.
    pub moves: bool,
    /// Pulls the image of the rollback target again if it was removed: no user waits for this run.
    pub pulls_way_back: bool,
    /// When it does the housekeeping although it changed nothing.
    pub housekeeping: Housekeeping,
    /// Works with the last valid config if agent.toml is invalid.
    pub takes_last_config: bool,
}

impl VerbPolicy {
    /// The row of `verb`.
    pub fn of(verb: Verb) -> Self {
        let repairs = Self {
            repairs_drift: true,
            repairs: RepairScope::All,
            moves: false,
            pulls_way_back: false,
            housekeeping: Housekeeping::IfChanged,
            takes_last_config: false,
        };
        let deploys = Self { repairs: RepairScope::Leftovers, ..repairs };
        match verb {
            Verb::Install | Verb::Deploy => Self { moves: true, ..deploys },
            Verb::DeploySha => deploys,
            Verb::Rollback => Self { takes_last_config: true, ..deploys },
            Verb::Reconcile => Self { pulls_way_back: true, housekeeping: Housekeeping::IfDue, ..repairs },
            Verb::Recover => Self {
                repairs_drift: false,
                housekeeping: Housekeeping::Always,
                takes_last_config: true,
                ..repairs
            },
            Verb::Scale | Verb::Pause | Verb::Resume => repairs,
            Verb::CaddyUpgrade | Verb::AccessoryUpgrade | Verb::AccessoryRestart => repairs,
        }
    }
}
