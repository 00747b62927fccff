//! The services of a site: `[app]` and `[services.NAME]`. Read by app.rs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use super::{Migrate, OwnImage};
use crate::model::instance::{InstanceId, InstanceName, ServiceName};
use crate::model::name::EnvKey;

/// Equal instances of one image.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// `app` for `[app]`.
    pub name: ServiceName,
    /// Its own image; `None`: that of the app.
    pub image: Option<OwnImage>,
    /// `[migrate]` for the app; of others, only one with an image of its own has it.
    pub migrate: Option<Migrate>,
    /// Whether Caddy sends it requests.
    pub kind: Kind,
    /// Running copies without the spare: 0 to 254; 0: the service is paused.
    pub instances: u16,
    /// In which order its instances change.
    pub strategy: Strategy,
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
    /// When an instance counts as ready.
    pub readiness: Readiness,
    /// Whether it has the environment of the application; an accessory never has.
    pub inherit_env: bool,
    /// Variables of this service, added to its environment; not secret.
    pub env: BTreeMap<EnvKey, String>,
    /// Secret variables: the name in its container, and that in the environment of the application.
    pub secrets: BTreeMap<EnvKey, EnvKey>,
    /// Web services that its containers reach by name, through Caddy.
    pub calls: BTreeSet<ServiceName>,
    /// The other settings that become arguments of the engine.
    pub container: Container,
    /// Two copies must never run at once: the old one is stopped before the new one starts.
    pub at_most_one: bool,
}

/// The kind of a service.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// It has a port, and its instances are behind Caddy.
    Web(Web),
    /// It has no port behind Caddy.
    Worker(Liveness),
}

/// When an instance without a port behind Caddy counts as ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Liveness {
    /// It has run for so long without a restart.
    Settle(Duration),
    /// A command in its container ends with code 0.
    Command {
        /// Program and arguments; never empty.
        argv: Vec<String>,
        /// Limit for one run of it.
        answer_timeout: Duration,
    },
    /// It accepts a connection on this port of its container.
    Tcp(u16),
}

/// A service beside the releases of the site: its image is pinned at its first start, and no deploy or rollback
/// touches it.
#[derive(Clone, Debug, PartialEq)]
pub struct Accessory {
    /// One instance, and no port behind Caddy.
    pub service: Service,
    /// Tracked or pinned; either way, it runs from a digest.
    pub image: OwnImage,
    /// `[ADDRESS:]PORT:PORT[/udp]`: published as the engine does it.
    pub publish: Vec<String>,
}

/// The settings of a web service alone.
#[derive(Clone, Debug, PartialEq)]
pub struct Web {
    /// See [`Web::port_of`].
    pub base_port: u16,
    /// Where the service listens in its container; with [`Network::Host`] it gets `PORT` instead.
    pub port: u16,
    /// Path of a URL, e.g. `/readyz`; a 2xx answer means ready.
    pub path: String,
    /// Interval of Caddy's health checks for each instance.
    pub interval: Duration,
    /// Limit for one answer of the readiness path, in every check.
    pub answer_timeout: Duration,
    /// Paths, with a query or without, that an instance is asked for before visitors do.
    pub warm_up: Vec<String>,
    /// `None`: the app, which gets all requests that no route takes, or a service for other services alone.
    pub route: Option<Route>,
}

/// Which requests go to a web service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Host names; empty: any.
    pub hosts: Vec<String>,
    /// A path without `/` at its end, and everything below it; empty: all paths.
    pub path: String,
    /// Whether the service sees the request without `path`.
    pub strip_prefix: bool,
}

/// When an instance of any kind may take traffic or work.
#[derive(Clone, Debug, PartialEq)]
pub struct Readiness {
    /// Wait for READY=1 from the app (sd_notify(3)) as well; only podman passes it on.
    pub notify: bool,
    /// Limit from start to ready.
    pub timeout: Duration,
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

/// The network of a service's containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// The engine's own network; the port is published on the instance's loopback address.
    Bridge,
    /// The same with the network of this site, where accessories and workers have names.
    Site,
    /// The host's network: the app listens on its own loopback address or on any.
    Host,
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

impl Service {
    /// `None`: a worker.
    pub fn web(&self) -> Option<&Web> {
        match &self.kind {
            Kind::Web(web) => Some(web),
            Kind::Worker(_) => None,
        }
    }

    /// The instances of a committed host.
    pub fn instances(&self) -> impl DoubleEndedIterator<Item = InstanceName> + Clone + use<> {
        self.name.first(self.instances)
    }

    /// The spare that a surge deploy uses: instance N + 1.
    pub fn spare(&self) -> Option<InstanceName> {
        match self.strategy {
            Strategy::Surge if self.instances > 0 => {
                let number = InstanceId::new(self.instances + 1)?;
                Some(InstanceName { service: self.name, number })
            }
            Strategy::Surge | Strategy::Rolling => None,
        }
    }

    /// Its instances, the spare included.
    pub fn most(&self) -> u16 {
        self.instances + u16::from(self.strategy == Strategy::Surge && self.instances > 0)
    }

    /// Host files and directories mounted as volumes; named volumes belong to the engine.
    pub fn volume_sources(&self) -> impl Iterator<Item = &Path> {
        let sources = self.volumes.iter().filter_map(|volume| volume.split(':').next());
        sources.filter(|source| source.starts_with('/')).map(Path::new)
    }
}

impl Web {
    /// The port of instance `id` on this host.
    pub fn port_of(&self, id: InstanceId) -> u16 {
        self.base_port.saturating_add(id.get())
    }
}
