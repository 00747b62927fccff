//! Floor 2: the desired state. agent.toml and its fragments become one validated [`Config`], which the floors
//! above can trust. Called by cli/, which hands the result on.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::model::image::{PinnedImage, TrackedImage};
use crate::model::name::{AppName, CronName, EnvKey, InstanceId};
use crate::model::observed::Engine;
use crate::model::secret::Secret;

mod app;
mod container;
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
pub use load::{load, load_one, parse, texts};

/// A time as the config writes it: `500ms`, `30s`, `10m`, `1h30m`.
pub fn duration(text: &str) -> Result<Duration, String> {
    value::duration(text)
        .map_err(|fault| std::iter::once(fault.message).chain(fault.help).collect::<Vec<_>>().join("; "))
}

/// The whole desired state, validated as one.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub app: App,
    pub env: BTreeMap<EnvKey, EnvSource>,
    /// The location of each of them: `file:line:column`.
    pub env_places: BTreeMap<EnvKey, String>,
    pub migrate: Option<Migrate>,
    pub deploy: Deploy,
    pub caddy: Caddy,
    pub verify: Verify,
    pub cron_jobs: Vec<CronJob>,
    /// Settings that are allowed but probably not intended.
    pub notices: Vec<ConfigError>,
}

/// One service. Today there is one, `[app]`; nothing in the type depends on that.
#[derive(Clone, Debug, PartialEq)]
pub struct App {
    pub name: AppName,
    pub image: TrackedImage,
    /// `None`: the engine that is installed, podman first.
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
    pub container: Container,
    /// Two copies must never run at once: the old one is stopped before the new one starts.
    pub at_most_one: bool,
}

/// Container settings other than image, command and limits.
#[derive(Clone, Debug, PartialEq)]
pub struct Container {
    /// Empty: the image's own.
    pub entrypoint: Vec<String>,
    pub init: bool,
    pub stop_signal: Option<String>,
    pub user: Option<String>,
    /// `SOFT:HARD` by name.
    pub ulimits: BTreeMap<String, String>,
    /// Addresses by host name, `host-gateway` among them.
    pub add_hosts: BTreeMap<String, String>,
    /// Whether the image's `HEALTHCHECK` runs.
    pub healthcheck: bool,
    pub read_only: bool,
    pub tmpfs: Vec<String>,
    pub cap_drop: Vec<String>,
    pub cap_add: Vec<String>,
    /// Bytes.
    pub shm_size: Option<u64>,
}

impl App {
    /// The port of instance `id` on this host.
    pub fn port_of(&self, id: InstanceId) -> u16 {
        self.base_port.saturating_add(id.get())
    }

    /// Host files and directories mounted as volumes; named volumes belong to the engine.
    pub fn volume_sources(&self) -> impl Iterator<Item = &Path> {
        let sources = self.volumes.iter().filter_map(|volume| volume.split(':').next());
        sources.filter(|source| source.starts_with('/')).map(Path::new)
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
    /// Interval of Caddy's health checks for each instance.
    pub interval: Duration,
    /// Limit for one answer of the readiness path, in every check.
    pub answer_timeout: Duration,
}

/// The source of an environment variable's value.
#[derive(Clone, Debug, PartialEq)]
pub enum EnvSource {
    Literal(Secret),
    /// Generated once with this many characters, then kept.
    Generate {
        length: usize,
    },
    /// The single line of a root-owned file.
    File(PathBuf),
}

impl EnvSource {
    pub fn is_generated(&self) -> bool {
        matches!(self, Self::Generate { .. })
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Migrate {
    /// Empty: the app's entry point.
    pub entrypoint: Vec<String>,
    pub command: Vec<String>,
    pub timeout: Duration,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Deploy {
    pub strategy: Strategy,
    pub soak: Duration,
    pub drain_timeout: Duration,
    pub websocket_timeout: Duration,
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
    /// Tracked or pinned; either way, Caddy runs from a digest.
    pub image: CaddyImage,
    pub hosts: Vec<String>,
    pub tls: Tls,
    pub block: Vec<String>,
    pub http_port: u16,
    pub https_port: u16,
    /// The path on which a load balancer checks this host.
    pub health: Option<String>,
    pub trusted_proxies: Vec<String>,
    pub headers_up: BTreeMap<String, String>,
    pub sticky: bool,
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

/// Whether images must be signed. podman enforces this by its policy; the agent checks the policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verify {
    pub require_signature: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct CronJob {
    pub name: CronName,
    pub when: Schedule,
    pub what: CronCommand,
    pub timeout: Duration,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Schedule {
    /// systemd OnCalendar= expressions; two where cron joins day and weekday by OR.
    Calendar(Vec<String>),
    Every(Duration),
}

#[derive(Clone, Debug, PartialEq)]
pub enum CronCommand {
    /// A command of the host, as argv.
    Command(Vec<String>),
    /// A command in a one-off container of the committed release.
    Run(OneOff),
}

/// The process of a one-off container.
#[derive(Clone, Debug, PartialEq)]
pub struct OneOff {
    pub argv: Vec<String>,
    /// Empty: the app's entry point.
    pub entrypoint: Vec<String>,
    /// Added to the app's environment; must not be secret.
    pub env: BTreeMap<EnvKey, String>,
}

impl Config {
    /// The instances of a committed host.
    pub fn instances(&self) -> impl DoubleEndedIterator<Item = InstanceId> + Clone {
        InstanceId::first(self.app.instances)
    }

    /// The `Host` header of readiness requests: the first name of the site, else localhost. Applications that
    /// check the header accept one of them.
    pub fn ready_host(&self) -> &str {
        self.caddy.hosts.first().map_or("localhost", String::as_str)
    }

    /// Whether visitors use TLS, ended by Caddy or by a proxy in front of it. Readiness requests then say so
    /// as well, or an application that redirects plain HTTP would never be ready.
    pub fn is_https(&self) -> bool {
        let own = self.caddy.tls != Tls::Off && !self.caddy.hosts.is_empty();
        own || !self.caddy.trusted_proxies.is_empty()
    }

    /// The spare that a surge deploy uses: instance N + 1.
    pub fn spare(&self) -> Option<InstanceId> {
        match self.deploy.strategy {
            Strategy::Surge => InstanceId::new(self.app.instances + 1),
            Strategy::Rolling => None,
        }
    }
}
