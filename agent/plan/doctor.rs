//! Findings about this host, each with its fix. Pure; host/doctor.rs observes. Called by cli/doctor.rs.

use serde::Serialize;

use super::Inputs;
use crate::model::checkup::Checkup;

mod around;
mod jobs;
mod paths;
mod release;
#[cfg(test)]
mod tests;
mod units;

pub use paths::watched;

/// The severity of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Unsafe or broken.
    Problem,
    /// Good to know; may be intended.
    Note,
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub level: Level,
    /// The name of the check, for programs: it never changes.
    pub check: &'static str,
    pub what: String,
    /// How to fix it.
    pub fix: String,
}

impl Finding {
    pub fn problem(check: &'static str, what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { level: Level::Problem, check, what: what.into(), fix: fix.into() }
    }

    pub fn note(check: &'static str, what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { level: Level::Note, check, what: what.into(), fix: fix.into() }
    }
}

/// All findings, problems first.
pub fn findings(inputs: &Inputs<'_>, checkup: &Checkup) -> Vec<Finding> {
    let mut found = paths::findings(inputs.config, checkup);
    found.extend(release::findings(inputs, checkup));
    found.extend(units::findings(inputs, checkup));
    found.extend(around::findings(inputs, checkup));
    found.extend(jobs::findings(inputs, checkup));
    sorted(found)
}

/// Findings about a host that could not be observed completely.
pub fn blind(inputs: &Inputs<'_>, checkup: &Checkup, why: &str) -> Vec<Finding> {
    let fix = "fix what it names, then run `astra-agent doctor` again: most checks were skipped";
    let mut found = vec![Finding::problem("look", why, fix)];
    found.extend(paths::findings(inputs.config, checkup));
    sorted(found)
}

fn sorted(mut found: Vec<Finding>) -> Vec<Finding> {
    found.sort_by_key(|f| f.level == Level::Note);
    found
}
