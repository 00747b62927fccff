//! podman or docker through the socket of its Docker-compatible API (docs.docker.com/reference/api/engine).
//!
//! bollard is the client. Its types are Docker's, and podman's answers differ in places: `connect` adapts requests and
//! errors, `list` reads the list of containers without bollard. Every call has a deadline, because a hung podman
//! service never answers. bollard does not limit the size of an answer; the engine runs as root on this host and is
//! trusted not to exhaust the memory.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bollard::Docker;
use bollard::query_parameters::{ListImagesOptions, RemoveContainerOptions, RemoveImageOptions};
use reqwest::header::SERVER;

mod connect;
mod container;
mod info;
mod list;
mod pull;

use super::http::{Http, HttpError};
use crate::model::image::PinnedImage;
use crate::model::observed::{Engine, ImageSeen};
use connect::{EngineError, accept, connect, translate};
pub use container::ExecEnded;
pub use info::DockerdSettings;
pub use list::ContainerSeen;
pub use pull::may_pass;

/// podman's usual socket (podman-system-service(1)).
pub const PODMAN_SOCKET: &str = "/run/podman/podman.sock";
/// dockerd's usual socket.
pub const DOCKER_SOCKET: &str = "/run/docker.sock";

/// A request answered from memory or the engine's database.
const QUERY_TIMEOUT: Duration = Duration::from_secs(15);
/// Removing a container or a large image.
const REMOVE: Duration = Duration::from_secs(120);
/// Pause before a request is repeated after a broken connection.
const AGAIN: Duration = Duration::from_millis(200);

/// Starts podman's service, which ends after 5 s without requests and takes 0.1 s to start: a connection to its socket is
/// enough (systemd.socket(5)). Waits for nothing: the first request learns of a failure.
pub fn wake_podman() {
    let _ = std::os::unix::net::UnixStream::connect(PODMAN_SOCKET);
}

/// An engine behind one unix socket.
#[derive(Debug)]
pub struct EngineClient {
    engine: Engine,
    socket: PathBuf,
    /// Created on first use, because that fails without a socket.
    bollard: OnceLock<Docker>,
    /// For the list of containers and the version.
    http: Http,
    store: tokio::sync::OnceCell<PathBuf>,
}

impl EngineClient {
    /// podman at a socket (`podman.socket` must be enabled).
    pub fn podman(socket: impl Into<PathBuf>) -> Self {
        Self::new(Engine::Podman, socket.into())
    }

    /// dockerd at a socket.
    pub fn docker(socket: impl Into<PathBuf>) -> Self {
        Self::new(Engine::Docker, socket.into())
    }

    fn new(engine: Engine, socket: PathBuf) -> Self {
        let http = Http::unix(&socket);
        Self { engine, socket, bollard: OnceLock::new(), http, store: tokio::sync::OnceCell::new() }
    }

    /// The preferred engine at its usual socket below `root`; without a preference podman if its socket exists, else
    /// docker. Sends no request: an idle podman takes half a second to wake up. `None`: no such socket.
    pub fn detect(root: &Path, preferred: Option<Engine>) -> Option<Self> {
        let below = |socket: &str| root.join(socket.trim_start_matches('/'));
        let podman = || Self::podman(below(PODMAN_SOCKET));
        let docker = || Self::docker(below(DOCKER_SOCKET));
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

    /// podman or docker.
    pub fn kind(&self) -> Engine {
        self.engine
    }

    /// Path of its unix socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Version of the engine, `5.4.2`, from `Server: Libpod/5.4.2 (linux)`, which bollard does not show. `/version`
    /// and `/info` take podman 0.1 s, because they query the package manager. Fails without an answer within 15 s.
    ///
    /// # Errors
    ///
    /// The engine does not answer within 15 s, or without a version.
    pub async fn version(&self) -> Result<String> {
        let doing = "asking the engine for its version";
        let answer = self.get("/_ping").await.context(doing)?;
        let server = answer.headers.get(SERVER).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let version = server.split([' ', '/']).nth(1).filter(|_| answer.status == 200);
        version.map(str::to_owned).context(doing)
    }

    /// Stops a container by name: SIGTERM, then SIGKILL after its stop timeout. A stopped or missing container is no
    /// error.
    ///
    /// # Errors
    ///
    /// The engine does not answer within `deadline`, or cannot stop it.
    pub async fn stop_container(&self, name: &str, deadline: Duration) -> Result<()> {
        let doing = || format!("stopping the container {name}");
        check_name(name).with_context(doing)?;
        let sent = self.call(deadline, |docker| docker.stop_container(name, None)).await;
        accept(sent, &[404]).with_context(doing)
    }

    /// Removes a stopped container by id. A missing one is no error.
    ///
    /// # Errors
    ///
    /// The engine refuses, or does not answer within two minutes.
    pub async fn remove_container(&self, id: &str) -> Result<()> {
        let doing = || format!("removing the container {id}");
        check_name(id).with_context(doing)?;
        let gently = || Some(RemoveContainerOptions { force: false, ..Default::default() });
        let sent = self.call(REMOVE, |docker| docker.remove_container(id, gently())).await;
        // 409: another client is removing it.
        accept(sent, &[404, 409]).with_context(doing)
    }

    /// The local images that were pulled from a repository, whatever other names they have.
    ///
    /// # Errors
    ///
    /// The engine does not answer within 15 s.
    pub async fn images(&self) -> Result<Vec<ImageSeen>> {
        let listed = self.call(QUERY_TIMEOUT, |docker| docker.list_images(None::<ListImagesOptions>)).await;
        let seen = listed.context("listing the images")?.into_iter().map(|listed| ImageSeen {
            id: listed.id,
            repo_digests: listed.repo_digests.iter().filter_map(|text| pinned(text)).collect(),
            created: listed.created,
        });
        Ok(seen.filter(|image| !image.repo_digests.is_empty()).collect())
    }

    /// Whether the engine has `image` under this repository and digest.
    ///
    /// # Errors
    ///
    /// The engine does not answer within 15 s.
    pub async fn has_image(&self, image: &PinnedImage) -> Result<bool> {
        let name = image.to_string();
        let known = match self.call(QUERY_TIMEOUT, |docker| docker.inspect_image(&name)).await {
            Ok(seen) => seen.repo_digests.unwrap_or_default(),
            Err(EngineError::Status { status: 404, .. }) => return Ok(false),
            Err(error) => return Err(error).with_context(|| format!("looking for the image {image}")),
        };
        Ok(known.iter().filter_map(|text| pinned(text)).any(|known| known == *image))
    }

    /// Removes an image by `repository@digest`, or by id. A missing one is no error; one that a container
    /// uses is. If the image has other tags, podman removes only this name and frees no space.
    ///
    /// # Errors
    ///
    /// A container uses the image, or the engine does not answer within two minutes.
    pub async fn remove_image(&self, image: &str) -> Result<()> {
        let doing = || format!("removing the image {image}");
        check_name(image).with_context(doing)?;
        let gently = || Some(RemoveImageOptions { force: false, ..Default::default() });
        let sent = self.call(REMOVE, |docker| docker.remove_image(image, gently(), None)).await;
        accept(sent, &[404]).with_context(doing)
    }

    fn bollard(&self) -> Result<&Docker, EngineError> {
        if let Some(docker) = self.bollard.get() {
            return Ok(docker);
        }
        let docker = connect(&self.socket)?;
        Ok(self.bollard.get_or_init(|| docker))
    }

    /// Calls bollard, with `deadline` for each of the two attempts.
    async fn call<'a, T, F>(
        &'a self,
        deadline: Duration,
        ask: impl Fn(&'a Docker) -> F,
    ) -> Result<T, EngineError>
    where
        F: Future<Output = Result<T, bollard::errors::Error>>,
    {
        let attempt = async || match tokio::time::timeout(deadline, ask(self.bollard()?)).await {
            Ok(answer) => answer.map_err(|error| translate(error, &self.socket)),
            Err(_) => Err(self.late(deadline)),
        };
        self.retry_once(attempt).await
    }

    /// Repeats a request whose connection broke: a killed or upgraded engine is started again by its socket, and
    /// every request that comes here may be sent twice.
    async fn retry_once<T>(&self, ask: impl AsyncFn() -> Result<T, EngineError>) -> Result<T, EngineError> {
        match ask().await {
            Err(EngineError::Http(HttpError::Broken { .. } | HttpError::Connect { .. })) => {
                tokio::time::sleep(AGAIN).await;
                ask().await
            }
            done => done,
        }
    }

    fn late(&self, deadline: Duration) -> EngineError {
        let to = self.socket.display().to_string();
        HttpError::Late { to, seconds: deadline.as_secs_f64() }.into()
    }
}

/// Fails for a name that would change the path of the request: bollard puts names into paths unescaped.
fn check_name(name: &str) -> Result<()> {
    let other =
        name.contains(['?', '#', '%', '\\', ' ']) || name.split('/').any(|part| matches!(part, "." | ".."));
    ensure!(!other, "`{name}` is not a name that an engine can have");
    Ok(())
}

/// One entry of RepoDigests. Docker shortens those of Docker Hub: `redis@…`, `almalinux/astra@…`.
fn pinned(text: &str) -> Option<PinnedImage> {
    let (name, _) = text.split_once('@')?;
    let first = name.split('/').next().unwrap_or(name);
    let full = match name.contains('/') {
        false => format!("docker.io/library/{text}"),
        true if !first.contains(['.', ':']) && first != "localhost" => format!("docker.io/{text}"),
        true => text.to_owned(),
    };
    full.parse().ok()
}

#[cfg(test)]
mod tests;
