//! The observed state of the host: gathered by host/, read by plan/. Never written to disk.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::path::PathBuf;

use super::checkup::Owner;
use super::image::PinnedImage;
use super::instance::InstanceName;
use super::name::EnvKey;
use super::release::Release;
use super::secret::Secret;
use super::unit::UnitSeen;

/// Everything that a plan may depend on besides the config and the history.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// The current content of every file that the config would write or the agent owns.
    pub files: BTreeMap<PathBuf, FileSeen>,
    /// Files of the agent that cannot be read, and why.
    pub unreadable: BTreeMap<PathBuf, String>,
    /// Units of the agent, by name.
    pub units: BTreeMap<String, UnitSeen>,
    /// Instances that exist in any form, the spare included.
    pub instances: BTreeMap<InstanceName, InstanceSeen>,
    /// The same of the accessories, which belong to no release.
    pub accessories: BTreeMap<InstanceName, InstanceSeen>,
    /// The names of the engine's networks; `None`: not asked, or no answer.
    pub networks: Option<BTreeSet<String>>,
    /// Drain markers, by instance.
    pub markers: BTreeSet<InstanceName>,
    /// Caddy checks for markers at each request.
    pub working: bool,
    /// Trial files `/run/astra/trial-i.env`.
    pub trials: BTreeSet<InstanceName>,
    /// Instances that do not run, and whose port another process uses.
    pub taken: BTreeSet<InstanceName>,
    /// Configured ports of instances still elsewhere on which another process listens.
    pub busy: BTreeSet<u16>,
    /// The addresses of this host in 198.18.0.0/16, at which containers call services.
    pub addresses: BTreeSet<Ipv4Addr>,
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
    /// Answers of the sources of `[env]`.
    pub env: Given,
    /// Volume sources of the app that do not exist.
    pub missing_sources: BTreeSet<PathBuf>,
    /// With `[verify]`: the owners and modes of podman's policy, its keys and their directories, and of a
    /// policy that would override it. Paths that certainly do not exist are left out.
    pub trust: BTreeMap<PathBuf, Result<Owner, String>>,
}

/// The answers of the sources of `[env]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Given {
    /// Values of the sources other than a text in agent.toml.
    pub values: BTreeMap<EnvKey, Secret>,
    /// Why a source gave no value.
    pub unread: BTreeMap<EnvKey, String>,
    /// Parts that a source has not, of a value that can be without them.
    pub lacks: BTreeMap<EnvKey, String>,
    /// Whether services outside the host were asked: only to plan a release.
    pub asked: bool,
}

impl Given {
    /// Keeps the answer of a source.
    pub fn add(&mut self, key: &EnvKey, value: Result<String, String>) {
        match value {
            Ok(value) => _ = self.values.insert(key.clone(), Secret::new(value)),
            Err(why) => _ = self.unread.insert(key.clone(), why),
        }
    }
}

/// The content of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSeen {
    /// The whole content.
    pub bytes: Vec<u8>,
    /// Permission bits, e.g. 0o600.
    pub mode: u32,
}

/// One instance: its unit and its container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InstanceSeen {
    /// Default values if systemd does not know the unit.
    pub unit: UnitSeen,
    /// From the container's labels: the release it runs, and its image.
    pub runs: Option<Running>,
    /// The readiness path answers 2xx.
    pub ready: bool,
}

/// The labels of a container.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Running {
    /// The release number in the container's label.
    pub release: u64,
    /// The image that the container was created from.
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
    /// `astra-app-i`, `astra-caddy`, …
    pub name: String,
}

/// A local image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageSeen {
    /// The engine's image id, 64 hex digits.
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
    /// podman, the first choice where both are installed.
    Podman,
    /// docker, whose containers depend on dockerd.
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
    /// podman or docker.
    pub engine: Engine,
    /// Like `5.4.2`, without the engine's name.
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
