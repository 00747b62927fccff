//! The list of containers, over plain HTTP: the only answer that is read leniently.
//!
//! bollard knows Docker's states of a container and rejects a list with any other. podman has more: `stopped` (until
//! 6.0; while a container is cleaned up), `initialized`, `configured`. For Docker's list, podman also inspects each
//! container, so one damaged by a power cut fails the whole list, and it omits those that only the store still has.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use bollard::models::ErrorResponse;
use serde::Deserialize;

use super::connect::EngineError;
use super::{EngineClient, QUERY_TIMEOUT};
use crate::host::http::{Answer, HttpRequest};
use crate::model::observed::Engine;

/// Longest answer, in bytes.
const CAP: usize = 32 << 20;

/// A container in any state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerSeen {
    /// The engine's id, 64 hex digits.
    pub id: String,
    /// Without the `/` that the API puts before it.
    pub name: String,
    /// The engine's state name: `running`, `exited`, `created`, on podman also `stopped`, `stopping`, …
    pub state: String,
    /// Labels by name; `astra.release` marks the agent's own.
    pub labels: BTreeMap<String, String>,
}

/// The fields that are used; all others are ignored.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    id: String,
    names: Option<Vec<String>>,
    state: Option<String>,
    labels: Option<BTreeMap<String, String>>,
}

impl From<Listed> for ContainerSeen {
    fn from(listed: Listed) -> Self {
        // A container that others link to (docker) has a longer name for each link; its own name has no second slash.
        let name = (listed.names.unwrap_or_default().iter())
            .filter_map(|name| name.strip_prefix('/').or(Some(name)))
            .find(|name| !name.contains('/'))
            .unwrap_or_default()
            .to_owned();
        let (state, labels) = (listed.state.unwrap_or_default(), listed.labels.unwrap_or_default());
        Self { id: listed.id, name, state, labels }
    }
}

impl EngineClient {
    /// All containers, running or not; on podman also those that only its store still has (`storage`), which
    /// a power cut leaves behind: they have a name, and no label.
    ///
    /// # Errors
    ///
    /// The engine does not answer within 15 s, or its answer is not a list of containers.
    pub async fn containers(&self) -> Result<Vec<ContainerSeen>> {
        let path = match self.engine {
            Engine::Podman => "/v4.0.0/libpod/containers/json?all=true&external=true",
            Engine::Docker => "/containers/json?all=true",
        };
        self.list(path).await.context("listing the containers")
    }

    async fn list(&self, path: &str) -> Result<Vec<ContainerSeen>, EngineError> {
        let Answer { status, body, .. } = self.get(path).await?;
        if status != 200 {
            let told: Option<ErrorResponse> = serde_json::from_slice(&body).ok();
            return Err(EngineError::status(status, &told.unwrap_or_default().message));
        }
        let listed: Vec<Listed> = serde_json::from_slice(&body).map_err(|error| EngineError::Unreadable {
            from: self.socket.display().to_string(),
            why: error.to_string(),
        })?;
        Ok(listed.into_iter().map(ContainerSeen::from).collect())
    }

    /// Sends a GET without bollard. Any status is an answer; `path` may have a query.
    pub(super) async fn get(&self, path: &str) -> Result<Answer, EngineError> {
        let url = format!("http://engine{path}");
        let ask = || HttpRequest { deadline: QUERY_TIMEOUT, cap: CAP, ..HttpRequest::get(&url) };
        self.retry_once(async || Ok(self.http.ask(ask()).await?)).await
    }
}
