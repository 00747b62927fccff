//! Why a tag could not be resolved.

use std::time::Duration;

use crate::host::http::HttpError;

/// Why a tag could not be resolved.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The registry has no such tag for this host.
    #[error("resolving {image}: tag not found (or the registry hides it without a login)")]
    NotFound {
        /// The tagged reference.
        image: String,
    },
    /// The credentials are missing, unreadable or wrong.
    #[error("resolving {image}: login rejected: {why}; put credentials into {file}")]
    Login {
        /// The tagged reference.
        image: String,
        /// The registry's message.
        why: String,
        /// The file for credentials.
        file: String,
    },
    /// The registry gave an answer that no retry changes.
    #[error(
        "resolving {image}: {why}\n  hint: a proxy or a login page may answer instead of the registry: try `curl -v` on its \
         address from this host"
    )]
    Refused {
        /// The tagged reference.
        image: String,
        /// The answer, or its defect.
        why: String,
    },
    /// No attempt got a usable answer in time.
    #[error(
        "resolving {image}: gave up after {}: {why}\n  hint: what serves is not affected; deploy again when the registry \
         answers (`astra-agent rollback` needs no registry)",
        times(*.attempts)
    )]
    Unavailable {
        /// The tagged reference.
        image: String,
        /// Requests that were tried.
        attempts: u32,
        /// The error of the last one.
        why: String,
    },
}

fn times(attempts: u32) -> String {
    if attempts == 1 { "1 attempt".to_owned() } else { format!("{attempts} attempts") }
}

/// Why one attempt gave no digest.
pub(super) enum AttemptError {
    /// Retry, but not before this time.
    Again(String, Option<Duration>),
    NotFound,
    Login(String),
    Never(String),
}

impl From<HttpError> for AttemptError {
    fn from(error: HttpError) -> Self {
        match error {
            HttpError::TooLarge { .. } => Self::Never(error.to_string()),
            _ => Self::Again(error.to_string(), None),
        }
    }
}
