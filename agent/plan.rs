//! Floor 3: the decision. Pure functions from config, observed host and history to a plan; called by
//! converge.rs, and read-only by `astra-agent plan`.

use crate::config::{Config, Kind, Liveness, Service};
use crate::model::entry::Entry;
use crate::model::envfile::{EnvFile, ManagedLines};
use crate::model::fingerprint::HostKey;
use crate::model::history::{History, RunRecord};
use crate::model::image::PinnedImage;
use crate::model::instance::{InstanceName, ServiceName};
use crate::model::name::WORKING;
use crate::model::observed::{Engine, Observed};
use crate::model::staged::Staged;
use crate::model::step::{Check, CommandCheck, Content, Drain, HttpCheck, Probe, Step, Target};
use std::net::SocketAddrV4;
use std::time::Duration;

pub mod accessories;
pub mod caddy;
pub mod caddy_trial;
pub mod calls;
pub mod checks;
pub mod cron;
pub mod doctor;
pub mod env;
pub mod files;
pub mod instances;
pub mod keep;
pub mod migrations;
pub mod moves;
pub mod own_files;
pub mod policy;
pub mod preflight;
pub mod prune;
pub mod release;
pub mod signatures;
pub mod units;

/// How long the committed release of a worker must run to be ready, while the config has another kind for it.
const SETTLE: Duration = Duration::from_secs(5);

/// All inputs of a decision.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// The desired state.
    pub config: &'a Config,
    /// The observed state.
    pub observed: &'a Observed,
    /// The state derived from the journal.
    pub history: &'a History,
    /// For the fingerprint of the candidate.
    pub key: &'a HostKey,
    /// Decides the form of units and container arguments.
    pub engine: Engine,
    /// Absolute path of the agent's binary, for its own units.
    pub agent: &'a str,
    /// The digest of Caddy's image, if caddy.env does not name one yet.
    pub caddy_image: Option<&'a PinnedImage>,
}

impl Inputs<'_> {
    /// Names and current address of instance `id` on this host.
    pub fn target(&self, id: InstanceName) -> Target {
        self.target_at(id, self.port(id))
    }

    /// The same with another port.
    pub fn target_at(&self, id: InstanceName, port: Option<u16>) -> Target {
        let name = &self.config.name;
        let upstream = port.map(|port| SocketAddrV4::new(id.address(), port));
        Target { id, unit: name.unit(id), container: name.container(id), upstream }
    }

    /// The port of instance `id`: of its running container, else of its drop-in, else from the config. Only a
    /// move (moves.rs) makes all three equal again. `None`: a worker.
    pub fn port(&self, id: InstanceName) -> Option<u16> {
        if self.config.service(id.service).is_some_and(|service| service.web().is_none()) {
            return None;
        }
        let runs = self.observed.instances.get(&id).and_then(|seen| seen.runs.as_ref()?.port);
        let drop_in = || units::port_in(&self.observed.files.get(&units::drop_in(self.config, id))?.bytes);
        runs.or_else(drop_in).or_else(|| self.config.port_of(id))
    }

    /// The service of an instance. One that is no longer configured is treated as the app is.
    fn service(&self, name: ServiceName) -> &Service {
        self.config.service(name).unwrap_or(&self.config.app)
    }

    /// The service was added to the config, and waits for its first deploy.
    pub fn waits(&self, service: ServiceName) -> bool {
        self.committed().is_some_and(|lines| lines.of(service).is_none())
    }

    /// Whether requests of visitors may go to the service: its instances run a committed release. Until then they
    /// go where they went before.
    pub fn is_routed(&self, service: &Service) -> bool {
        service.name.is_app() || self.committed().is_some_and(|lines| lines.is_routed(service.name))
    }

    /// The readiness check of the committed release, the same for all instances of a service.
    pub fn probe(&self, service: ServiceName) -> Probe {
        let was_worker =
            self.committed().and_then(|lines| Some(lines.of(service)?.port.is_none())) == Some(true);
        let service = self.service(service);
        match &service.kind {
            // It becomes a web service with the next release.
            Kind::Web(_) if was_worker => {
                Probe { check: Check::Settle(SETTLE), timeout: service.readiness.timeout }
            }
            Kind::Web(_) | Kind::Worker(_) => {
                let mut probe = self.trial_probe(service);
                // An undo, a rollback or a repair waits for nothing that is not needed.
                if let Check::Http(http) = &mut probe.check {
                    http.warm_up.clear();
                }
                probe
            }
        }
    }

    /// The readiness check of the release on trial.
    pub fn trial_probe(&self, service: &Service) -> Probe {
        let check = match &service.kind {
            Kind::Web(web) => Check::Http(HttpCheck {
                path: web.path.clone(),
                host: self.config.ready_host(web).to_owned(),
                https: self.config.is_https(),
                answer: web.answer_timeout,
                warm_up: web.warm_up.clone(),
            }),
            Kind::Worker(Liveness::Settle(time)) => Check::Settle(*time),
            Kind::Worker(Liveness::Command { argv, answer_timeout }) => {
                Check::Command(CommandCheck { argv: argv.clone(), answer: *answer_timeout })
            }
            Kind::Worker(Liveness::Tcp(port)) => Check::Tcp(*port),
        };
        Probe { check, timeout: service.readiness.timeout }
    }

    fn drain_limits(&self) -> Drain {
        let deploy = &self.config.deploy;
        Drain { requests: deploy.drain_timeout, streams: deploy.websocket_timeout }
    }

    /// Drains `instance`; nothing for a worker, which gets no requests.
    pub fn drain(&self, instance: Target) -> Option<Step> {
        instance.upstream?;
        let probe = self.probe(instance.id.service);
        Some(Step::Drain { instance, limits: self.drain_limits(), probe })
    }

    /// Sets only the marker, before a stopped instance is started: it gets requests once it is undrained.
    pub fn set_aside(&self, id: InstanceName) -> [Step; 2] {
        [id.marker(), WORKING.into()].map(|path| {
            let content = Content::Plain(Vec::new());
            Step::WriteFile { path, mode: files::MODE, content }
        })
    }

    /// Waits until an instance is ready.
    pub fn await_ready(&self, instance: Target) -> Step {
        let probe = self.probe(instance.id.service);
        Step::AwaitReady { instance, probe }
    }

    /// Starts the committed release in an instance.
    pub fn restore(&self, instance: Target) -> Step {
        let service = self.service(instance.id.service);
        let (stop, timeout) = (service.stop_timeout, service.readiness.timeout);
        Step::RestoreCommitted { instance, stop, timeout }
    }

    /// Stops an instance.
    pub fn stop(&self, instance: Target) -> Step {
        let name = instance.id.service;
        // The template of a service that is no longer configured still has its time.
        let template = crate::model::name::unit_file(&self.config.name.template(name));
        let gone = self.config.service(name).is_none();
        let written = self.observed.files.get(&template).filter(|_| gone);
        let stop = written.and_then(|file| units::stop_timeout_in(&file.bytes));
        let stop = stop.unwrap_or(self.service(name).stop_timeout);
        Step::StopInstance { instance, stop }
    }

    /// Ends the drain of an instance; nothing for a worker.
    pub fn undrain(&self, instance: Target) -> Option<Step> {
        instance.upstream?;
        let probe = self.probe(instance.id.service);
        Some(Step::Undrain { instance, probe, limits: self.drain_limits() })
    }

    /// Creates the site's network for containers with these arguments, if the engine says that it has none.
    pub fn make_network(&self, args: &[String]) -> Option<Step> {
        let name = self.config.name.network();
        let missing = self.observed.networks.as_ref().is_some_and(|networks| !networks.contains(&name));
        let needed = missing && args.contains(&units::network_arg(&self.config.name));
        needed.then_some(Step::MakeNetwork { name })
    }

    /// The current astra.env; empty if there is none.
    pub fn env_file(&self) -> EnvFile {
        let seen = self.observed.files.get(&self.config.name.env_file());
        seen.map(|f| EnvFile::parse(&f.bytes)).unwrap_or_default()
    }

    /// The changes by `env set` and `env unset` since the last commit; empty if there are none.
    pub fn staged(&self) -> Staged {
        let seen = self.observed.files.get(&self.config.name.staged_env());
        seen.map(|f| Staged::parse(&f.bytes)).unwrap_or_default()
    }

    /// The committed release is pinned, by a command or in astra.env: no automatic run follows the tag.
    pub fn is_chosen(&self) -> bool {
        let recorded = |lines| self.history.current().is_some_and(|release| release.is_of(&lines));
        self.history.pinned || self.committed().is_some_and(|lines| !recorded(lines))
    }

    /// astra.env names no release, although one was committed: its lines or the whole file were lost.
    pub fn is_nameless(&self) -> bool {
        matches!(self.env_file().managed(), Ok(None)) && self.history.current().is_some()
    }

    /// Instructions for restoring the release in astra.env from the journal.
    pub fn name_again(&self) -> String {
        let file = self.config.name.env_file();
        let lines = self.history.current().map_or_else(String::new, |release| {
            format!("`APP_IMAGE={}` and `ASTRA_RELEASE={}`", release.image, release.number)
        });
        let lines = self.last_lines().unwrap_or(lines);
        format!(
            "put {lines} back into {}, or the whole file from a backup; then `astra-agent reconcile`",
            file.display()
        )
    }

    /// The managed lines of a site with several services, as they were committed last.
    fn last_lines(&self) -> Option<String> {
        let intended = |run: &RunRecord| {
            run.committed()?;
            run.entries.iter().rev().find_map(|stamped| match &stamped.entry {
                Entry::CommitIntent { new, .. } => Some(new.clone()),
                _ => None,
            })
        };
        let current = self.history.current()?.number;
        let lines = self.history.runs.iter().rev().find_map(intended).filter(|l| l.release == current)?;
        let file = EnvFile::default().with_managed(&lines).ok().filter(|_| !lines.services.is_empty())?;
        let text = String::from_utf8(file.render()).ok()?;
        Some(text.lines().map(|line| format!("`{line}`")).collect::<Vec<_>>().join(", "))
    }

    /// The release in astra.env; also `None` if it cannot be read, in which case [`instances::steps`] and the
    /// reconciler change nothing.
    pub fn committed(&self) -> Option<ManagedLines> {
        self.env_file().managed().ok().flatten()
    }
}
