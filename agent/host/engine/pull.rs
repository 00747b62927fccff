//! Pulls an image: reads a stream of messages, and detects a stall.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use bollard::auth::DockerCredentials;
use bollard::errors::Error;
use bollard::models::{CreateImageInfo, ProgressDetail};
use bollard::query_parameters::CreateImageOptions;
use futures_util::StreamExt;
use tokio::time::{Instant, timeout_at};

use super::EngineClient;
use super::connect::{EngineError, LONGEST_MESSAGE, message_text, translate};
use crate::host::registry::Credentials;
use crate::model::image::PinnedImage;
use crate::model::text::clean;

/// bollard 0.21.1's error for a complete stream whose last CR LF (docker's line end) arrives after its line: the CR is
/// left in its buffer. A stream that breaks off gives another error.
const TRAILING_CR: &str = "bytes remaining on stream";

/// Parts of errors that a retry cannot fix.
const FOR_GOOD: &[&str] = &[
    "unauthorized",
    "authentication required",
    "denied",
    "forbidden",
    "not found",
    "unknown",
    "no such image",
    "signature",
    "rejected",
    "no space left",
    "quota exceeded",
    "read-only file system",
    "invalid status code from registry 4",
];

/// Whether a retry of the pull may succeed: podman requests a manifest only once, and gives up on a blob that
/// breaks off twice. The agent's own timeouts are long enough, so they are not retried.
pub fn may_pass(error: &anyhow::Error) -> bool {
    let failed = error.chain().find_map(|cause| cause.downcast_ref::<EngineError>());
    failed.is_some_and(|failed| match failed {
        EngineError::Status { message: said, .. } | EngineError::Pull(said) => {
            let said = said.to_ascii_lowercase();
            !FOR_GOOD.iter().any(|words| said.contains(words))
        }
        EngineError::Http(_) | EngineError::Unreadable { .. } => false,
    })
}

impl EngineClient {
    /// Pulls `image` by its digest, with credentials if there are some. Fails with the registry's or the
    /// engine's message, when nothing moves for `stall` although a layer is incomplete, and after `total`;
    /// the engine keeps the layers that are complete, and stops when the connection closes. `progress` gets a
    /// short text for every visible change.
    ///
    /// # Errors
    ///
    /// The registry or the engine refuses, or one of the two limits passes.
    pub async fn pull(
        &self,
        image: &PinnedImage,
        auth: Option<&Credentials>,
        stall: Duration,
        total: Duration,
        progress: impl FnMut(String),
    ) -> Result<()> {
        self.try_pull(image, auth, stall, total, progress).await.with_context(|| format!("pulling {image}"))
    }

    async fn try_pull(
        &self,
        image: &PinnedImage,
        auth: Option<&Credentials>,
        stall: Duration,
        total: Duration,
        mut progress: impl FnMut(String),
    ) -> Result<()> {
        let end = Instant::now() + total;
        let what = CreateImageOptions {
            from_image: Some(image.repository.to_string()),
            tag: Some(image.digest.as_str().to_owned()),
            ..Default::default()
        };
        let login = auth.map(|login| DockerCredentials {
            username: Some(login.username.clone()),
            password: Some(login.password.reveal().to_owned()),
            serveraddress: Some(image.repository.registry().to_owned()),
            ..Default::default()
        });
        let mut messages = self.bollard()?.create_image(Some(what), None, login);
        let mut watch = Watch::default();
        let mut moved = Instant::now();
        loop {
            // Unpacking a large layer takes long, and neither engine reports it. podman sends no head before it has
            // reached the registry, so `stall` limits that wait as well.
            let until = if watch.has_all() { end } else { (moved + stall).min(end) };
            let message = match timeout_at(until, messages.next()).await {
                Ok(Some(Err(Error::IOError { err }))) if err.to_string() == TRAILING_CR => return Ok(()),
                Ok(Some(message)) => message,
                Ok(None) => return Ok(()),
                // podman answers nothing while it waits for the registry, so either may hang.
                Err(_) if watch.layers.is_empty() => bail!(
                    "{} gave no answer within {} s (asked through {})",
                    image.repository.registry(),
                    stall.min(total).as_secs(),
                    self.socket.display()
                ),
                Err(_) if Instant::now() >= end => bail!("not done after {} s", total.as_secs()),
                Err(_) => bail!("nothing moved for {} s{}", stall.as_secs(), watch.last()),
            };
            let message = message.map_err(|error| match error {
                Error::IOError { err } => anyhow!("the engine hung up: {err}"),
                error => translate(error, &self.socket).into(),
            })?;
            if watch.saw(message, &mut progress)? {
                moved = Instant::now();
            }
        }
    }
}

/// The last state of each layer: a repeated state is no progress.
#[derive(Default)]
struct Watch {
    layers: HashMap<String, (String, Option<ProgressDetail>)>,
    last: String,
}

impl Watch {
    /// Reads one message; `true` if it says something new. Fails if it reports an error without a text.
    fn saw(
        &mut self,
        message: CreateImageInfo,
        progress: &mut impl FnMut(String),
    ) -> Result<bool, EngineError> {
        if message.error_detail.is_some() {
            return Err(EngineError::Pull(message_text("")));
        }
        let id = message.id.unwrap_or_default();
        let now = (message.status.unwrap_or_default(), message.progress_detail);
        if self.layers.get(&id) == Some(&now) {
            return Ok(false);
        }
        let text = match &now {
            (status, Some(ProgressDetail { current, total: Some(total @ 1..) })) => {
                let current = current.unwrap_or_default();
                format!("{id} {status} {} of {} MB", current / 1_000_000, total / 1_000_000)
            }
            (status, _) => format!("{id} {status}"),
        };
        let text = clean(text.trim(), LONGEST_MESSAGE);
        if !text.is_empty() && text != self.last {
            progress(text.clone());
            self.last = text;
        }
        self.layers.insert(id, now);
        Ok(true)
    }

    /// At least one layer was downloaded, and no announced one is incomplete. (Lines about the whole pull
    /// have no layer, or a tag instead.)
    fn has_all(&self) -> bool {
        let is = |words: &[&str]| {
            self.layers.values().filter(|(status, _)| words.contains(&status.as_str())).count()
        };
        is(&["Download complete", "Extracting", "Pull complete"]) > 0
            && is(&["Pulling fs layer", "Waiting", "Downloading", "Retrying", "Verifying Checksum"]) == 0
    }

    fn last(&self) -> String {
        if self.last.is_empty() { String::new() } else { format!(" (last: {})", self.last) }
    }
}

#[cfg(test)]
mod tests;
