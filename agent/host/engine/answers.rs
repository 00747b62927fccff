//! API paths of the engine, and the meaning of its answers.

use anyhow::{Context, Result, anyhow, bail};
use reqwest::Url;
use serde_json::Value;

use crate::host::http::Answer;
use crate::model::image::PinnedImage;
use crate::model::text::{clean, once};

/// Longest error text that is passed on, in characters: the cause is at its end.
pub(super) const WORDS: usize = 2000;

pub(super) fn url(path: &str, query: &[(&str, &str)]) -> Result<Url> {
    if path.contains("/../") || path.contains(['?', '#', ' ']) {
        bail!("`{path}` is not a name that an engine can have");
    }
    let mut url = Url::parse("http://engine").context("making the address of a call")?;
    url.set_path(path);
    if !query.is_empty() {
        url.query_pairs_mut().extend_pairs(query);
    }
    Ok(url)
}

/// `Ok` for every 2xx and for the statuses in `also`, which mean "already so".
pub(super) fn ok(sent: Result<Answer>, also: &[u16]) -> Result<()> {
    let answer = sent?;
    match answer.status {
        200..300 => Ok(()),
        status if also.contains(&status) => Ok(()),
        _ => Err(refusal(&answer)),
    }
}

/// The JSON of an object, or `None` for 404.
pub(super) fn found(sent: Result<Answer>) -> Result<Option<Value>> {
    let answer = sent?;
    match answer.status {
        200 => Ok(Some(serde_json::from_slice(&answer.body)?)),
        404 => Ok(None),
        _ => Err(refusal(&answer)),
    }
}

/// The engine's error message: `{"message": "…"}`, on podman with a `cause`.
pub(super) fn refusal(answer: &Answer) -> anyhow::Error {
    let told: Option<Value> = serde_json::from_slice(&answer.body).ok();
    let message = told.as_ref().and_then(|told| told.get("message")?.as_str()).unwrap_or("no reason given");
    anyhow!("the engine answered {}: {}", answer.status, once(&clean(message.trim(), WORDS)))
}

/// One entry of RepoDigests. Docker shortens those of Docker Hub: `redis@…`, `almalinux/astra@…`.
pub(super) fn pinned(text: &str) -> Option<PinnedImage> {
    let (name, _) = text.split_once('@')?;
    let first = name.split('/').next().unwrap_or(name);
    let full = match name.contains('/') {
        false => format!("docker.io/library/{text}"),
        true if !first.contains(['.', ':']) && first != "localhost" => format!("docker.io/{text}"),
        true => text.to_owned(),
    };
    full.parse().ok()
}
