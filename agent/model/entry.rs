//! An entry of the journal. The run loop, recover and `history` know a run only by its entries, in order.

use serde::{Deserialize, Serialize};

use super::envfile::ManagedLines;
use super::name::InstanceId;
use super::outcome::{Blame, Outcome};
use super::release::Release;
use super::step_note::StepNote;

/// Number of a run, counted up per host; its file is `NNNNNN.jsonl`.
pub type RunId = u64;

/// An entry with its time (milliseconds since 1970, UTC).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stamped {
    pub at: u64,
    #[serde(flatten)]
    pub entry: Entry,
}

/// The verb of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verb {
    Install,
    Deploy,
    DeploySha,
    Rollback,
    Reconcile,
    Recover,
    CaddyUpgrade,
}

impl Verb {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Install => "install",
            Self::Deploy => "deploy",
            Self::DeploySha => "deploy-sha",
            Self::Rollback => "rollback",
            Self::Reconcile => "reconcile",
            Self::Recover => "recover",
            Self::CaddyUpgrade => "caddy-upgrade",
        }
    }

    /// Whether the verb brings a release, new or former.
    pub fn deploys(self) -> bool {
        self.is_new() || self == Self::Rollback
    }

    /// Whether the run may deploy something new; other runs keep or restore what was committed before.
    pub fn is_new(self) -> bool {
        matches!(self, Self::Install | Self::Deploy | Self::DeploySha)
    }
}

/// An event of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "entry", rename_all = "snake_case")]
pub enum Entry {
    /// The first entry: actor, verb, the whole plan, the old state.
    Opened {
        verb: Verb,
        /// The user's login name, e.g. `admin`, or `systemd`.
        actor: String,
        /// Version of the agent.
        agent: String,
        /// The plan's steps, by their Display.
        plan: Vec<String>,
        /// The committed release before the run.
        old: Option<Release>,
        /// The release to be committed.
        new: Option<Release>,
        /// From this run on, the tracked tag is not followed automatically.
        pins: bool,
    },
    Started {
        step: usize,
    },
    Done {
        step: usize,
        #[serde(flatten)]
        told: StepNote,
    },
    Failed {
        step: usize,
        blame: Blame,
        error: String,
        /// Which of several instances a soak found unready: undo begins with it, for the others serve.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        unready: Option<InstanceId>,
    },
    /// Ctrl-C or SIGTERM.
    Interrupted {
        signal: String,
    },
    UndoStarted {
        step: usize,
        what: String,
    },
    UndoDone {
        step: usize,
        #[serde(flatten)]
        told: StepNote,
    },
    UndoFailed {
        step: usize,
        error: String,
    },
    /// The next action is the rename of astra.env from `old` to `new`.
    CommitIntent {
        old: Option<ManagedLines>,
        new: ManagedLines,
    },
    /// astra.env names this release.
    Committed {
        release: Release,
    },
    /// The last entry.
    Closed {
        outcome: Outcome,
        /// The reason, in one line; for a failure the whole error chain.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        /// Written by a later `recover`, not by the run itself.
        #[serde(default)]
        recovered: bool,
    },
}
