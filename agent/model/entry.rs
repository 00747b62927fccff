//! An entry of the journal. The run loop, recover and `history` know a run only by its entries, in order.

use serde::{Deserialize, Serialize};

use super::envfile::ManagedLines;
use super::instance::{InstanceName, ServiceName};
use super::outcome::{Blame, Outcome};
use super::release::Release;
use super::step_note::StepNote;

/// Number of a run, counted up per host; its file is `NNNNNN.jsonl`.
pub type RunId = u64;

/// An entry with its time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stamped {
    /// Milliseconds since 1970, UTC.
    pub at: u64,
    /// The entry; in a journal line its fields stand beside `at`.
    #[serde(flatten)]
    pub entry: Entry,
}

/// The verb of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verb {
    /// `install`: the first deploy of a host.
    Install,
    /// `deploy`: the newest digest of the tracked tag.
    Deploy,
    /// `deploy-sha`: a digest that an operator names.
    DeploySha,
    /// `rollback`: an earlier release.
    Rollback,
    /// `reconcile`: repairs of drift, by hand or by timer.
    Reconcile,
    /// `recover`: the end of a run that was cut off.
    Recover,
    /// `caddy-upgrade`: another image for Caddy.
    CaddyUpgrade,
    /// `scale`: other numbers of instances than agent.toml has.
    Scale,
    /// `pause`: no instances.
    Pause,
    /// `resume`: the numbers of agent.toml again.
    Resume,
    /// `accessory upgrade`: the current image of an accessory.
    AccessoryUpgrade,
    /// `accessory restart`: an accessory in a new container, with the settings of agent.toml.
    AccessoryRestart,
}

impl Verb {
    /// The word on the command line and in the journal.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Install => "install",
            Self::Deploy => "deploy",
            Self::DeploySha => "deploy-sha",
            Self::Rollback => "rollback",
            Self::Reconcile => "reconcile",
            Self::Recover => "recover",
            Self::CaddyUpgrade => "caddy-upgrade",
            Self::Scale => "scale",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::AccessoryUpgrade => "accessory-upgrade",
            Self::AccessoryRestart => "accessory-restart",
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
        /// The command that started the run.
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
        /// The accessory that the run changes or restores.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        accessory: Option<ServiceName>,
    },
    /// A step of the plan begins.
    Started {
        /// Index in the plan, from 0.
        step: usize,
    },
    /// The step succeeded.
    Done {
        /// Index in the plan, from 0.
        step: usize,
        /// Notes of the step; empty for most.
        #[serde(flatten)]
        told: StepNote,
    },
    /// The step failed; before the commit point, the undo follows.
    Failed {
        /// Index in the plan, from 0.
        step: usize,
        /// The release or the host.
        blame: Blame,
        /// The whole error chain.
        error: String,
        /// Which of several instances a soak found unready: undo begins with it, for the others serve.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        unready: Option<InstanceName>,
    },
    /// Ctrl-C or SIGTERM.
    Interrupted {
        /// `SIGINT` or `SIGTERM`.
        signal: String,
    },
    /// An undo step begins.
    UndoStarted {
        /// Index among the undo steps, from 0.
        step: usize,
        /// The undo step, by its Display.
        what: String,
    },
    /// The undo step succeeded.
    UndoDone {
        /// Index among the undo steps, from 0.
        step: usize,
        /// Notes of the step; empty for most.
        #[serde(flatten)]
        told: StepNote,
    },
    /// The undo step failed, and the run ends as incomplete.
    UndoFailed {
        /// Index among the undo steps, from 0.
        step: usize,
        /// The whole error chain.
        error: String,
    },
    /// The next action is the rename of astra.env from `old` to `new`.
    CommitIntent {
        /// The managed lines before; `None` on the first deploy.
        old: Option<ManagedLines>,
        /// The managed lines of the release to be committed.
        new: ManagedLines,
    },
    /// astra.env names this release.
    Committed {
        /// The release on trial until now.
        release: Release,
    },
    /// The last entry.
    Closed {
        /// How the run ended.
        outcome: Outcome,
        /// The reason, in one line; for a failure the whole error chain.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        /// Written by a later `recover`, not by the run itself.
        #[serde(default)]
        recovered: bool,
    },
}
