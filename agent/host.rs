//! Floor 3: all effects. [`Host`] observes and performs; nothing here decides. Adapters are concrete structs
//! built from an endpoint (a bus, a socket path, a root directory), so that a test hands them another one.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Result;

use crate::model::name::InstanceId;
use crate::model::observed::{Engine, UnitSeen};

pub mod binary;
pub mod caddy;
mod doctor;
pub mod engine;
pub mod facts;
pub mod failpoint;
pub mod files;
mod foreign;
pub mod http;
pub mod instance;
pub mod journald;
pub mod lock;
pub mod logs;
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

/// Where the host's parts are. The default is a real host.
#[derive(Clone, Debug)]
pub struct Endpoints {
    /// Directory that stands for `/`.
    pub root: PathBuf,
    /// The engine to use; `None`: whichever has a socket, podman first.
    pub engine: Option<Engine>,
}

/// The host, ready to be observed and changed.
pub struct Host {
    pub files: files::Files,
    pub systemd: systemd::Systemd,
    /// `None`: no engine has a socket here.
    pub engine: Option<engine::EngineClient>,
    pub caddy: caddy::CaddyAdmin,
    pub registry: registry::Registry,
    pub journald: journald::Journald,
    pub signals: signals::Signals,
    /// What the current step waits for, for a person who watches.
    pub detail: Detail,
    /// Each instance's unit as it was when it became ready: what soak compares with.
    ready: RefCell<BTreeMap<InstanceId, UnitSeen>>,
    /// The start or the migration under way: log lines before it are another's.
    start: RefCell<logs::Start>,
    /// The flush of the image store that a pull began.
    flush: RefCell<Option<tokio::task::JoinHandle<Result<()>>>>,
}

/// Takes a short text of what is going on right now.
pub type Detail = Box<dyn Fn(&str)>;

impl Host {
    /// Connect to the parts of the host. An engine or a Caddy that is not there is observed, not an error.
    pub async fn connect(endpoints: &Endpoints, signals: signals::Signals, detail: Detail) -> Result<Self> {
        let root = &endpoints.root;
        let at = |path: &str| root.join(path.trim_start_matches('/'));
        Ok(Self {
            files: files::Files::new(root.clone()),
            systemd: systemd::Systemd::connect().await?,
            engine: engine::EngineClient::detect(endpoints.engine),
            caddy: caddy::CaddyAdmin::new(at(crate::model::name::CADDY_SOCKET)),
            registry: registry::Registry::new(at(crate::model::name::AUTH_FILE), root.clone()),
            journald: journald::Journald::at(at(journald::SOCKET)),
            signals,
            detail,
            ready: RefCell::default(),
            start: RefCell::new(logs::Start::now("")),
            flush: RefCell::default(),
        })
    }
}
