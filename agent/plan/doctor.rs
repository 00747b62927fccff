//! Findings about this host, each with its fix. Pure; host/doctor.rs observes. Called by cli/doctor.rs.

use super::Inputs;
use crate::model::checkup::Checkup;
use crate::model::problem::{Problem, Severity};

mod around;
mod jobs;
mod paths;
mod release;
#[cfg(test)]
mod tests;
mod units;

pub use paths::watched;

/// All findings, problems first.
pub fn findings(inputs: &Inputs<'_>, checkup: &Checkup) -> Vec<Problem> {
    let mut found = paths::findings(inputs.config, checkup);
    found.extend(release::findings(inputs, checkup));
    found.extend(units::findings(inputs, checkup));
    found.extend(around::findings(inputs, checkup));
    found.extend(jobs::findings(inputs, checkup));
    sorted(found)
}

/// Findings about a host that could not be observed completely.
pub fn blind(inputs: &Inputs<'_>, checkup: &Checkup, why: &str) -> Vec<Problem> {
    let fix = "fix what it names, then run `astra-agent doctor` again: most checks were skipped";
    let mut found = vec![Problem::host("look", why, fix)];
    found.extend(paths::findings(inputs.config, checkup));
    sorted(found)
}

fn sorted(mut found: Vec<Problem>) -> Vec<Problem> {
    found.sort_by_key(|f| f.severity == Severity::Note);
    found
}
