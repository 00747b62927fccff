//! The observed state of the host: gathered by host/, read by plan/. Never written to disk.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::checkup::Owner;
use super::image::PinnedImage;
use super::name::InstanceId;
use super::release::Release;

/// Everything that a plan may depend on besides the config and the history.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// The current content of every file that the config would write or the agent owns.
    pub files: BTreeMap<PathBuf, FileSeen>,
    /// Units of the agent, by name.
    pub units: BTreeMap<String, UnitSeen>,
    /// Instances that exist in any form, the spare included.
    pub instances: BTreeMap<InstanceId, InstanceSeen>,
    /// Drain markers, by instance.
    pub markers: BTreeSet<InstanceId>,
    /// Caddy checks for markers at each request.
    pub working: bool,
    /// Trial files `/run/astra/trial-i.env`.
    pub trials: BTreeSet<InstanceId>,
    /// Instances that do not run, and whose port another process uses.
    pub taken: BTreeSet<InstanceId>,
    /// Configured ports of instances still elsewhere on which another process listens.
    pub busy: BTreeSet<u16>,
    /// Files that could not be read, and why.
    pub odd: Vec<String>,
    /// Whether `/run/astra/trial.env` is there.
    pub trial_env: bool,
    /// The agent's directories that exist.
    pub dirs: BTreeSet<PathBuf>,
    /// There was a power cut before pulled images were on disk: images that were never committed may be
    /// damaged.
    pub store_suspect: bool,
    /// Images whose pull was started, and which may not be on disk. With `store_suspect` they may be damaged,
    /// even those that were committed earlier, pruned, and pulled again.
    pub unflushed: BTreeSet<PinnedImage>,
    /// The agent's containers that do not run, and whose unit does not either: left by a power cut.
    pub strays: Vec<Stray>,
    /// Temporary files of interrupted atomic writes.
    pub leftovers: Vec<PathBuf>,
    /// Local images of the app's repository.
    pub images: Vec<ImageSeen>,
    /// The engine answers, but did not list its images in time.
    pub images_unknown: bool,
    /// The engine that runs the containers.
    pub engine: Option<EngineSeen>,
    /// Caddy according to its admin socket; `None`: not running or not answering.
    pub caddy: Option<CaddySeen>,
    /// Free bytes in the engine's image store.
    pub free_bytes: Option<u64>,
    /// Values for `{ host = … }`, `{ generate = … }` and `{ file = … }` sources, by env key.
    pub env_values: BTreeMap<super::name::EnvKey, super::secret::Secret>,
    /// Volume sources of the app that do not exist.
    pub missing_sources: BTreeSet<PathBuf>,
    /// Why a `{ file = … }` source gave no value.
    pub env_unread: BTreeMap<super::name::EnvKey, String>,
    /// With `[verify]`: the owners and modes of podman's policy, its keys and their directories, and of a
    /// policy that would override it. Paths that certainly do not exist are left out.
    pub trust: BTreeMap<PathBuf, Result<Owner, String>>,
}

/// The content of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSeen {
    pub bytes: Vec<u8>,
    /// Permission bits, e.g. 0o600.
    pub mode: u32,
}

/// A unit's state according to systemd (org.freedesktop.systemd1(5)).
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
    /// The signal that ended the last main process, if any.
    pub signal: Option<i32>,
    /// systemd has read an older version of the file.
    pub need_reload: bool,
    /// A condition of the unit was not met at its last start, and systemd skipped it.
    pub skipped: bool,
    /// A start, stop or restart is queued or running.
    pub job: bool,
}

impl UnitSeen {
    pub fn is_active(&self) -> bool {
        self.active == "active"
    }

    /// The signal that killed the main process: podman, conmon or docker. An app killed by a signal gives
    /// them an exit code; a stop that timed out has another result.
    pub fn killed_by(&self) -> Option<i32> {
        self.signal.filter(|_| matches!(self.result.as_str(), "signal" | "core-dump" | "protocol"))
    }

    /// Whether it ended by itself: no job is queued, or systemd will restart it.
    pub fn has_ended(&self) -> bool {
        self.sub.starts_with("auto-restart")
            || (!self.job && matches!(self.active.as_str(), "deactivating" | "inactive" | "failed"))
    }

    /// Whether a job stopped it, for a service that systemd restarts whenever it ends by itself.
    pub fn was_stopped(&self) -> bool {
        !self.job && matches!(self.sub.as_str(), "dead" | "failed")
    }

    /// Whether a part of it may run: it is starting, running or stopping.
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

/// The labels of a container.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Running {
    pub release: u64,
    pub image: PinnedImage,
    /// Its port on this host.
    #[serde(default)]
    pub port: Option<u16>,
}

/// A leftover container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stray {
    /// The engine's id: its unit may create another one of the same name meanwhile.
    pub id: String,
    pub name: String,
}

/// A local image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageSeen {
    pub id: String,
    /// Every `repository@digest` of the image: a set, in no particular order.
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
    /// Absolute path of the engine's client, for units.
    pub fn client(self) -> &'static str {
        match self {
            Self::Podman => "/usr/bin/podman",
            Self::Docker => "/usr/bin/docker",
        }
    }
}

/// The engine that answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineSeen {
    pub engine: Engine,
    pub version: String,
}

/// The running Caddy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaddySeen {
    /// (major, minor): the newest release whose Caddyfile it understands. `None`: unknown.
    pub version: Option<(u32, u32)>,
    /// `None`: unknown; then it is assumed to run what is on disk.
    pub runs: Option<CaddyRuns>,
}

impl CaddySeen {
    /// The oldest supported Caddy; 2.6 has neither `persist_config` nor names of servers.
    pub const OLDEST: (u32, u32) = (2, 7);
}

/// The config that the running Caddy was started with or has loaded since.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct CaddyRuns {
    /// sha256 of the Caddyfile. `None`: a load was started, and its result is unknown.
    pub caddyfile: Option<String>,
    /// The part of its unit that only takes effect at a restart.
    pub service: String,
    /// Text of caddy.env.
    pub env: String,
}

/// The part of a unit file that only takes effect at a restart: its `[Service]` section, without comments.
pub fn service_section(unit: &str) -> String {
    let (_, after) = unit.split_once("[Service]\n").unwrap_or_default();
    let section = after.split_once("\n[").map_or(after, |(section, _)| section);
    section.lines().filter(|l| !l.starts_with('#') && !l.is_empty()).collect::<Vec<_>>().join("\n")
}

/// The release named in astra.env.
pub type Committed = Release;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_killed_process_is_told_apart_from_one_that_ended() {
        let unit = |result: &str, signal, exit_code| UnitSeen {
            result: result.into(),
            signal,
            exit_code,
            ..UnitSeen::default()
        };
        assert_eq!(unit("signal", Some(9), None).killed_by(), Some(9));
        assert_eq!(unit("core-dump", Some(11), None).killed_by(), Some(11));
        // After READY, SIGTERM is a clean end to systemd; before it is a failure.
        assert_eq!(unit("protocol", Some(15), None).killed_by(), Some(15));
        assert_eq!(unit("exit-code", None, Some(137)).killed_by(), None);
        assert_eq!(unit("timeout", Some(9), None).killed_by(), None);
        assert_eq!(unit("success", Some(15), None).killed_by(), None);
    }

    #[test]
    fn a_unit_restarted_by_hand_has_not_ended() {
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
