//! What `doctor` looks at besides [`super::observed::Observed`]: gathered by host/doctor.rs, judged by
//! plan/doctor.rs.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::digest::Digest;
use super::name::CronName;
use super::token::Expiry;

#[derive(Clone, Debug, Default)]
pub struct Checkup {
    /// Seconds since 1970.
    pub now: u64,
    /// The files and directories that matter and are there.
    pub owners: BTreeMap<PathBuf, Owner>,
    /// Where the engine keeps images.
    pub store: Option<PathBuf>,
    /// Settings of dockerd; `None` with podman, and where docker does not answer.
    pub dockerd: Option<Dockerd>,
    /// Free bytes where the journal lies.
    pub state_free: Option<u64>,
    /// The kernel's clock follows a time server; `None`: nobody could say.
    pub clock_synchronised: Option<bool>,
    /// The kernel, and so the clock, is another system's.
    pub in_container: bool,
    /// Drop-ins that systemd reads for the agent's units.
    pub drop_ins: BTreeMap<String, Vec<PathBuf>>,
    /// Where an admin endpoint of Caddy answers over TCP.
    pub admin_tcp: Option<String>,
    /// What the tracked tag resolves to, or why not.
    pub resolved: Option<Result<Digest, String>>,
    /// When the login for the app's repository ends.
    pub login: Option<Expiry>,
    /// Why the login cannot be read.
    pub bad_login: Option<String>,
    /// Cron jobs whose last run failed, and how.
    pub failed_jobs: BTreeMap<CronName, String>,
    /// Jobs of the app that the agent knows nothing of.
    pub foreign_jobs: Vec<ForeignJob>,
    /// A run is under way: who, and since when. What it leaves on its way is no leftover.
    pub running: Option<String>,
}

/// A job that something else than the agent starts for the app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ForeignJob {
    /// A line of a crontab that enters a container of the app.
    Line { file: PathBuf, line: usize },
    /// A timer with the app's name, or whose service enters a container of the app.
    Timer { unit: String },
}

/// What of dockerd's settings matters to a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dockerd {
    /// Containers survive a restart of dockerd.
    pub live_restore: bool,
    /// Published ports are served by a process of dockerd's, which ends with it.
    pub userland_proxy: bool,
    /// It can write log lines to the systemd journal.
    pub journald: bool,
}

/// Who owns something, without following a symlink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    pub uid: u32,
    /// Permission bits.
    pub mode: u32,
    pub kind: Kind,
    /// Names of the file.
    pub links: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    File,
    Dir,
    Symlink,
    Other,
}
