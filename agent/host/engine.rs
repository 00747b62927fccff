//! podman or docker through the socket of its Docker-compatible API (docs.docker.com/reference/api/engine).
//!
//! Plain HTTP and JSON instead of typed models: podman answers with container states that Docker's models do
//! not have, and one such container would fail a whole list; podman 4.3 reports a failed pull in a field that
//! the models lack, so the pull would look successful. Paths carry no version: each engine then uses its
//! newest, without negotiation. Every call has a deadline, because a hung podman service never answers.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use reqwest::Method;
use reqwest::header::{HeaderMap, SERVER};
use serde::Deserialize;

mod answers;
mod info;
mod pull;

use super::http::{Answer, Http, HttpError, HttpRequest};
use crate::model::image::PinnedImage;
use crate::model::observed::{Engine, ImageSeen};
use answers::{found, ok, pinned, refusal, url};
pub use info::DockerdSettings;
pub use pull::may_pass;

pub const PODMAN_SOCKET: &str = "/run/podman/podman.sock";
pub const DOCKER_SOCKET: &str = "/run/docker.sock";

/// A request answered from memory or the engine's database.
const QUERY_TIMEOUT: Duration = Duration::from_secs(15);
/// Removing a container or a large image.
const REMOVE: Duration = Duration::from_secs(120);
/// Pause before a request is repeated after a broken connection.
const AGAIN: Duration = Duration::from_millis(200);
/// Longest answer.
const CAP: usize = 32 << 20;

/// An engine behind one unix socket.
#[derive(Debug)]
pub struct EngineClient {
    engine: Engine,
    socket: PathBuf,
    http: Http,
    store: tokio::sync::OnceCell<PathBuf>,
}

/// A container in any state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerSeen {
    pub id: String,
    /// Without the `/` that the API puts before it.
    pub name: String,
    /// The engine's state name: `running`, `exited`, `created`, on podman also `stopped`, `stopping`, …
    pub state: String,
    pub labels: BTreeMap<String, String>,
}

impl EngineClient {
    /// podman at a socket (`podman.socket` must be enabled).
    pub fn podman(socket: impl Into<PathBuf>) -> Self {
        Self::new(Engine::Podman, socket.into())
    }

    pub fn docker(socket: impl Into<PathBuf>) -> Self {
        Self::new(Engine::Docker, socket.into())
    }

    fn new(engine: Engine, socket: PathBuf) -> Self {
        Self { engine, http: Http::unix(&socket), socket, store: tokio::sync::OnceCell::new() }
    }

    /// The preferred engine at its usual socket; without a preference podman if its socket exists, else
    /// docker. Sends no request: an idle podman takes half a second to wake up. `None`: no such socket.
    pub fn detect(preferred: Option<Engine>) -> Option<Self> {
        let podman = || Self::podman(PODMAN_SOCKET);
        let docker = || Self::docker(DOCKER_SOCKET);
        let candidates = match preferred {
            Some(Engine::Podman) => vec![podman()],
            Some(Engine::Docker) => vec![docker()],
            None => vec![podman(), docker()],
        };
        candidates.into_iter().find(|candidate| candidate.socket.exists())
    }

    /// Starts a sleeping engine without waiting for it: podman's service exits after 5 s without a request,
    /// and takes 0.2 s to start.
    pub async fn wake(&self) {
        let _ = tokio::net::UnixStream::connect(&self.socket).await;
    }

    pub fn kind(&self) -> Engine {
        self.engine
    }

    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Version of the engine, `5.4.2`, from `Server: Libpod/5.4.2 (linux)`. `/version` and `/info` take
    /// podman 0.1 s, because they query the package manager. Fails without an answer within 15 s.
    pub async fn version(&self) -> Result<String> {
        let doing = "asking the engine for its version";
        let answer = self.send(Method::GET, "/_ping", &[], QUERY_TIMEOUT).await.context(doing)?;
        let server = answer.headers.get(SERVER).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let version = server.split([' ', '/']).nth(1).filter(|_| answer.status == 200);
        version.map(str::to_owned).context(doing)
    }

    /// All containers, running or not; on podman also those that only its store still has (`storage`), which
    /// a power cut leaves behind: they have a name, and no label.
    pub async fn containers(&self) -> Result<Vec<ContainerSeen>> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Listed {
            id: String,
            names: Option<Vec<String>>,
            state: Option<String>,
            labels: Option<BTreeMap<String, String>>,
        }
        // For Docker's list, podman inspects each container, and one damaged by a power cut fails the whole
        // list.
        let (path, query) = match self.engine {
            Engine::Podman => {
                ("/v4.0.0/libpod/containers/json", [("all", "true"), ("external", "true")].as_slice())
            }
            Engine::Docker => ("/containers/json", [("all", "true")].as_slice()),
        };
        let listed: Vec<Listed> = self.get(path, query).await.context("listing the containers")?;
        let seen = |listed: Listed| ContainerSeen {
            id: listed.id,
            // A container that others link to (docker) has a longer name for each link; its own name has no
            // second slash.
            name: (listed.names.unwrap_or_default().iter())
                .filter_map(|name| name.strip_prefix('/').or(Some(name)))
                .find(|name| !name.contains('/'))
                .unwrap_or_default()
                .to_owned(),
            state: listed.state.unwrap_or_default(),
            labels: listed.labels.unwrap_or_default(),
        };
        Ok(listed.into_iter().map(seen).collect())
    }

    /// Stops a container by name: SIGTERM, then SIGKILL after its stop timeout. A stopped container is no
    /// error.
    pub async fn stop_container(&self, name: &str, deadline: Duration) -> Result<()> {
        let sent = self.send(Method::POST, &format!("/containers/{name}/stop"), &[], deadline).await;
        ok(sent, &[304, 404]).with_context(|| format!("stopping the container {name}"))
    }

    /// Removes a stopped container by id. A missing one is no error.
    pub async fn remove_container(&self, id: &str) -> Result<()> {
        let path = format!("/containers/{id}");
        let sent = self.send(Method::DELETE, &path, &[("force", "false")], REMOVE).await;
        // 409: another client is removing it.
        ok(sent, &[404, 409]).with_context(|| format!("removing the container {id}"))
    }

    /// The local images that were pulled from a repository, whatever other names they have.
    pub async fn images(&self) -> Result<Vec<ImageSeen>> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Listed {
            id: String,
            repo_digests: Option<Vec<String>>,
            created: Option<i64>,
        }
        let listed: Vec<Listed> = self.get("/images/json", &[]).await.context("listing the images")?;
        let seen = |listed: Listed| ImageSeen {
            id: listed.id,
            repo_digests: listed
                .repo_digests
                .unwrap_or_default()
                .iter()
                .filter_map(|text| pinned(text))
                .collect(),
            created: listed.created.unwrap_or_default(),
        };
        Ok(listed.into_iter().map(seen).filter(|image| !image.repo_digests.is_empty()).collect())
    }

    /// Whether the engine has `image` under this repository and digest.
    pub async fn has_image(&self, image: &PinnedImage) -> Result<bool> {
        let sent = self.send(Method::GET, &format!("/images/{image}/json"), &[], QUERY_TIMEOUT).await;
        let seen = found(sent).with_context(|| format!("looking for the image {image}"))?;
        let known: BTreeSet<PinnedImage> = seen
            .as_ref()
            .and_then(|seen| seen.get("RepoDigests")?.as_array())
            .map(|all| all.iter().filter_map(|text| pinned(text.as_str()?)).collect())
            .unwrap_or_default();
        Ok(known.contains(image))
    }

    /// Removes an image by `repository@digest`, or by id. A missing one is no error; one that a container
    /// uses is. If the image has other tags, podman removes only this name and frees no space.
    pub async fn remove_image(&self, image: &str) -> Result<()> {
        let sent =
            self.send(Method::DELETE, &format!("/images/{image}"), &[("force", "false")], REMOVE).await;
        ok(sent, &[404]).with_context(|| format!("removing the image {image}"))
    }

    async fn get<T: serde::de::DeserializeOwned>(&self, path: &str, query: &[(&str, &str)]) -> Result<T> {
        let answer = self.send(Method::GET, path, query, QUERY_TIMEOUT).await?;
        if answer.status != 200 {
            return Err(refusal(&answer));
        }
        serde_json::from_slice(&answer.body)
            .with_context(|| format!("reading the answer of {}", self.socket.display()))
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        deadline: Duration,
    ) -> Result<Answer> {
        let url = url(path, query)?;
        let ask = || {
            let (method, headers) = (method.clone(), HeaderMap::new());
            self.http.ask(HttpRequest {
                method,
                url: url.as_str(),
                headers,
                body: Vec::new(),
                deadline,
                cap: CAP,
            })
        };
        // A killed or upgraded engine is started again by its socket, and every request here may be sent
        // twice.
        let first = ask().await;
        if let Err(HttpError::Broken { .. } | HttpError::Connect { .. }) = first {
            tokio::time::sleep(AGAIN).await;
            return Ok(ask().await?);
        }
        Ok(first?)
    }
}

#[cfg(test)]
mod tests;
