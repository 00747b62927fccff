//! The outcome of a run, and its exit code.

use serde::{Deserialize, Serialize};

/// The party to blame for a failed step: decides the exit code and whether the release is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Blame {
    /// The release itself: migration, start, readiness, soak. It is held.
    Release,
    /// The host, the registry, the engine or a Ctrl-C. Nothing is held.
    Host,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The host matches the request, also if there was nothing to do.
    Converged,
    /// A step failed before the commit point, and everything was undone.
    Undone {
        /// Exit code 3 for the release, 1 for the host.
        blame: Blame,
    },
    /// Nothing was changed.
    Failed {
        /// Exit code 3 for the release, 1 for the host.
        blame: Blame,
    },
    /// Not everything could be done or undone: an operator has to look.
    Incomplete,
}

impl Outcome {
    /// The process exit code.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Converged => 0,
            Self::Undone { blame: Blame::Host } | Self::Failed { blame: Blame::Host } => 1,
            Self::Undone { blame: Blame::Release } | Self::Failed { blame: Blame::Release } => 3,
            Self::Incomplete => 4,
        }
    }
}

/// Exit code of a usage or config error.
pub const EXIT_USAGE: u8 = 2;
/// Exit code when another run holds the lock (`EX_TEMPFAIL`, sysexits.h).
pub const EXIT_LOCKED: u8 = 75;
