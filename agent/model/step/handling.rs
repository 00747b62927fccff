//! How a run treats each step: one exhaustive table, so that the compiler asks for every new step.

use super::Step;

/// How a run treats a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handling {
    /// The phase that its time is added to in the summary.
    pub phase: &'static str,
    /// The journal must be on disk before and after it, because it changes what is serving.
    pub durable: bool,
    /// Its failure past the commit point is only a warning: the release is complete without it.
    pub optional: bool,
    /// A signal abandons it at once. Otherwise the step itself ends in order.
    pub abandonable: bool,
}

impl Handling {
    const fn of(phase: &'static str) -> Self {
        Self { phase, durable: false, optional: false, abandonable: true }
    }

    const fn durable(self) -> Self {
        Self { durable: true, ..self }
    }

    const fn optional(self) -> Self {
        Self { optional: true, ..self }
    }

    const fn kept(self) -> Self {
        Self { abandonable: false, ..self }
    }
}

impl Step {
    /// How a run treats this step.
    pub fn handling(&self) -> Handling {
        match self {
            Self::MakeDir { .. }
            | Self::WriteFile { .. }
            | Self::WriteOwnFile { .. }
            | Self::BackupFile { .. }
            | Self::RemoveFile { .. }
            | Self::DaemonReload
            | Self::DisableUnits { .. }
            | Self::RestartUnit { .. }
            | Self::StopUnit { .. }
            | Self::LoadCaddy { .. }
            | Self::SwitchCaddyImage { .. }
            | Self::MakeNetwork { .. }
            | Self::WriteTrialEnv { .. } => Handling::of("files"),
            Self::StartUnit { .. } | Self::EnableUnits { .. } => Handling::of("files").optional(),
            Self::Pull { .. } | Self::FlushImages => Handling::of("pull"),
            Self::Migrate { .. } => Handling::of("migrate").durable().kept(),
            Self::Drain { .. } => Handling::of("drain").optional(),
            Self::StartTrial { .. } | Self::RestoreCommitted { .. } => Handling::of("restart").durable(),
            Self::StopInstance { .. } => Handling::of("restart").durable().optional(),
            Self::AwaitReady { .. } => Handling::of("ready"),
            Self::Soak { .. } => Handling::of("soak"),
            Self::Undrain { .. } => Handling::of("rejoin"),
            Self::Commit { .. } | Self::Pin { .. } => Handling::of("commit").durable().kept(),
            Self::RemoveContainer { .. } | Self::RemoveImage { .. } => Handling::of("prune").optional(),
        }
    }
}
