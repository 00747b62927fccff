//! How to see that an instance is ready.

use std::fmt;
use std::time::Duration;

/// How to see that an instance is ready, once its unit is active.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The condition beside that.
    pub check: Check,
    /// Limit from the start until ready.
    pub timeout: Duration,
}

/// The kinds of a readiness check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// A request to the service gets a 2xx.
    Http(HttpCheck),
    /// The instance runs for so long without a restart.
    Settle(Duration),
    /// A command in its container ends with code 0.
    Command(CommandCheck),
    /// Its container accepts a connection on this port.
    Tcp(u16),
}

/// A command in the container of an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandCheck {
    /// Program and arguments; never empty.
    pub argv: Vec<String>,
    /// Limit for one run of it.
    pub answer: Duration,
}

/// The readiness request for an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpCheck {
    /// The path, e.g. `/readyz`; a 2xx means ready.
    pub path: String,
    /// `Host` header.
    pub host: String,
    /// Send `X-Forwarded-Proto: https`, like the visitors' requests.
    pub https: bool,
    /// Limit for one answer.
    pub answer: Duration,
}

impl Probe {
    /// The readiness request; `None`: the instance has no port.
    pub fn http(&self) -> Option<&HttpCheck> {
        match &self.check {
            Check::Http(check) => Some(check),
            Check::Settle(_) | Check::Command(_) | Check::Tcp(_) => None,
        }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(check) => f.write_str(&check.path),
            Self::Settle(time) => write!(f, "runs for {time:?}"),
            Self::Command(check) => write!(f, "`{}`", check.argv.join(" ")),
            Self::Tcp(port) => write!(f, "port {port}"),
        }
    }
}
