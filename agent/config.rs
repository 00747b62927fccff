//! Floor 2: the desired state. agent.toml and its fragments become one validated [`Config`], which the floors
//! above can trust. Called by cli/, which hands the result on.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use crate::model::answers::AnswerLimits;
use crate::model::envfile::ManagedLines;
use crate::model::image::{BadImage, PinnedImage, Repository, TrackedImage};
use crate::model::instance::{InstanceName, ServiceName};
use crate::model::name::{AppName, CronName, EnvKey, FileName};
use crate::model::observed::Engine;
use crate::model::problem::Problem;

mod accessory;
mod across;
mod app;
mod calls;
mod container;
mod env;
mod error;
mod files;
mod jobs;
mod keys;
mod load;
mod migrate;
mod read;
mod readiness;
mod service;
mod show;
mod site;
mod source;
#[cfg(test)]
mod tests;
mod tree;
mod value;
mod words;

pub use error::{ConfigError, ConfigErrors, Place};
pub use files::{FileSource, MountedFile};
pub use load::{load, load_one, parse, texts};
pub use service::{Accessory, Container, Kind, Liveness, Network, Readiness, Route, Service, Strategy, Web};
pub use show::{Setting, settings};
pub use source::{Aws, EnvSource};

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
    /// `[app] name`: part of unit, container and file names; `astra` unless set.
    pub name: AppName,
    /// `[app] image`: the tag that `deploy` resolves.
    pub image: TrackedImage,
    /// `[app] engine`; `None`: the engine that is installed, podman first.
    pub engine: Option<Engine>,
    /// `[app]`, a web service.
    pub app: Service,
    /// `[app.route]`: requests that go to the app before a less specific route takes them. The app gets what no route
    /// takes in any case.
    pub app_route: Option<Route>,
    /// `[services.NAME]`, in the order of names.
    pub others: BTreeMap<ServiceName, Service>,
    /// `[services.NAME]` with `kind = "accessory"`, which belong to no release.
    pub accessories: BTreeMap<ServiceName, Accessory>,
    /// `[env]`, without the variables that only the env file has.
    pub env: BTreeMap<EnvKey, EnvSource>,
    /// The location of each of them: `file:line:column`.
    pub env_places: BTreeMap<EnvKey, String>,
    /// `[files.NAME]`.
    pub files: BTreeMap<FileName, MountedFile>,
    /// `[deploy]`.
    pub deploy: Deploy,
    /// `[caddy]`.
    pub caddy: Caddy,
    /// `[verify]`.
    pub verify: Verify,
    /// `[aws]`.
    pub aws: Aws,
    /// `[[cron_jobs]]`, all files together, in the order of reading.
    pub cron_jobs: Vec<CronJob>,
    /// Settings that are allowed but probably not intended.
    pub notices: Vec<ConfigError>,
}

/// `[migrate]` or `[services.NAME.migrate]`: the database migration before a deploy.
#[derive(Clone, Debug, PartialEq)]
pub struct Migrate {
    /// Empty: the service's entry point.
    pub entrypoint: Vec<String>,
    /// The argv of each command, in one-off containers of the new image, one after another; none is empty.
    pub commands: Vec<Vec<String>>,
    /// After it the migration has failed.
    pub timeout: Duration,
    /// The variables of the environment that it gets; never empty. `None`: all.
    pub env_only: Option<Vec<EnvKey>>,
}

/// `[deploy]`: how releases are deployed.
#[derive(Clone, Debug, PartialEq)]
pub struct Deploy {
    /// How long a release must stay ready before traffic, and again with it; may be zero.
    pub soak: Duration,
    /// Limits for the answers to visitors during the soak of all instances.
    pub answers: AnswerLimits,
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

/// `[caddy]`: the proxy in front of the instances.
#[derive(Clone, Debug, PartialEq)]
pub struct Caddy {
    /// Tracked or pinned; either way, Caddy runs from a digest.
    pub image: OwnImage,
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

/// The image of Caddy, of an accessory, or of a service with one of its own.
#[derive(Clone, Debug, PartialEq)]
pub enum OwnImage {
    /// A tag; that of Caddy or of an accessory is resolved at the first start and at an upgrade alone.
    Tracked(TrackedImage),
    /// A digest, used as it is.
    Pinned(PinnedImage),
}

impl OwnImage {
    /// The repository without tag or digest.
    pub fn repository(&self) -> &Repository {
        match self {
            Self::Tracked(image) => &image.repository,
            Self::Pinned(image) => &image.repository,
        }
    }
}

impl FromStr for OwnImage {
    type Err = BadImage;

    fn from_str(text: &str) -> Result<Self, BadImage> {
        match text.contains('@') {
            true => text.parse().map(Self::Pinned),
            false => text.parse().map(Self::Tracked),
        }
    }
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
    /// All services of a release, in the order of a deploy: the app, other web services, workers.
    pub fn services(&self) -> impl DoubleEndedIterator<Item = &Service> + Clone {
        let others = |web: bool| self.others.values().filter(move |service| service.web().is_some() == web);
        std::iter::once(&self.app).chain(others(true)).chain(others(false))
    }

    /// The image that a deploy resolves for `service`: its own, or that of the app.
    pub fn image_of(&self, service: &Service) -> OwnImage {
        service.image.clone().unwrap_or_else(|| OwnImage::Tracked(self.image.clone()))
    }

    /// The images in `lines` of the services that have their own.
    pub fn own_images(&self, lines: &ManagedLines) -> BTreeMap<ServiceName, PinnedImage> {
        let own = self.others.values().filter(|service| service.image.is_some());
        own.filter_map(|service| Some((service.name, lines.of(service.name)?.image.clone()))).collect()
    }

    /// The services with a migration, in the order in which they migrate.
    pub fn migrations(&self) -> impl Iterator<Item = (&Service, &Migrate)> {
        self.services().filter_map(|service| Some((service, service.migrate.as_ref()?)))
    }

    /// The services that are paused: they have no instance.
    pub fn paused(&self) -> impl Iterator<Item = &Service> {
        self.services().filter(|service| service.instances == 0)
    }

    /// The service of this name, an accessory included.
    pub fn service(&self, name: ServiceName) -> Option<&Service> {
        if name == self.app.name {
            return Some(&self.app);
        }
        let accessory = || self.accessories.get(&name).map(|accessory| &accessory.service);
        self.others.get(&name).or_else(accessory)
    }

    /// The service of this name, for a verb that changes releases.
    ///
    /// # Errors
    /// It is an accessory, or agent.toml has none of this name.
    pub fn service_of_release(&self, name: ServiceName) -> Result<&Service, Problem> {
        if let Some(service) = self.services().find(|service| service.name == name) {
            return Ok(service);
        }
        let fix = match self.service(name) {
            Some(_) => {
                let unit = self.name.unit(InstanceName::single(name));
                format!(
                    "it is an accessory: `astra-agent accessory restart {name}`; `systemctl stop {unit}` stops it until the next reconcile"
                )
            }
            None => {
                let all: Vec<_> = self.services().map(|service| service.name.to_string()).collect();
                format!("agent.toml has: {}", all.join(", "))
            }
        };
        Err(Problem::config("service", format!("`{name}` is no service of the release"), fix))
    }

    /// The templates of `[files]` that are files of their own.
    pub fn templates(&self) -> impl Iterator<Item = &Path> {
        self.files.values().filter_map(MountedFile::template)
    }

    /// Whether it is a service of the release, and no accessory.
    pub fn is_of_release(&self, name: ServiceName) -> bool {
        name.is_app() || self.others.contains_key(&name)
    }

    /// All services, the accessories included.
    pub fn all_services(&self) -> impl Iterator<Item = &Service> {
        self.services().chain(self.accessories.values().map(|accessory| &accessory.service))
    }

    /// The services that others call by name.
    pub fn called(&self) -> BTreeSet<ServiceName> {
        self.all_services().flat_map(|service| service.calls.iter().copied()).collect()
    }

    /// Whether a container is on the network of this site.
    pub fn uses_site_network(&self) -> bool {
        self.all_services().any(|service| service.network == Network::Site)
    }

    /// The port of an instance on this host; `None`: a worker, or no service of this config.
    pub fn port_of(&self, id: InstanceName) -> Option<u16> {
        Some(self.service(id.service)?.web()?.port_of(id.number))
    }

    /// The instances of a committed host, in the order of a deploy.
    pub fn instances(&self) -> impl DoubleEndedIterator<Item = InstanceName> + Clone {
        self.services().flat_map(Service::instances)
    }

    /// The spares that surge deploys use.
    pub fn spares(&self) -> impl DoubleEndedIterator<Item = InstanceName> + Clone {
        self.services().filter_map(Service::spare)
    }

    /// Whether this is the spare of a service.
    pub fn is_spare(&self, id: InstanceName) -> bool {
        self.service(id.service).and_then(Service::spare) == Some(id)
    }

    /// The `Host` header of readiness requests: the first name of the service's route or of the site, else
    /// localhost. Applications that check the header accept one of them.
    pub fn ready_host<'a>(&'a self, web: &'a Web) -> &'a str {
        let own = web.route.as_ref().and_then(|route| route.hosts.first());
        own.or(self.caddy.hosts.first()).map_or("localhost", String::as_str)
    }

    /// Whether visitors use TLS, ended by Caddy or by a proxy in front of it. Readiness requests then say so
    /// as well, or an application that redirects plain HTTP would never be ready.
    pub fn is_https(&self) -> bool {
        let own = self.caddy.tls != Tls::Off && !self.caddy.hosts.is_empty();
        own || !self.caddy.trusted_proxies.is_empty()
    }
}
