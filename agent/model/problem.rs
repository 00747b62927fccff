//! A problem that a user can act on: the one form of a refusal, of a failed precondition and of doctor's
//! findings.

use serde::Serialize;

use super::outcome::{EXIT_LOCKED, EXIT_USAGE, Outcome};

/// The severity of a problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Unsafe or broken.
    Problem,
    /// Good to know; may be intended.
    Note,
}

/// Where the cause is: decides the exit code of a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The host, its engine, the registry, or what served before.
    Host,
    /// The command line, the config or the env file.
    Config,
    /// Something is half done, and needs an operator.
    Unfinished,
    /// Another run holds the lock.
    Busy,
}

impl Cause {
    /// The process exit code of a command refused for it.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Host => 1,
            Self::Config => EXIT_USAGE,
            Self::Unfinished => Outcome::Incomplete.exit_code(),
            Self::Busy => EXIT_LOCKED,
        }
    }
}

/// A problem and its fix. Its text is the problem, and the fix in a second line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{what}\n  hint: {fix}")]
pub struct Problem {
    /// Whether it is a problem or a note; `level` in JSON.
    #[serde(rename = "level")]
    pub severity: Severity,
    /// The name of the check, for programs: it never changes.
    pub check: &'static str,
    /// One sentence that names the subject.
    pub what: String,
    /// How to fix it.
    pub fix: String,
    /// Decides the exit code of a command that it refuses.
    #[serde(skip)]
    pub cause: Cause,
}

impl Problem {
    /// A problem of the host.
    pub fn host(check: &'static str, what: impl Into<String>, fix: impl Into<String>) -> Self {
        let (what, fix) = (what.into(), fix.into());
        Self { severity: Severity::Problem, check, what, fix, cause: Cause::Host }
    }

    /// A problem of the command line, the config or the env file.
    pub fn config(check: &'static str, what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { cause: Cause::Config, ..Self::host(check, what, fix) }
    }

    /// Something half done.
    pub fn unfinished(check: &'static str, what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { cause: Cause::Unfinished, ..Self::host(check, what, fix) }
    }

    /// Something good to know.
    pub fn note(check: &'static str, what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { severity: Severity::Note, ..Self::host(check, what, fix) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_shows_its_fix_in_a_second_line() {
        let problem = Problem::host("engine", "podman does not answer", "start it");
        assert_eq!(problem.to_string(), "podman does not answer\n  hint: start it");
        let json = serde_json::to_value(&problem).unwrap();
        let shown = serde_json::json!({"level": "problem", "check": "engine", "what": problem.what, "fix": "start it"});
        assert_eq!(json, shown);
    }

    #[test]
    fn each_cause_has_its_exit_code() {
        let causes = [Cause::Host, Cause::Config, Cause::Unfinished, Cause::Busy];
        assert_eq!(causes.map(Cause::exit_code), [1, 2, 4, 75]);
    }
}
