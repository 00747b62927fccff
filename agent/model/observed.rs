//! What the host shows: gathered by host/, read by plan/. Never written to disk.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::checkup::Owner;
use super::image::PinnedImage;
use super::name::InstanceId;
use super::release::Release;

/// Everything a plan may depend on besides the config and the history.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// Every file that the config would write, and every file that the agent owns: what is there now.
    pub files: BTreeMap<PathBuf, FileSeen>,
    /// Units of the agent, by name.
    pub units: BTreeMap<String, UnitSeen>,
    /// Instances that exist in any form, the spare included.
    pub instances: BTreeMap<InstanceId, InstanceSeen>,
    /// Drain markers.
    pub markers: BTreeSet<InstanceId>,
    /// Caddy looks at the markers for each request.
    pub working: bool,
    /// Trial files `/run/astra/trial-i.env`.
    pub trials: BTreeSet<InstanceId>,
    /// Instances that do not run, and whose port somebody else has.
    pub taken: BTreeSet<InstanceId>,
    /// Of the ports that the config gives to an instance that is still elsewhere, those on which somebody listens.
    pub busy: BTreeSet<u16>,
    /// Files that could not be read, and why.
    pub odd: Vec<String>,
    /// Whether `/run/astra/trial.env` is there.
    pub trial_env: bool,
    /// Those of the directories the agent needs that are there.
    pub dirs: BTreeSet<PathBuf>,
    /// The power went before what was pulled was on the disk: images that were never committed may be damaged.
    pub store_suspect: bool,
    /// Images that were begun to be pulled, and are not known to be on the disk. With `store_suspect` they may be
    /// damaged, also those that were committed earlier, pruned, and pulled again.
    pub unflushed: BTreeSet<PinnedImage>,
    /// Containers of ours that do not run, while their unit does not either: a power cut leaves them behind.
    pub strays: Vec<Stray>,
    /// Left-over temporary files of cut-off atomic writes.
    pub leftovers: Vec<PathBuf>,
    /// Local images of the app's repository.
    pub images: Vec<ImageSeen>,
    /// The engine answers, but did not list its images in time: which ones are there is not known.
    pub images_unknown: bool,
    /// The engine that runs (or would run) the containers.
    pub engine: Option<EngineSeen>,
    /// Caddy as its admin socket shows it; `None`: not running or not answering.
    pub caddy: Option<CaddySeen>,
    /// Free bytes where the engine stores images.
    pub free_bytes: Option<u64>,
    /// Values for `{ host = … }`, `{ generate = … }` and `{ file = … }` sources, by env key.
    pub env_values: BTreeMap<super::name::EnvKey, super::secret::Secret>,
    /// Sources of the app's volumes that are not there.
    pub missing_sources: BTreeSet<PathBuf>,
    /// Why a `{ file = … }` source gave no value.
    pub env_unread: BTreeMap<super::name::EnvKey, String>,
    /// With `[verify]`: who may write podman's policy, its keys and their directories, and a policy that would outrank
    /// it. What is certainly not there is not in it.
    pub trust: BTreeMap<PathBuf, Result<Owner, String>>,
}

/// A file as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSeen {
    pub bytes: Vec<u8>,
    /// Permission bits, e.g. 0o600.
    pub mode: u32,
}

/// A unit as systemd shows it (org.freedesktop.systemd1(5)).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnitSeen {
    /// `loaded`, `not-found`, `masked`, …
    pub load: String,
    /// `active`, `activating`, `inactive`, `failed`, …
    pub active: String,
    /// `running`, `auto-restart`, …
    pub sub: String,
    /// `enabled`, `disabled`, `static`, …
    pub enabled: String,
    /// Result of the last run: `success`, `exit-code`, `timeout`, …
    pub result: String,
    pub restarts: u32,
    /// 32 hex digits; changes with every start.
    pub invocation: String,
    pub main_pid: u32,
    /// Exit code of the last main process, when it exited by itself.
    pub exit_code: Option<i32>,
    /// The signal that ended the last main process, where one did.
    pub signal: Option<i32>,
    /// systemd read an older file than the one on disk.
    pub need_reload: bool,
    /// At its last start a condition of it was not met, and systemd left it at that.
    pub skipped: bool,
    /// Somebody asked systemd to start, stop or restart it, and that is not done yet.
    pub job: bool,
}

impl UnitSeen {
    pub fn is_active(&self) -> bool {
        self.active == "active"
    }

    /// The signal that killed the main process: podman, conmon or docker. An app that dies of one gives them an exit
    /// code; a stop that took too long has another result.
    pub fn killed_by(&self) -> Option<i32> {
        self.signal.filter(|_| matches!(self.result.as_str(), "signal" | "core-dump" | "protocol"))
    }

    /// It ended by itself: nobody asks for its stop or its start, or systemd means to restart it.
    pub fn has_ended(&self) -> bool {
        self.sub.starts_with("auto-restart")
            || (!self.job && matches!(self.active.as_str(), "deactivating" | "inactive" | "failed"))
    }

    /// Something of it may run: it starts, runs or stops.
    pub fn is_up(&self) -> bool {
        !matches!(self.active.as_str(), "" | "inactive" | "failed")
    }
}

/// One instance: its unit and its container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InstanceSeen {
    pub unit: UnitSeen,
    /// From the container's labels: the release it runs, and its image.
    pub runs: Option<Running>,
    /// The readiness path answers 2xx.
    pub ready: bool,
}

/// What a container's labels say.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Running {
    pub release: u64,
    pub image: PinnedImage,
    /// Where it listens on this host.
    #[serde(default)]
    pub port: Option<u16>,
}

/// A container that nobody will ask for again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stray {
    /// The engine's own: its unit may make another one of the same name meanwhile.
    pub id: String,
    pub name: String,
}

/// A local image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageSeen {
    pub id: String,
    /// Every `repository@digest` it is known by: a set, order means nothing.
    pub repo_digests: BTreeSet<PinnedImage>,
    /// Seconds since 1970.
    pub created: i64,
}

/// podman or docker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    Podman,
    Docker,
}

impl Engine {
    /// Absolute path of its client, for units.
    pub fn client(self) -> &'static str {
        match self {
            Self::Podman => "/usr/bin/podman",
            Self::Docker => "/usr/bin/docker",
        }
    }
}

/// The engine that answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineSeen {
    pub engine: Engine,
    pub version: String,
}

/// Caddy as it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaddySeen {
    /// (major, minor): the newest release whose Caddyfile it understands. `None`: it did not say.
    pub version: Option<(u32, u32)>,
    /// `None`: nobody knows, and it is taken to run what is on the disk.
    pub runs: Option<CaddyRuns>,
}

impl CaddySeen {
    /// The oldest Caddy that reads what is written for it; 2.6 has neither `persist_config` nor names of servers.
    pub const OLDEST: (u32, u32) = (2, 7);
}

/// What the running Caddy was started with, and what it has accepted since.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct CaddyRuns {
    /// sha256 of the Caddyfile. `None`: a load was begun, and nobody saw its end.
    pub caddyfile: Option<String>,
    /// Of its unit, what only a restart brings into force.
    pub service: String,
    /// Text of caddy.env.
    pub env: String,
}

/// Of a unit file, what only a restart brings into force: its `[Service]` section, without comments.
pub fn service_section(unit: &str) -> String {
    let (_, after) = unit.split_once("[Service]\n").unwrap_or_default();
    let section = after.split_once("\n[").map_or(after, |(section, _)| section);
    section.lines().filter(|l| !l.starts_with('#') && !l.is_empty()).collect::<Vec<_>>().join("\n")
}

/// The release that astra.env names.
pub type Committed = Release;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_killed_is_not_who_died() {
        let unit = |result: &str, signal, exit_code| UnitSeen {
            result: result.into(),
            signal,
            exit_code,
            ..UnitSeen::default()
        };
        assert_eq!(unit("signal", Some(9), None).killed_by(), Some(9));
        assert_eq!(unit("core-dump", Some(11), None).killed_by(), Some(11));
        // SIGTERM is a clean end to systemd; before READY it is none.
        assert_eq!(unit("protocol", Some(15), None).killed_by(), Some(15));
        assert_eq!(unit("exit-code", None, Some(137)).killed_by(), None);
        assert_eq!(unit("timeout", Some(9), None).killed_by(), None);
        assert_eq!(unit("success", Some(15), None).killed_by(), None);
    }

    #[test]
    fn what_somebody_restarts_has_not_ended() {
        let unit = |active: &str, sub: &str, job| UnitSeen {
            active: active.into(),
            sub: sub.into(),
            job,
            ..UnitSeen::default()
        };
        for (active, sub) in [("deactivating", "stop-sigterm"), ("inactive", "dead"), ("failed", "failed")] {
            assert!(unit(active, sub, false).has_ended(), "{active}");
            assert!(!unit(active, sub, true).has_ended(), "{active}, and a job");
        }
        assert!(unit("activating", "auto-restart", false).has_ended());
        assert!(unit("activating", "auto-restart-queued", true).has_ended());
        assert!(!unit("activating", "start", true).has_ended());
        assert!(!unit("active", "running", false).has_ended());
    }
}
