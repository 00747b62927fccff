//! The decision as data: what a dry run prints, what the loop in run.rs carries out.

use super::release::Candidate;
use super::step::Step;

/// Steps in order. An empty plan *is* convergence.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    pub steps: Vec<Step>,
    /// Index of the commit step: before it a failure undoes, after it the run only goes forward.
    /// `None`: the plan changes no release, and a failure stops where it is.
    pub commit: Option<usize>,
    /// The release that the plan commits.
    pub candidate: Option<Candidate>,
    /// What the user should know although nothing stops for it.
    pub warnings: Vec<String>,
}

impl Plan {
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// A plan that changes no release.
    pub fn forward(steps: Vec<Step>, warnings: Vec<String>) -> Self {
        Self { steps, warnings, ..Self::default() }
    }
}
