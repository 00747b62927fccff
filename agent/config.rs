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
///
/// # Errors
///
/// The text is not such a time, or out of range; the error adds a valid form.
pub fn duration(text: &str) -> Result<Duration, String> {
    value::duration(text)
        .map_err(|fault| std::iter::once(fault.message).chain(fault.help).collect::<Vec<_>>().join("; "))
}

/// The whole desired state, validated as one.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// `[app]`.
    pub app: App,
    /// `[env]`, without the variables that only the env file has.
    pub env: BTreeMap<EnvKey, EnvSource>,
    /// The location of each of them: `file:line:column`.
    pub env_places: BTreeMap<EnvKey, String>,
    /// `[migrate]`; `None`: no migration.
    pub migrate: Option<Migrate>,
    /// `[deploy]`.
    pub deploy: Deploy,
    /// `[caddy]`.
    pub caddy: Caddy,
    /// `[verify]`.
    pub verify: Verify,
    /// `[[cron_jobs]]`, all files together, in the order of reading.
    pub cron_jobs: Vec<CronJob>,
    /// Settings that are allowed but probably not intended.
    pub notices: Vec<ConfigError>,
}

/// One service. Today there is one, `[app]`; nothing in the type depends on that.
#[derive(Clone, Debug, PartialEq)]
pub struct App {
    /// Part of unit, container and file names; `astra` unless set.
    pub name: AppName,
    /// The tag that `deploy` resolves.
    pub image: TrackedImage,
    /// `None`: the engine that is installed, podman first.
    pub engine: Option<Engine>,
    /// Running copies without the spare: 1 to 254.
    pub instances: u16,
    /// See [`App::port_of`].
    pub base_port: u16,
    /// Where the app listens in its container; with [`Network::Host`] it gets `PORT` instead.
    pub port: u16,
    /// The network of each container.
    pub network: Network,
    /// The container's argv; empty: the image's own.
    pub command: Vec<String>,
    /// `SOURCE:TARGET[:OPTIONS]`: a host path or a named volume.
    pub volumes: Vec<String>,
    /// Bytes.
    pub memory: Option<u64>,
    /// Limit in processors, above 0; `None`: no limit.
    pub cpus: Option<f64>,
    /// Time between SIGTERM and SIGKILL.
    pub stop_timeout: Duration,
    /// Variables that must have a value, or a deploy is refused.
    pub required_env: Vec<EnvKey>,
    /// `[app.readiness]`.
    pub readiness: Readiness,
    /// The other settings of `[app]` that become arguments of the engine.
    pub container: Container,
    /// Two copies must never run at once: the old one is stopped before the new one starts.
    pub at_most_one: bool,
}

/// Container settings other than image, command and limits.
#[derive(Clone, Debug, PartialEq)]
pub struct Container {
    /// Empty: the image's own.
    pub entrypoint: Vec<String>,
    /// A small process 1 that forwards signals and reaps children.
    pub init: bool,
    /// Name of a signal, e.g. `SIGQUIT`; `None`: the image's, else SIGTERM.
    pub stop_signal: Option<String>,
    /// `USER` or `USER:GROUP`, names or numbers; `None`: the image's.
    pub user: Option<String>,
    /// `SOFT:HARD` by name.
    pub ulimits: BTreeMap<String, String>,
    /// Addresses by host name, `host-gateway` among them.
    pub add_hosts: BTreeMap<String, String>,
    /// Whether the image's `HEALTHCHECK` runs.
    pub healthcheck: bool,
    /// Whether the container's root file system is read-only.
    pub read_only: bool,
    /// `PATH[:OPTIONS]` for each directory in memory.
    pub tmpfs: Vec<String>,
    /// Capabilities that the container does not get (capabilities(7)), or `ALL`.
    pub cap_drop: Vec<String>,
    /// Capabilities added to the engine's default set.
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

/// The network of the app's containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// A network of its own; the engine publishes the port on the instance's loopback address.
    Bridge,
    /// The host's network: the app listens on its own loopback address or on any.
    Host,
}

/// `[app.readiness]`: when an instance may take traffic.
#[derive(Clone, Debug, PartialEq)]
pub struct Readiness {
    /// Wait for READY=1 from the app (sd_notify(3)) besides the probe; only podman passes it on.
    pub notify: bool,
    /// Path of a URL, e.g. `/readyz`; a 2xx answer means ready.
    pub path: String,
    /// Limit from start to ready.
    pub timeout: Duration,
    /// Interval of Caddy's health checks for each instance.
    pub interval: Duration,
    /// Limit for one answer of the readiness path, in every check.
    pub answer_timeout: Duration,
}

/// The source of an environment variable's value.
#[derive(Clone, Debug, PartialEq)]
pub enum EnvSource {
    /// The value itself, as the config has it.
    Literal(Secret),
    /// Generated once with this many characters, then kept.
    Generate {
        /// Number of characters, 8 to 1024.
        length: usize,
    },
    /// The single line of a root-owned file.
    File(PathBuf),
}

impl EnvSource {
    /// Whether the agent makes the value.
    pub fn is_generated(&self) -> bool {
        matches!(self, Self::Generate { .. })
    }
}

/// `[migrate]`: the database migration before a deploy.
#[derive(Clone, Debug, PartialEq)]
pub struct Migrate {
    /// Empty: the app's entry point.
    pub entrypoint: Vec<String>,
    /// The argv in a one-off container of the new image; never empty.
    pub command: Vec<String>,
    /// After it the migration has failed.
    pub timeout: Duration,
}

/// `[deploy]`: how releases are deployed.
#[derive(Clone, Debug, PartialEq)]
pub struct Deploy {
    /// In which order instances change.
    pub strategy: Strategy,
    /// How long a release must stay ready before traffic, and again with it; may be zero.
    pub soak: Duration,
    /// Limit for requests in flight.
    pub drain_timeout: Duration,
    /// Limit for WebSockets and event streams; may be zero.
    pub websocket_timeout: Duration,
    /// Whether the reconcile timer follows the tag.
    pub auto: bool,
    /// Releases whose images are never pruned: 2 to 100.
    pub keep: usize,
    /// Bytes.
    pub min_free: u64,
}

/// The order in which instances change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Strategy {
    /// One instance after another.
    Rolling,
    /// A spare comes up first, so that `instances` always serve.
    Surge,
}

/// `[caddy]`: the proxy in front of the instances.
#[derive(Clone, Debug, PartialEq)]
pub struct Caddy {
    /// Tracked or pinned; either way, Caddy runs from a digest.
    pub image: CaddyImage,
    /// Host names of the site; empty: any name, on plain HTTP.
    pub hosts: Vec<String>,
    /// Source of certificates; without `hosts` there are none.
    pub tls: Tls,
    /// Paths that Caddy answers with 404 itself; `*` matches any text.
    pub block: Vec<String>,
    /// Port for plain HTTP.
    pub http_port: u16,
    /// Port for TLS.
    pub https_port: u16,
    /// The path on which a load balancer checks this host.
    pub health: Option<String>,
    /// Networks (CIDR) of proxies whose `X-Forwarded-For` is trusted.
    pub trusted_proxies: Vec<String>,
    /// Headers added to requests to the app, by name; `{Name}` in a value is that header of the request.
    pub headers_up: BTreeMap<String, String>,
    /// Whether a client stays with one instance, by cookie.
    pub sticky: bool,
    /// Lines of a Caddyfile for the site, as the operator wrote them.
    pub extra: String,
}

/// The image of Caddy.
#[derive(Clone, Debug, PartialEq)]
pub enum CaddyImage {
    /// A tag, resolved once at installation and at `caddy-upgrade`.
    Tracked(TrackedImage),
    /// A digest, used as it is.
    Pinned(PinnedImage),
}

/// Source of Caddy's certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tls {
    /// A public certificate authority (RFC 8555).
    Acme,
    /// Caddy's own certificate authority.
    Internal,
    /// No certificates: plain HTTP.
    Off,
}

/// Whether images must be signed. podman enforces this by its policy; the agent checks the policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verify {
    /// Refuse a deploy unless podman's policy requires a signature for the app's image.
    pub require_signature: bool,
}

/// One of `[[cron_jobs]]`.
#[derive(Clone, Debug, PartialEq)]
pub struct CronJob {
    /// Part of its units: `astra-cron-NAME.timer`.
    pub name: CronName,
    /// The times of its runs.
    pub when: Schedule,
    /// The process that it starts.
    pub what: CronCommand,
    /// After it the job is stopped and has failed.
    pub timeout: Duration,
}

/// The times of a cron job.
#[derive(Clone, Debug, PartialEq)]
pub enum Schedule {
    /// systemd OnCalendar= expressions; two where cron joins day and weekday by OR.
    Calendar(Vec<String>),
    /// Time from one start to the next.
    Every(Duration),
}

/// The process of a cron job.
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
    /// The argv; with an empty `entrypoint` it follows the app's.
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
