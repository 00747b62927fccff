//! Floor 3: the decision. Pure functions from config, observed host and history to a plan; called by
//! converge.rs, and read-only by `astra-agent plan`.

use crate::config::Config;
use crate::model::envfile::{EnvFile, ManagedLines};
use crate::model::fingerprint::HostKey;
use crate::model::history::History;
use crate::model::image::PinnedImage;
use crate::model::name::{InstanceId, WORKING};
use crate::model::observed::{Engine, Observed};
use crate::model::staged::Staged;
use crate::model::step::{Content, Drain, Probe, Step, Target};
use std::net::SocketAddrV4;

pub mod caddy;
pub mod caddy_trial;
pub mod checks;
pub mod cron;
pub mod doctor;
pub mod env;
pub mod files;
pub mod instances;
pub mod keep;
pub mod migrations;
pub mod moves;
pub mod policy;
pub mod preflight;
pub mod prune;
pub mod release;
pub mod signatures;
pub mod units;

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
    pub fn target(&self, id: InstanceId) -> Target {
        self.target_at(id, self.port(id))
    }

    /// The same with another port.
    pub fn target_at(&self, id: InstanceId, port: u16) -> Target {
        let app = &self.config.app;
        let upstream = SocketAddrV4::new(id.address(), port);
        Target { id, unit: app.name.unit(id), container: app.name.container(id), upstream }
    }

    /// The port of instance `id`: of its running container, else of its drop-in, else from the config. Only a
    /// move (moves.rs) makes all three equal again.
    pub fn port(&self, id: InstanceId) -> u16 {
        let runs = self.observed.instances.get(&id).and_then(|seen| seen.runs.as_ref()?.port);
        let drop_in = || units::port_in(&self.observed.files.get(&units::drop_in(self.config, id))?.bytes);
        runs.or_else(drop_in).unwrap_or_else(|| self.config.app.port_of(id))
    }

    /// The readiness request, the same for all instances.
    pub fn probe(&self) -> Probe {
        let readiness = &self.config.app.readiness;
        Probe {
            path: readiness.path.clone(),
            host: self.config.ready_host().to_owned(),
            https: self.config.is_https(),
            answer: readiness.answer_timeout,
            timeout: readiness.timeout,
        }
    }

    fn drain_limits(&self) -> Drain {
        let deploy = &self.config.deploy;
        Drain { requests: deploy.drain_timeout, streams: deploy.websocket_timeout }
    }

    /// Drains `instance`.
    pub fn drain(&self, instance: Target) -> Step {
        Step::Drain { instance, limits: self.drain_limits(), probe: self.probe() }
    }

    /// Sets only the marker, before a stopped instance is started: it gets requests once it is undrained.
    pub fn set_aside(&self, id: InstanceId) -> [Step; 2] {
        [id.marker(), WORKING.into()].map(|path| {
            let content = Content::Plain(Vec::new());
            Step::WriteFile { path, mode: files::MODE, content }
        })
    }

    /// Ends the drain of an instance.
    pub fn undrain(&self, instance: Target) -> Step {
        Step::Undrain { instance, probe: self.probe(), limits: self.drain_limits() }
    }

    /// The current astra.env; empty if there is none.
    pub fn env_file(&self) -> EnvFile {
        let seen = self.observed.files.get(&self.config.app.name.env_file());
        seen.map(|f| EnvFile::parse(&f.bytes)).unwrap_or_default()
    }

    /// The changes by `env set` and `env unset` since the last commit; empty if there are none.
    pub fn staged(&self) -> Staged {
        let seen = self.observed.files.get(&self.config.app.name.staged_env());
        seen.map(|f| Staged::parse(&f.bytes)).unwrap_or_default()
    }

    /// The committed release is pinned, by a command or in astra.env: no automatic run follows the tag.
    pub fn is_chosen(&self) -> bool {
        let committed = self.committed().map(|lines| lines.image);
        let recorded = self.history.current().map(|release| &release.image);
        self.history.pinned || committed.is_some() && committed.as_ref() != recorded
    }

    /// astra.env names no release, although one was committed: its lines or the whole file were lost.
    pub fn is_nameless(&self) -> bool {
        matches!(self.env_file().managed(), Ok(None)) && self.history.current().is_some()
    }

    /// Instructions for restoring the release in astra.env from the journal.
    pub fn name_again(&self) -> String {
        let file = self.config.app.name.env_file();
        let lines = self.history.current().map_or_else(String::new, |release| {
            format!("`APP_IMAGE={}` and `ASTRA_RELEASE={}`", release.image, release.number)
        });
        format!(
            "put {lines} back into {}, or the whole file from a backup; then `astra-agent reconcile`",
            file.display()
        )
    }

    /// The release in astra.env; also `None` if it cannot be read, in which case [`instances::steps`] and the
    /// reconciler change nothing.
    pub fn committed(&self) -> Option<ManagedLines> {
        self.env_file().managed().ok().flatten()
    }
}
