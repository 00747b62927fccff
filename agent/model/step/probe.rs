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
    /// Paths to ask for once the instance is ready, before visitors do.
    pub warm_up: Vec<String>,
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

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, at most {:?}", self.check, self.timeout)?;
        match self.http().map_or(0, |http| http.warm_up.len()) {
            0 => Ok(()),
            1 => f.write_str(", then 1 request to warm up"),
            count => write!(f, ", then {count} requests to warm up"),
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
