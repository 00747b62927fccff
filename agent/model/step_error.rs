//! Why a step failed, and who is to blame: said where the failure is seen.

use std::fmt;

use super::instance::InstanceName;
use super::outcome::Blame;

/// A failed step. Every other error that becomes one blames the host; only [`StepError::release`] blames the
/// release, so a failure that the code did not foresee never holds a release.
#[derive(Debug)]
pub struct StepError {
    /// The party that decides the exit code and whether the release is held.
    pub blame: Blame,
    /// The error chain, without the log.
    pub error: anyhow::Error,
    /// The last log lines of the unit, oldest first. They may hold secrets of the app.
    pub log: Vec<String>,
    /// Which of several instances a soak found unready.
    pub unready: Option<InstanceName>,
}

impl StepError {
    /// The release failed by itself: its own process ended, or did not become ready.
    pub fn release(error: impl Into<anyhow::Error>) -> Self {
        Self { blame: Blame::Release, ..Self::host(error) }
    }

    /// The host, its engine, the registry or an operator is to blame.
    pub fn host(error: impl Into<anyhow::Error>) -> Self {
        Self { blame: Blame::Host, error: error.into(), log: Vec::new(), unready: None }
    }

    /// The host is to blame if it has a `fault`, which is put before the error; otherwise the release.
    pub fn blaming(fault: Option<String>, error: impl Into<anyhow::Error>) -> Self {
        match fault {
            Some(fault) => Self::host(error).context(fault),
            None => Self::release(error),
        }
    }

    /// The same failure with `context` before its text.
    #[must_use]
    pub fn context(self, context: impl fmt::Display + Send + Sync + 'static) -> Self {
        Self { error: self.error.context(context), ..self }
    }

    /// The same failure with the log lines that explain it.
    #[must_use]
    pub fn with_log(self, log: Vec<String>) -> Self {
        Self { log, ..self }
    }

    /// The same failure, found at `instance`.
    #[must_use]
    pub fn at(self, instance: InstanceName) -> Self {
        Self { unready: Some(instance), ..self }
    }
}

impl From<anyhow::Error> for StepError {
    fn from(error: anyhow::Error) -> Self {
        Self::host(error)
    }
}

/// Outside a run there is no blame.
impl From<StepError> for anyhow::Error {
    fn from(error: StepError) -> Self {
        if error.log.is_empty() { error.error } else { anyhow::anyhow!("{error}") }
    }
}

/// The whole chain in one line, and the log below it.
impl fmt::Display for StepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", self.error)?;
        if !self.log.is_empty() {
            write!(f, "\n  its last log lines:\n    {}", self.log.join("\n    "))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_explicit_verdict_blames_the_release() {
        let unforeseen = StepError::from(anyhow::anyhow!("no space left on device"));
        assert_eq!(unforeseen.blame, Blame::Host);
        let own = StepError::release(anyhow::anyhow!("exit code 1")).context("migrating");
        assert_eq!((own.blame, own.to_string().as_str()), (Blame::Release, "migrating: exit code 1"));
    }

    #[test]
    fn log_lines_stand_below_the_error() {
        let error = StepError::host(anyhow::anyhow!("it ended")).with_log(vec!["a".into(), "b".into()]);
        assert_eq!(error.to_string(), "it ended\n  its last log lines:\n    a\n    b");
    }
}
