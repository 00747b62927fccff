//! The engine's own settings: the location of its images, and the dockerd settings that matter to a site.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use bollard::models::SystemInfo;
use bollard::query_parameters::{InspectContainerOptions, ListContainersOptions};

use super::connect::EngineError;
use super::{EngineClient, QUERY_TIMEOUT};
use crate::model::observed::Engine;

/// Config of containerd; `root` is the location of its images.
const CONTAINERD_CONFIG: &str = "/etc/containerd/config.toml";
const CONTAINERD_ROOT: &str = "/var/lib/containerd";
/// `DriverStatus` when containerd stores the images: the default from docker 29 on.
const SNAPSHOTTER: [&str; 2] = ["driver-type", "io.containerd.snapshotter.v1"];
/// Part of the socket path of a containerd that dockerd runs itself.
const OWN_CONTAINERD: &str = "/docker/containerd/";

/// Settings that dockerd reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DockerdSettings {
    /// Containers survive a restart of dockerd.
    pub live_restore: bool,
    /// It can write log lines to the systemd journal.
    pub journald: bool,
}

impl EngineClient {
    /// The directory of the image layers: `/var/lib/containers/storage`, `/var/lib/docker`,
    /// `/var/lib/containerd`. Asked once.
    ///
    /// # Errors
    ///
    /// The engine does not answer in time.
    pub async fn image_store_path(&self) -> Result<PathBuf> {
        let ask = async || match self.store_of_a_container().await {
            Some(store) => Ok(store),
            None => self.store_by_info().await,
        };
        self.store.get_or_try_init(ask).await.context("asking the engine where it keeps images").cloned()
    }

    /// Settings of dockerd; `None` with podman.
    ///
    /// # Errors
    ///
    /// dockerd does not answer in time.
    pub async fn dockerd_settings(&self) -> Result<Option<DockerdSettings>> {
        if self.engine != Engine::Docker {
            return Ok(None);
        }
        let info = self.info().await.context("asking docker for its settings")?;
        let drivers = info.plugins.and_then(|plugins| plugins.log);
        let journald = drivers.is_none_or(|drivers| drivers.iter().any(|name| name == "journald"));
        Ok(Some(DockerdSettings { live_restore: info.live_restore_enabled.unwrap_or_default(), journald }))
    }

    /// The directory of a running container's writable layer: `STORE/overlay/ID/diff`, on docker `overlay2`. `None`: no
    /// container runs, containerd stores its layers, or the container stops at this moment: bollard does not know
    /// podman's name for that state.
    async fn store_of_a_container(&self) -> Option<PathBuf> {
        let running = || {
            let filters = Some([("status".to_owned(), vec!["running".to_owned()])].into());
            Some(ListContainersOptions { limit: Some(1), filters, ..Default::default() })
        };
        let found = self.call(QUERY_TIMEOUT, |docker| docker.list_containers(running())).await.ok()?;
        let id = found.first()?.id.as_deref()?;
        let seen = self
            .call(QUERY_TIMEOUT, |docker| docker.inspect_container(id, None::<InspectContainerOptions>))
            .await;
        store_of(Path::new(seen.ok()?.graph_driver?.data.get("UpperDir")?)).map(Path::to_owned)
    }

    async fn store_by_info(&self) -> Result<PathBuf> {
        let info = self.info().await?;
        let root = info.docker_root_dir.as_deref().unwrap_or_default();
        ensure!(root.starts_with('/'), "the engine says `{root}`");
        let config = std::fs::read_to_string(CONTAINERD_CONFIG).unwrap_or_default();
        Ok(store_by(&info, &config))
    }

    async fn info(&self) -> Result<SystemInfo, EngineError> {
        self.call(QUERY_TIMEOUT, |docker| docker.info()).await
    }
}

/// The store according to `/info` and the config of the host's containerd. On podman `docker_root_dir` is its graph root.
fn store_by(info: &SystemInfo, containerd_config: &str) -> PathBuf {
    let root = PathBuf::from(info.docker_root_dir.as_deref().unwrap_or_default());
    let status = info.driver_status.as_deref().unwrap_or_default();
    if !status.iter().any(|pair| pair.iter().map(String::as_str).eq(SNAPSHOTTER)) {
        return root;
    }
    let own = info.containerd.as_ref().and_then(|own| own.address.as_deref());
    if own.is_some_and(|address| address.contains(OWN_CONTAINERD)) {
        return root.join("containerd/daemon");
    }
    let config: Option<toml::Table> = containerd_config.parse().ok();
    let root = config.as_ref().and_then(|config| config.get("root")?.as_str());
    root.unwrap_or(CONTAINERD_ROOT).into()
}

/// `/var/lib/docker` from `/var/lib/docker/overlay2/ID/diff`.
fn store_of(layer: &Path) -> Option<&Path> {
    let driver = layer.parent()?.parent()?;
    let is_overlay = matches!(driver.file_name()?.to_str()?, "overlay" | "overlay2");
    driver.parent().filter(|store| is_overlay && store.is_absolute())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::http::testing::{json, serve_unix};

    fn store(info: &str, config: &str) -> PathBuf {
        store_by(&serde_json::from_str(info).unwrap(), config)
    }

    #[test]
    fn the_layer_directory_follows_the_storage_driver() {
        let driver = r#"{"DockerRootDir":"/srv/docker","DriverStatus":[["Backing Filesystem","extfs"]]}"#;
        assert_eq!(store(driver, "root = \"/srv/containerd\""), Path::new("/srv/docker"));
        let snapshotter = r#"{"DockerRootDir":"/var/lib/docker","DriverStatus":[["driver-type","io.containerd.snapshotter.v1"]]}"#;
        assert_eq!(store(snapshotter, ""), Path::new("/var/lib/containerd"));
        assert_eq!(store(snapshotter, "version = 2\n"), Path::new("/var/lib/containerd"));
        assert_eq!(store(snapshotter, "not toml ["), Path::new("/var/lib/containerd"));
        let config = "version = 2\nroot = \"/srv/containerd\"\n[grpc]\naddress = \"x\"\n";
        assert_eq!(store(snapshotter, config), Path::new("/srv/containerd"));
        let own = r#"{"DockerRootDir":"/var/lib/docker","DriverStatus":[["driver-type","io.containerd.snapshotter.v1"]],
            "Containerd":{"Address":"/var/run/docker/containerd/containerd.sock"}}"#;
        assert_eq!(store(own, config), Path::new("/var/lib/docker/containerd/daemon"));
        assert_eq!(
            store(r#"{"DockerRootDir":"/x","DriverStatus":null,"Plugins":{"Log":null}}"#, ""),
            Path::new("/x")
        );
    }

    #[tokio::test]
    async fn dockerd_settings_are_read_from_docker_only() {
        let server = serve_unix(|request| {
            assert!(request.head.starts_with("GET /info "), "{}", request.head);
            json(200, "", r#"{"LiveRestoreEnabled":true,"Plugins":{"Log":["json-file","journald"]}}"#)
        })
        .await;
        let says = EngineClient::docker(&server.path).dockerd_settings().await.unwrap();
        assert_eq!(says, Some(DockerdSettings { live_restore: true, journald: true }));
        assert_eq!(EngineClient::podman("/nonexistent").dockerd_settings().await.unwrap(), None);
    }
}
