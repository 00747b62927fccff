//! The decision as data: printed by a dry run, carried out by the loop in run.rs.

use super::instance::ServiceName;
use super::release::Candidate;
use super::step::Step;

/// Steps in order. An empty plan *is* convergence.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Carried out one after another.
    pub steps: Vec<Step>,
    /// Index of the commit step: a failure before it is undone, after it the run only goes forward. `None`:
    /// the plan changes no release, and a failure stops it where it is.
    pub commit: Option<usize>,
    /// The release that the plan commits.
    pub candidate: Option<Candidate>,
    /// Warnings that stop nothing.
    pub warnings: Vec<String>,
    /// The accessory that it changes or restores.
    pub accessory: Option<ServiceName>,
    /// It moves serving instances to other ports.
    pub moves: bool,
}

impl Plan {
    /// Whether the host has converged.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Whether a signal may abandon the step with this index. A move, which has no undo, first brings the
    /// instance that is out back: nothing else would until the next run.
    pub fn may_stop_at(&self, index: usize) -> bool {
        !self.moves || !self.is_one_out(index) && !self.is_one_out(index + 1)
    }

    /// Whether a signal may end the run before the step with this index.
    pub fn may_stop_before(&self, index: usize) -> bool {
        self.moves && !self.is_one_out(index)
    }

    /// Whether after so many steps one has taken an instance out of rotation, and a later one brings it back.
    fn is_one_out(&self, steps: usize) -> bool {
        let (done, ahead) = self.steps.split_at(steps.min(self.steps.len()));
        let mut out = done.iter().filter_map(|step| match step {
            Step::Drain { instance, .. } | Step::RestoreCommitted { instance, .. } => Some(instance.id),
            _ => None,
        });
        out.any(|id| ahead.iter().any(|s| matches!(s, Step::Undrain { instance, .. } if instance.id == id)))
    }

    /// A plan that changes no release.
    pub fn forward(steps: Vec<Step>, warnings: Vec<String>) -> Self {
        Self { steps, warnings, ..Self::default() }
    }
}
