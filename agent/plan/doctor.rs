//! What a person should look at on this host, and what to do about it: a judgement over what was seen, which
//! changes nothing. Called by cli/doctor.rs; host/doctor.rs looks.

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

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Unsafe or broken.
    Problem,
    /// Good to know; may be meant so.
    Note,
}

/// Something that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub level: Level,
    /// The name of the check, for programs: it stays.
    pub check: &'static str,
    pub what: String,
    /// What to do about it.
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

/// Everything, problems first.
pub fn findings(inputs: &Inputs<'_>, checkup: &Checkup) -> Vec<Finding> {
    let mut found = paths::findings(inputs.config, checkup);
    found.extend(release::findings(inputs, checkup));
    found.extend(units::findings(inputs, checkup));
    found.extend(around::findings(inputs, checkup));
    found.extend(jobs::findings(inputs, checkup));
    sorted(found)
}

/// What can be said of a host that could not be looked at as a whole.
pub fn blind(inputs: &Inputs<'_>, checkup: &Checkup, why: &str) -> Vec<Finding> {
    let fix = "mend what it names, then run `astra-agent doctor` again: most was not looked at";
    let mut found = vec![Finding::problem("look", why, fix)];
    found.extend(paths::findings(inputs.config, checkup));
    sorted(found)
}

fn sorted(mut found: Vec<Finding>) -> Vec<Finding> {
    found.sort_by_key(|f| f.level == Level::Note);
    found
}
