//! A step: one idempotent act with all its data. Its `Display` is the line in the plan output, the journal
//! and the golden tests, so it never shows a secret.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddrV4;
use std::path::PathBuf;
use std::time::Duration;

use super::answers::AnswerLimits;
use super::envfile::ManagedLines;
use super::fingerprint::sha256;
use super::image::PinnedImage;
use super::instance::{InstanceName, ServiceName};
use super::name::EnvKey;
use super::observed::Stray;
use super::release::Candidate;
use super::secret::Secret;

mod handling;
mod probe;

pub use handling::Handling;
pub use probe::{Check, CommandCheck, HttpCheck, Probe};

/// One act of a plan. Fields of one name mean the same in all variants: `path` and `file` are absolute, `mode`
/// has permission bits, `units` and `unit` are full names with their suffix, `instance` is the one acted on,
/// `probe` is its readiness request, `limits` are the times of its drain or those of its answers, `stop` is its stop timeout (SIGTERM
/// to SIGKILL), `timeout` limits the whole step, and `candidate` is the release on trial.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "one text for the fields that most variants have")]
pub enum Step {
    /// Create a directory and missing parents, or set its mode.
    MakeDir { path: PathBuf, mode: u32 },
    /// Replace a file atomically, or create it with its directory.
    WriteFile { path: PathBuf, mode: u32, content: Content },
    /// Write a file of a release; its path has a code of its content.
    WriteOwnFile { path: PathBuf, mode: u32, content: Content },
    /// Keep a hand-made file as `PATH.before-astra`, unless that copy exists already.
    BackupFile { path: PathBuf },
    /// Remove a file; a missing one is no error.
    RemoveFile { path: PathBuf },
    /// `systemctl daemon-reload`.
    DaemonReload,
    /// `systemctl enable`, without a start.
    EnableUnits { units: Vec<String> },
    /// `systemctl disable`, without a stop.
    DisableUnits { units: Vec<String> },
    /// `systemctl start`, to the end of the job.
    StartUnit { unit: String },
    /// `systemctl restart`, to the end of the job.
    RestartUnit { unit: String },
    /// `systemctl stop`, to the end of the job.
    StopUnit { unit: String },
    /// Load this Caddyfile into the running Caddy, then write it to disk: a Caddyfile that Caddy refuses
    /// changes nothing.
    LoadCaddy {
        content: Content,
        /// An instance is up, so a connection may carry a request during the load.
        in_use: bool,
    },
    /// Restart Caddy with the image in this caddy.env: about a second without answers.
    SwitchCaddyImage {
        /// The whole text of caddy.env.
        env: String,
        /// Its text before, for the undo.
        before: String,
    },
    /// Create the site's network, unless there is one.
    MakeNetwork { name: String },
    /// The commit point of an accessory: one rename of its env file.
    Pin {
        file: PathBuf,
        accessory: ServiceName,
        /// The lines of the file that are the agent's; their release is the number of this pin.
        lines: ManagedLines,
        content: Content,
    },
    /// Pull an image by digest, and check that the engine knows it by this name and digest.
    Pull { image: PinnedImage },
    /// Run a migration unit of the release on trial to its end.
    Migrate {
        /// The service whose image it runs in.
        service: ServiceName,
        unit: String,
        /// The site's other migrations: no two run at once.
        others: Vec<String>,
        /// The number of the release, for messages.
        release: u64,
        timeout: Duration,
        /// Limit for an earlier one that still runs.
        longest: Duration,
    },
    /// Write the environment of the release on trial: the future astra.env.
    WriteTrialEnv { content: Content },
    /// Stop new requests to the instance, and wait for those in flight.
    Drain {
        instance: Target,
        limits: Drain,
        /// Readiness request before the instance is undrained.
        probe: Probe,
    },
    /// Start the release on trial in the instance.
    StartTrial {
        instance: Target,
        candidate: Candidate,
        /// The state that undo restores.
        fallback: Fallback,
        stop: Duration,
        timeout: Duration,
    },
    /// Start the committed release in the instance.
    RestoreCommitted { instance: Target, stop: Duration, timeout: Duration },
    /// Wait for READY and the readiness path.
    AwaitReady { instance: Target, probe: Probe },
    /// Watch the instances, each with its readiness check, for this long: no restart, ready at the end, and answers
    /// within the limits.
    Soak { instances: Vec<(Target, Probe)>, time: Duration, limits: AnswerLimits },
    /// Let Caddy send requests again, once it gets a 2xx from the instance itself. Undone by a drain.
    Undrain { instance: Target, probe: Probe, limits: Drain },
    /// Stop the instance within its stop timeout, and remove its trial file and marker.
    StopInstance { instance: Target, stop: Duration },
    /// Wait until the pulled image is on disk.
    FlushImages,
    /// The commit point: one rename of astra.env.
    Commit {
        file: PathBuf,
        /// The managed lines before; `None` on the first deploy.
        old: Option<ManagedLines>,
        candidate: Candidate,
        /// The changed variables; `None`: the line is removed.
        env: BTreeMap<EnvKey, Option<Secret>>,
    },
    /// A container left by a power cut.
    RemoveContainer { container: Stray },
    /// Remove a local image that no container uses.
    RemoveImage { image: PinnedImage },
}

/// An instance with all its names on this host.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    /// Service and number.
    pub id: InstanceName,
    /// `astra-app@1.service`
    pub unit: String,
    /// `astra-app-1`
    pub container: String,
    /// 127.0.1.i:(base_port + i): the upstream's address in Caddy, and for readiness requests. `None`: a worker.
    pub upstream: Option<SocketAddrV4>,
}

/// Time limits of a drain, after which the instance is stopped anyway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drain {
    /// For requests in flight.
    pub requests: Duration,
    /// For WebSockets and event streams.
    pub streams: Duration,
}

/// The state that undoing a trial restores.
#[derive(Clone, Debug, PartialEq)]
pub enum Fallback {
    /// The release in astra.env.
    Committed {
        /// Its readiness request.
        probe: Probe,
        /// Its stop timeout.
        stop: Duration,
    },
    /// Nothing was committed, or the instance is a spare: stop it.
    Stopped,
}

/// Content of a file, and whether it may be shown.
#[derive(Clone, PartialEq, Eq)]
pub enum Content {
    /// Shown by its size and checksum.
    Plain(Vec<u8>),
    /// An env file: only the names of its changed keys are shown.
    Secret {
        /// The whole file.
        bytes: Vec<u8>,
        /// The changed variables, without the managed ones.
        changed: Vec<EnvKey>,
    },
    /// A file that may have secrets: only its size is shown.
    Hidden(Vec<u8>),
}

impl Content {
    /// The whole content, secrets included.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Plain(bytes) | Self::Hidden(bytes) | Self::Secret { bytes, .. } => bytes,
        }
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(bytes) => {
                let sum = sha256(bytes);
                write!(f, "{} bytes, sha256 {}", bytes.len(), sum.get(..12).unwrap_or(&sum))
            }
            Self::Hidden(bytes) => write!(f, "{} bytes", bytes.len()),
            Self::Secret { changed, .. } if changed.is_empty() => f.write_str("no key changed"),
            Self::Secret { changed, .. } => {
                let names: Vec<_> = changed.iter().map(EnvKey::as_str).collect();
                write!(f, "keys {}", names.join(", "))
            }
        }
    }
}

impl Step {
    /// The steps that undo this one, in order; empty if there is nothing to undo.
    pub fn undo(&self) -> Vec<Self> {
        match self {
            Self::WriteTrialEnv { .. } => vec![Self::RemoveFile { path: super::name::TRIAL_ENV.into() }],
            Self::Drain { instance, limits, probe } => {
                vec![Self::Undrain { instance: instance.clone(), probe: probe.clone(), limits: *limits }]
            }
            Self::Undrain { instance, probe, limits } => {
                vec![Self::Drain { instance: instance.clone(), limits: *limits, probe: probe.clone() }]
            }
            Self::StartTrial { instance, fallback: Fallback::Stopped, stop, .. } => {
                vec![Self::StopInstance { instance: instance.clone(), stop: *stop }]
            }
            Self::StartTrial { instance, fallback: Fallback::Committed { probe, stop }, .. } => vec![
                Self::RestoreCommitted { instance: instance.clone(), stop: *stop, timeout: probe.timeout },
                Self::AwaitReady { instance: instance.clone(), probe: probe.clone() },
            ],
            Self::SwitchCaddyImage { env, before } => {
                vec![Self::SwitchCaddyImage { env: before.clone(), before: env.clone() }]
            }
            Self::MakeDir { .. }
            | Self::WriteFile { .. }
            | Self::WriteOwnFile { .. }
            | Self::BackupFile { .. }
            | Self::RemoveFile { .. }
            | Self::DaemonReload
            | Self::EnableUnits { .. }
            | Self::DisableUnits { .. }
            | Self::StartUnit { .. }
            | Self::RestartUnit { .. }
            | Self::StopUnit { .. }
            | Self::LoadCaddy { .. }
            | Self::MakeNetwork { .. }
            | Self::Pin { .. }
            | Self::Pull { .. }
            | Self::Migrate { .. }
            | Self::RestoreCommitted { .. }
            | Self::AwaitReady { .. }
            | Self::Soak { .. }
            | Self::StopInstance { .. }
            | Self::FlushImages
            | Self::Commit { .. }
            | Self::RemoveContainer { .. }
            | Self::RemoveImage { .. } => Vec::new(),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.unit.strip_suffix(".service").unwrap_or(&self.unit))
    }
}

fn caddy_image(env: &str) -> &str {
    env.lines().find_map(|line| line.strip_prefix("CADDY_IMAGE=")).unwrap_or("another image")
}

fn names(instances: &[(Target, Probe)]) -> String {
    instances.iter().map(|(instance, _)| instance.to_string()).collect::<Vec<_>>().join(", ")
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MakeDir { path, mode } => write!(f, "create {} ({mode:04o})", path.display()),
            Self::WriteFile { path, mode, content } | Self::WriteOwnFile { path, mode, content } => {
                write!(f, "write {} ({mode:04o}; {content})", path.display())
            }
            Self::BackupFile { path } => {
                write!(f, "keep {} as {}.before-astra", path.display(), path.display())
            }
            Self::RemoveFile { path } => write!(f, "remove {}", path.display()),
            Self::DaemonReload => f.write_str("reload systemd's unit files"),
            Self::EnableUnits { units } => write!(f, "enable {}", units.join(", ")),
            Self::DisableUnits { units } => write!(f, "disable {}", units.join(", ")),
            Self::StartUnit { unit } => write!(f, "start {unit}"),
            Self::RestartUnit { unit } => write!(f, "restart {unit}"),
            Self::StopUnit { unit } => write!(f, "stop {unit}"),
            Self::LoadCaddy { content, .. } => {
                write!(f, "load {} into Caddy ({content})", super::name::CADDYFILE)
            }
            Self::SwitchCaddyImage { env, .. } => write!(f, "restart Caddy from {}", caddy_image(env)),
            Self::MakeNetwork { name } => write!(f, "create the network {name}"),
            Self::Pin { accessory, lines, .. } => {
                write!(f, "pin {accessory} to {} (pin {})", lines.app.image, lines.release)
            }
            Self::Pull { image } => write!(f, "pull {image}"),
            Self::Migrate { service, release, timeout, .. } => {
                write!(f, "migrate{} for release {release} (at most {timeout:?})", service.named(" "))
            }
            Self::WriteTrialEnv { content } => {
                write!(f, "write {} (0600; {content})", super::name::TRIAL_ENV)
            }
            Self::Drain { instance, limits, .. } => {
                write!(f, "drain {instance} (at most {:?})", limits.requests.max(limits.streams))
            }
            Self::StartTrial { instance, candidate, .. } => {
                let lines = &candidate.lines;
                let image = lines.of(instance.id.service).map_or(&lines.app.image, |of| &of.image);
                write!(f, "try release {} in {instance} ({})", lines.release, image.digest.short())
            }
            Self::RestoreCommitted { instance, .. } => {
                write!(f, "return {instance} to the committed release")
            }
            Self::AwaitReady { instance, probe } => {
                write!(f, "wait until {instance} is ready ({probe})")
            }
            Self::Soak { instances, time, limits } => {
                write!(f, "soak {} for {time:?}{limits}", names(instances))
            }
            Self::Undrain { instance, .. } => write!(f, "put {instance} into rotation"),
            Self::StopInstance { instance, .. } => write!(f, "stop {instance}"),
            Self::FlushImages => f.write_str("flush the image store to disk"),
            Self::Commit { candidate: Candidate { release, .. }, .. } => {
                write!(f, "commit release {} ({})", release.number, release.named())
            }
            Self::RemoveContainer { container } => {
                write!(f, "remove the left-over container {}", container.name)
            }
            Self::RemoveImage { image } => write!(f, "remove the image {image}"),
        }
    }
}

impl Target {
    /// [`Target::upstream`] as an IPv6 address, under which Caddy counts WebSockets and event streams.
    pub fn stream_upstream(&self) -> Option<String> {
        self.upstream.map(|at| format!("[::ffff:{}]:{}", at.ip(), at.port()))
    }
}
