//! How a run ended, and what the shell is told about it.

use serde::{Deserialize, Serialize};

/// Who is to blame for a failed step: decides the exit code and whether the release is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Blame {
    /// The release itself: migration, start, readiness, soak. It is held.
    Release,
    /// The host, the registry, the engine or the person who pressed Ctrl-C. Nothing is held.
    Host,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The host is what the plan wanted, also when there was nothing to do.
    Converged,
    /// A step failed before the commit point, and everything was taken back.
    Undone { blame: Blame },
    /// Nothing was touched.
    Failed { blame: Blame },
    /// Not all could be done, or taken back: a person has to look.
    Incomplete,
}

impl Outcome {
    /// The process exit code (DESIGN.md, "Exit codes").
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
