//! Floor 2: the desired state. agent.toml and its fragments become one validated [`Config`]; everything
//! above this floor can trust it. Called by cli/, which hands the result to everything else.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::model::image::{PinnedImage, TrackedImage};
use crate::model::name::{AppName, CronName, EnvKey, InstanceId};
use crate::model::observed::Engine;
use crate::model::secret::Secret;

mod app;
mod env;
mod error;
mod jobs;
mod keys;
mod load;
mod read;
#[cfg(test)]
mod tests;
mod tree;
mod value;
mod words;

pub use error::{ConfigError, ConfigErrors, Place};
pub use load::{load, parse};

/// A time as the config writes it: `500ms`, `30s`, `10m`, `1h`.
pub fn duration(text: &str) -> Result<Duration, String> {
    value::duration(text)
        .map_err(|fault| std::iter::once(fault.message).chain(fault.help).collect::<Vec<_>>().join("; "))
}

/// The whole desired state, valid as one.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub app: App,
    pub env: BTreeMap<EnvKey, EnvSource>,
    pub migrate: Option<Migrate>,
    pub deploy: Deploy,
    pub caddy: Caddy,
    pub verify: Verify,
    pub cron_jobs: Vec<CronJob>,
}

/// One service. Today there is one, `[app]`; the type knows nothing of that.
#[derive(Clone, Debug, PartialEq)]
pub struct App {
    pub name: AppName,
    pub image: TrackedImage,
    /// `None`: whichever engine is there, podman first.
    pub engine: Option<Engine>,
    pub instances: u16,
    /// See [`App::port_of`].
    pub base_port: u16,
    pub port: u16,
    pub network: Network,
    pub command: Vec<String>,
    pub volumes: Vec<String>,
    /// Bytes.
    pub memory: Option<u64>,
    pub cpus: Option<f64>,
    pub stop_timeout: Duration,
    pub required_env: Vec<EnvKey>,
    pub readiness: Readiness,
}

impl App {
    /// The port of instance `id` on this host.
    pub fn port_of(&self, id: InstanceId) -> u16 {
        self.base_port.saturating_add(id.get())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    Bridge,
    Host,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Readiness {
    pub notify: bool,
    pub path: String,
    pub timeout: Duration,
}

/// Where the value of an environment variable comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum EnvSource {
    Literal(Secret),
    /// Made once with that many characters, then kept.
    Generate {
        length: usize,
    },
    /// First line of a root-owned file.
    File(PathBuf),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Migrate {
    pub command: Vec<String>,
    pub timeout: Duration,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Deploy {
    pub strategy: Strategy,
    pub soak: Duration,
    pub drain_timeout: Duration,
    pub auto: bool,
    pub keep: usize,
    /// Bytes.
    pub min_free: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Strategy {
    Rolling,
    Surge,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Caddy {
    /// Tracked or pinned; what runs is a digest either way.
    pub image: CaddyImage,
    pub hosts: Vec<String>,
    pub tls: Tls,
    pub block: Vec<String>,
    pub trusted_proxies: Vec<String>,
    pub extra: String,
}

#[derive(Clone, Debug, PartialEq)]
pub enum CaddyImage {
    Tracked(TrackedImage),
    Pinned(PinnedImage),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tls {
    Acme,
    Internal,
    Off,
}

/// Whether images must be signed. podman checks that by its policy; the agent checks the policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verify {
    pub require_signature: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct CronJob {
    pub name: CronName,
    pub when: When,
    pub what: What,
    pub timeout: Option<Duration>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum When {
    /// systemd OnCalendar= expressions; more than one where cron ORs day-of-month and weekday.
    Calendar(Vec<String>),
    Every(Duration),
}

#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// The argv itself, run on the host.
    Command(Vec<String>),
    /// The argv in a one-off container of the committed release.
    Run(Vec<String>),
}

impl Config {
    /// The instances that a committed host runs.
    pub fn instances(&self) -> impl DoubleEndedIterator<Item = InstanceId> + Clone {
        InstanceId::first(self.app.instances)
    }

    /// The spare that a surge deploy borrows: instance N + 1.
    pub fn spare(&self) -> Option<InstanceId> {
        match self.deploy.strategy {
            Strategy::Surge => InstanceId::new(self.app.instances + 1),
            Strategy::Rolling => None,
        }
    }
}
