//! The decision as data: printed by a dry run, carried out by the loop in run.rs.

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
}

impl Plan {
    /// Whether the host has converged.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Whether a signal may abandon the step with this index. A plan with a commit is undone; any other first
    /// brings an instance that it took out of rotation back, because nothing else would until the next run.
    pub fn may_stop_at(&self, index: usize) -> bool {
        let Some(back) = self.steps.iter().skip(index).find_map(|step| match step {
            Step::Undrain { instance, .. } => Some(instance),
            _ => None,
        }) else {
            return true;
        };
        let is_taken = self.steps.iter().take(index + 1).enumerate().any(|(at, step)| match step {
            Step::Drain { instance, .. } => at < index && instance == back,
            Step::RestoreCommitted { instance, .. } => instance == back,
            _ => false,
        });
        self.commit.is_some() || !is_taken
    }

    /// A plan that changes no release.
    pub fn forward(steps: Vec<Step>, warnings: Vec<String>) -> Self {
        Self { steps, warnings, ..Self::default() }
    }
}
