//! bollard on the engine's socket: adapts its requests to every engine, and translates its errors.

use std::path::Path;

use bollard::errors::Error;
use bollard::{API_DEFAULT_VERSION, BollardRequest, Docker};
use reqwest::header::{HeaderValue, USER_AGENT};

use crate::host::http::{HttpError, chain, sensitive};
use crate::model::text::{clean, once};

/// Longest error text that is passed on, in characters: the cause is at its end.
pub(super) const LONGEST_MESSAGE: usize = 2000;
/// bollard's own deadline, in seconds. It covers only the head of an answer, so each caller sets another one.
const NEVER: u64 = 24 * 60 * 60;
/// The header with the credentials of a pull.
const LOGIN: &str = "x-registry-auth";

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum EngineError {
    #[error(transparent)]
    Http(#[from] HttpError),
    #[error("the engine answered {status}: {message}")]
    Status { status: u16, message: String },
    /// An error message within the stream of a pull.
    #[error("{0}")]
    Pull(String),
    #[error("reading the answer of {from}: {why}")]
    Unreadable { from: String, why: String },
}

impl EngineError {
    /// An error status, with the engine's or the registry's message.
    pub(super) fn status(status: u16, message: &str) -> Self {
        Self::Status { status, message: message_text(message) }
    }
}

/// A message of the engine or a registry, without control characters and repeated causes, of 2,000 characters at most.
pub(super) fn message_text(message: &str) -> String {
    match message.trim() {
        "" => "no reason given".to_owned(),
        message => once(&clean(message, LONGEST_MESSAGE)),
    }
}

/// Sends no request. Fails if there is no such socket.
pub(super) fn connect(socket: &Path) -> Result<Docker, EngineError> {
    let docker = Docker::connect_with_unix(&socket.to_string_lossy(), NEVER, API_DEFAULT_VERSION);
    Ok(docker.map_err(|error| translate(error, socket))?.with_request_modifier(adapt))
}

/// Adapts a request to all engines. Its path needs no change: bollard 0.21.1 sends it without an API version (checked by
/// a test), so each engine uses its newest. No version is accepted by docker 20.10, 25 and 29 alike.
fn adapt(mut request: BollardRequest) -> BollardRequest {
    let headers = request.headers_mut();
    headers.insert(USER_AGENT, HeaderValue::from_static(concat!("astra-agent/", env!("CARGO_PKG_VERSION"))));
    // Engines decode the URL-safe alphabet (RFC 4648, section 5), bollard encodes the standard one: the engine would
    // ignore the credentials if `+` or `/` is in them.
    let login = headers.get(LOGIN).and_then(|value| value.to_str().ok());
    if let Some(login) = login.and_then(|text| sensitive(&text.replace('+', "-").replace('/', "_"))) {
        headers.insert(LOGIN, login);
    }
    request
}

/// Translates bollard's error to the messages of the agent's HTTP client and of the engine.
pub(super) fn translate(error: Error, socket: &Path) -> EngineError {
    let to = socket.display().to_string();
    let no_answer = match error {
        Error::DockerResponseServerError { status_code, message } => {
            return EngineError::status(status_code, &message);
        }
        Error::DockerStreamError { error } => return EngineError::Pull(message_text(&error)),
        Error::SocketNotFoundError(_) => HttpError::Connect { to, why: "there is no such socket".to_owned() },
        Error::HyperLegacyError { err } if err.is_connect() => HttpError::Connect { to, why: chain(&err) },
        Error::HyperLegacyError { err } => HttpError::Broken { to, why: chain(&err) },
        Error::HyperResponseError { err } => HttpError::Broken { to, why: err.to_string() },
        Error::IOError { err } => HttpError::Broken { to, why: err.to_string() },
        other => return EngineError::Unreadable { from: to, why: message_text(&other.to_string()) },
    };
    no_answer.into()
}

/// Accepts the given statuses, which mean "already so".
pub(super) fn accept<T>(answer: Result<T, EngineError>, already_so: &[u16]) -> Result<(), EngineError> {
    match answer {
        Err(EngineError::Status { status, .. }) if already_so.contains(&status) => Ok(()),
        answer => answer.map(drop),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_never_empty() {
        assert_eq!(message_text(" \n"), "no reason given");
        assert_eq!(message_text("denied: denied: \u{1b}[2Jx\n"), "denied:  [2Jx");
    }
}
