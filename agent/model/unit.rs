//! A unit's state in systemd's words (org.freedesktop.systemd1(5)): read by host/, decided by plan/ and cli/.

use std::fmt;

use serde::{Serialize, Serializer};

/// Defines an enum of systemd's words for one state.
macro_rules! state {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub enum $name {
            /// The empty word: the unit has no such state, or it was not read.
            #[default]
            Missing,
            $(#[doc = concat!("systemd's `", $word, "`.")] $variant,)*
            /// A word not decided by, as systemd wrote it.
            Other(String),
        }

        impl $name {
            /// Never fails: an unknown word becomes `Other`.
            pub fn parse(word: &str) -> Self {
                match word {
                    "" => Self::Missing,
                    $($word => Self::$variant,)*
                    other => Self::Other(other.to_owned()),
                }
            }

            /// systemd's word.
            pub fn word(&self) -> &str {
                match self {
                    Self::Missing => "",
                    $(Self::$variant => $word,)*
                    Self::Other(word) => word,
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.word())
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.word())
            }
        }
    };
}

state!(
    /// Whether the unit's file was read (org.freedesktop.systemd1(5), `LoadState`).
    LoadState {
        Stub = "stub",
        Loaded = "loaded",
        NotFound = "not-found",
        BadSetting = "bad-setting",
        Error = "error",
        Merged = "merged",
        Masked = "masked",
    }
);

state!(
    /// Whether the unit runs (org.freedesktop.systemd1(5), `ActiveState`).
    ActiveState {
        Active = "active",
        Reloading = "reloading",
        Refreshing = "refreshing",
        Inactive = "inactive",
        Failed = "failed",
        Activating = "activating",
        Deactivating = "deactivating",
        Maintenance = "maintenance",
    }
);

state!(
    /// The states of a service below its `ActiveState` (org.freedesktop.systemd1(5), `SubState`): only those
    /// that the agent decides by.
    SubState {
        Dead = "dead",
        Failed = "failed",
        StopSigterm = "stop-sigterm",
        AutoRestart = "auto-restart",
        AutoRestartQueued = "auto-restart-queued",
    }
);

state!(
    /// Whether the unit starts at boot (org.freedesktop.systemd1(5), `UnitFileState`; systemctl(1),
    /// `is-enabled`).
    UnitFileState {
        Enabled = "enabled",
        EnabledRuntime = "enabled-runtime",
        Linked = "linked",
        LinkedRuntime = "linked-runtime",
        Alias = "alias",
        Masked = "masked",
        MaskedRuntime = "masked-runtime",
        Static = "static",
        Disabled = "disabled",
        Indirect = "indirect",
        Generated = "generated",
        Transient = "transient",
        Bad = "bad",
    }
);

state!(
    /// Result of a service's last run (systemd.exec(5), `$SERVICE_RESULT`; systemd.service(5)).
    ServiceResult {
        Success = "success",
        Resources = "resources",
        Protocol = "protocol",
        Timeout = "timeout",
        ExitCode = "exit-code",
        Signal = "signal",
        CoreDump = "core-dump",
        Watchdog = "watchdog",
        ExecCondition = "exec-condition",
        OomKill = "oom-kill",
        StartLimitHit = "start-limit-hit",
    }
);

impl ServiceResult {
    /// Whether it names a failure; a unit that is no service has no result.
    pub fn is_failure(&self) -> bool {
        !matches!(self, Self::Missing | Self::Success)
    }
}

/// A unit's state according to systemd (org.freedesktop.systemd1(5)).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnitSeen {
    /// Whether its file was read.
    pub load: LoadState,
    /// Whether it runs.
    pub active: ActiveState,
    /// The state below `active`; [`SubState::Missing`] for a unit that was not read.
    pub sub: SubState,
    /// Whether it starts at boot.
    pub enabled: UnitFileState,
    /// The result of the last run; [`ServiceResult::Missing`] for a unit that is no service.
    pub result: ServiceResult,
    /// Automatic restarts since the last start by a job (`NRestarts`).
    pub restarts: u32,
    /// 32 hex digits; changes with every start.
    pub invocation: String,
    /// 0: no main process.
    pub main_pid: u32,
    /// Exit code of the last main process, when it exited by itself.
    pub exit_code: Option<i32>,
    /// The signal that ended the last main process, if any.
    pub signal: Option<i32>,
    /// systemd has read an older version of the file.
    pub need_reload: bool,
    /// A condition of the unit was not met at its last start, and systemd skipped it.
    pub skipped: bool,
    /// A start, stop or restart is queued or running.
    pub job: bool,
}

impl UnitSeen {
    /// Whether it is started and has not begun to stop, as `systemctl is-active` understands it: one that reloads
    /// is active.
    pub fn is_active(&self) -> bool {
        matches!(self.active, ActiveState::Active | ActiveState::Reloading | ActiveState::Refreshing)
    }

    /// Whether it starts at boot, and not only until the next one.
    pub fn is_enabled(&self) -> bool {
        self.enabled == UnitFileState::Enabled
    }

    /// Whether it never starts.
    pub fn is_masked(&self) -> bool {
        self.load == LoadState::Masked
            || matches!(self.enabled, UnitFileState::Masked | UnitFileState::MaskedRuntime)
    }

    /// The signal that killed the main process: podman, conmon or docker. An app killed by a signal gives
    /// them an exit code; a stop that timed out has another result.
    pub fn killed_by(&self) -> Option<i32> {
        use ServiceResult as R;
        match &self.result {
            R::Signal | R::CoreDump | R::Protocol => self.signal,
            R::Missing | R::Success | R::Resources | R::Timeout | R::ExitCode | R::Watchdog => None,
            R::ExecCondition | R::OomKill | R::StartLimitHit | R::Other(_) => None,
        }
    }

    /// Whether it ended by itself: no job is queued, or systemd will restart it.
    pub fn has_ended(&self) -> bool {
        match &self.sub {
            SubState::AutoRestart | SubState::AutoRestartQueued => true,
            SubState::Missing
            | SubState::Dead
            | SubState::Failed
            | SubState::StopSigterm
            | SubState::Other(_) => self.is_down(),
        }
    }

    /// Whether a job stopped it, for a service that systemd restarts whenever it ends by itself.
    pub fn was_stopped(&self) -> bool {
        !self.job && matches!(self.sub, SubState::Dead | SubState::Failed)
    }

    /// Whether it has stopped or is stopping, and no job is queued.
    pub fn is_down(&self) -> bool {
        use ActiveState as A;
        match &self.active {
            A::Deactivating | A::Inactive | A::Failed => !self.job,
            A::Active | A::Reloading | A::Refreshing | A::Activating | A::Maintenance => false,
            A::Missing | A::Other(_) => false,
        }
    }

    /// Whether a part of it may run: it is starting, running or stopping.
    pub fn is_up(&self) -> bool {
        use ActiveState as A;
        match &self.active {
            A::Missing | A::Inactive | A::Failed => false,
            A::Active | A::Reloading | A::Refreshing | A::Activating | A::Deactivating => true,
            A::Maintenance | A::Other(_) => true,
        }
    }
}

#[cfg(test)]
mod tests;
