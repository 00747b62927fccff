//! Floor 3: all effects. [`Host`] observes and performs; nothing here decides. Adapters are concrete structs
//! built from an endpoint (a bus, a socket path, a root directory), so that a test hands them another one.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Result;

use crate::model::instance::InstanceName;
use crate::model::observed::Engine;
use crate::model::unit::UnitSeen;

pub mod aws;
pub mod binary;
mod blocking;
pub mod caddy;
mod doctor;
pub mod engine;
pub mod facts;
pub mod failpoint;
pub mod files;
mod foreign;
pub mod http;
pub mod imds;
pub mod instance;
pub mod journald;
pub mod lock;
pub mod logs;
mod migrate;
pub mod observe;
pub mod perform;
pub mod probe;
pub mod registry;
pub mod signals;
pub mod sources;
pub mod store;
pub mod systemd;
pub mod timer;
pub mod transient;
mod verdict;

/// The endpoints of the host's parts. The default is a real host.
#[derive(Clone, Debug)]
pub struct Endpoints {
    /// Directory used as `/`.
    pub root: PathBuf,
    /// The engine to use; `None`: the one with a socket, podman first.
    pub engine: Option<Engine>,
    /// D-Bus address of systemd's bus; `None`: the system bus.
    pub bus: Option<String>,
    /// Port of Caddy's health routes.
    pub health_port: u16,
    /// Scheme and address of the metadata service of EC2.
    pub imds: String,
    /// Scheme and address of the services of AWS; `None`: those of the region.
    pub aws: Option<String>,
}

impl Default for Endpoints {
    fn default() -> Self {
        let health_port = crate::model::name::HEALTH_PORT;
        Self {
            root: "/".into(),
            engine: None,
            bus: None,
            health_port,
            imds: imds::ENDPOINT.to_owned(),
            aws: None,
        }
    }
}

/// The host, ready to be observed and changed.
pub struct Host {
    /// Files of the agent and its users, below one root.
    pub files: files::Files,
    /// The system's systemd, over D-Bus.
    pub systemd: systemd::Systemd,
    /// `None`: no engine socket exists.
    pub engine: Option<engine::EngineClient>,
    /// Caddy's admin endpoint.
    pub caddy: caddy::CaddyAdmin,
    /// Registries, for the digest of a tag.
    pub registry: registry::Registry,
    /// The metadata service of EC2.
    pub imds: imds::Imds,
    /// The systemd journal, for the entry of a run.
    pub journald: journald::Journald,
    /// Ctrl-C and SIGTERM.
    pub signals: signals::Signals,
    /// Shows what the current step waits for.
    pub detail: Detail,
    /// Each instance's unit when it became ready; soak compares with it.
    ready: RefCell<BTreeMap<InstanceName, UnitSeen>>,
    /// The current start or migration: earlier log lines belong to another one.
    start: RefCell<logs::Start>,
    /// The flush of the image store that a pull started.
    flush: RefCell<Option<tokio::sync::oneshot::Receiver<Result<()>>>>,
    health_port: u16,
    /// Caddy runs, and was waited for in vain: its health routes are elsewhere.
    no_health_routes: Cell<bool>,
}

/// Receives a short text about current progress.
pub type Detail = Box<dyn Fn(&str)>;

impl Host {
    /// Connects to the parts of the host. A missing engine or Caddy is observed, not an error.
    ///
    /// # Errors
    ///
    /// The bus does not accept a connection within 10 s.
    pub async fn connect(endpoints: &Endpoints, signals: signals::Signals, detail: Detail) -> Result<Self> {
        let root = &endpoints.root;
        let at = |path: &str| root.join(path.trim_start_matches('/'));
        Ok(Self {
            files: files::Files::new(root.clone()),
            systemd: systemd::Systemd::at(endpoints.bus.clone()).await?,
            engine: engine::EngineClient::detect(root, endpoints.engine),
            caddy: caddy::CaddyAdmin::new(at(crate::model::name::CADDY_SOCKET)),
            registry: registry::Registry::new(
                at(crate::model::name::AUTH_FILE),
                root.clone(),
                registry::Ecr::new(imds::Imds::at(&endpoints.imds), endpoints.aws.clone()),
            ),
            imds: imds::Imds::at(&endpoints.imds),
            journald: journald::Journald::at(at(journald::SOCKET)),
            signals,
            detail,
            ready: RefCell::default(),
            start: RefCell::new(logs::Start::now("")),
            flush: RefCell::default(),
            health_port: endpoints.health_port,
            no_health_routes: Cell::new(false),
        })
    }
}
