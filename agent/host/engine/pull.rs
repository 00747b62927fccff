//! Pulls an image: reads a stream of JSON lines, and detects a stall.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use reqwest::Method;
use serde::Deserialize;
use tokio::time::{Instant, timeout_at};

use super::answers::WORDS;
use super::{EngineClient, QUERY_TIMEOUT, refusal, url};
use crate::host::http::{Answer, HttpRequest, sensitive};
use crate::host::registry::Credentials;
use crate::model::image::PinnedImage;
use crate::model::text::{clean, once};

/// Longest line of the stream, in bytes.
const LINE: usize = 1 << 20;

/// One line of the stream (Docker API, `JSONMessage`). podman 4.3 sends only `error`, docker both.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Message {
    id: String,
    status: String,
    progress_detail: Option<Progress>,
    error: String,
    error_detail: Option<ErrorDetail>,
}

#[derive(Default, Deserialize, PartialEq, Eq)]
#[serde(default)]
struct Progress {
    current: i64,
    total: i64,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ErrorDetail {
    message: String,
}

/// The error of a failed pull, from the engine or the registry.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct PullError(String);

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
    let told = error.chain().find_map(|cause| cause.downcast_ref::<PullError>());
    told.is_some_and(|PullError(said)| {
        let said = said.to_ascii_lowercase();
        !FOR_GOOD.iter().any(|words| said.contains(words))
    })
}

impl EngineClient {
    /// Pulls `image` by its digest, with credentials if there are some. Fails with the registry's or the
    /// engine's message, when nothing moves for `stall` although a layer is incomplete, and after `total`;
    /// what was fetched stays in the engine, which stops when the connection closes. `progress` gets a short
    /// text for every visible change.
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
        let name = image.repository.to_string();
        let url = url("/images/create", &[("fromImage", &name), ("tag", image.digest.as_str())])?;
        // podman sends no head before it has reached the registry, so the head counts as progress.
        let mut ask = HttpRequest {
            method: Method::POST,
            deadline: stall.min(total),
            ..HttpRequest::get(url.as_str())
        };
        if let Some(login) = auth {
            let json = serde_json::json!({
                "username": login.username,
                "password": login.password.reveal(),
                "serveraddress": image.repository.registry(),
            });
            // RFC 4648, 5: the URL-safe alphabet.
            let text = crate::host::registry::base64(json.to_string().as_bytes());
            let value = sensitive(&text.replace('+', "-").replace('/', "_"));
            ask.headers.insert("x-registry-auth", value.context("the login cannot be a header")?);
        }
        let mut response = self.http.open(ask).await?;
        if response.status() != 200 {
            let mut body = Vec::new();
            let until = Instant::now() + QUERY_TIMEOUT;
            while let Ok(Ok(Some(chunk))) = timeout_at(until, response.chunk()).await {
                body.extend_from_slice(&chunk);
                if body.len() > LINE {
                    break;
                }
            }
            let (status, headers) = (response.status().as_u16(), std::mem::take(response.headers_mut()));
            return Err(PullError(refusal(&Answer { status, headers, body }).to_string()).into());
        }
        let mut watch = Watch::default();
        let mut line = Vec::new();
        let mut moved = Instant::now();
        loop {
            // Unpacking a large layer takes long, and neither engine reports it.
            let until = if watch.has_all() { end } else { (moved + stall).min(end) };
            let chunk = match timeout_at(until, response.chunk()).await {
                Ok(chunk) => chunk.map_err(|error| anyhow!("the engine hung up: {error}"))?,
                Err(_) if Instant::now() >= end => bail!("not done after {} s", total.as_secs()),
                Err(_) => bail!("nothing moved for {} s{}", stall.as_secs(), watch.last()),
            };
            let Some(chunk) = chunk else { break };
            for part in chunk.split_inclusive(|byte| *byte == b'\n') {
                line.extend_from_slice(part);
                if line.len() > LINE {
                    bail!("the engine sent a line longer than 1 MiB");
                }
                if line.ends_with(b"\n") && watch.saw(&std::mem::take(&mut line), &mut progress)? {
                    moved = Instant::now();
                }
            }
        }
        watch.saw(&line, &mut progress).map(drop)
    }
}

/// The last state of each layer: a repeated state is no progress.
#[derive(Default)]
struct Watch {
    layers: HashMap<String, (String, Option<Progress>)>,
    last: String,
}

impl Watch {
    /// Reads one line; `true` if it says something new. Fails if it reports an error.
    fn saw(&mut self, line: &[u8], progress: &mut impl FnMut(String)) -> Result<bool> {
        let Ok(message) = serde_json::from_slice::<Message>(line) else { return Ok(false) };
        let told = [message.error, message.error_detail.unwrap_or_default().message];
        if let Some(error) = told.iter().find(|error| !error.is_empty()) {
            return Err(PullError(once(&clean(error.trim(), WORDS))).into());
        }
        let now = (message.status, message.progress_detail);
        if self.layers.get(&message.id) == Some(&now) {
            return Ok(false);
        }
        let text = match &now {
            (status, Some(Progress { current, total })) if *total > 0 => {
                format!("{} {status} {} of {} MB", message.id, current / 1_000_000, total / 1_000_000)
            }
            (status, _) => format!("{} {status}", message.id),
        };
        let text = clean(text.trim(), WORDS);
        if !text.is_empty() && text != self.last {
            progress(text.clone());
            self.last = text;
        }
        self.layers.insert(message.id, now);
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
