//! The facts that `doctor` needs besides [`super::observed::Observed`]: gathered by host/doctor.rs, judged by
//! plan/doctor.rs.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::digest::Digest;
use super::image::{PinnedImage, Repository};
use super::instance::ServiceName;
use super::name::CronName;
use super::release::Release;
use super::token::Expiry;

/// All facts that `doctor` gathers in one pass.
#[derive(Clone, Debug, Default)]
pub struct Checkup {
    /// Seconds since 1970.
    pub now: u64,
    /// The relevant files and directories that exist.
    pub owners: BTreeMap<PathBuf, Owner>,
    /// Programs of the units that are in none of the directories where systemd searches.
    pub absent: Vec<&'static str>,
    /// The directory of the engine's images.
    pub store: Option<PathBuf>,
    /// Settings of dockerd; `None` with podman, and if docker does not answer.
    pub dockerd: Option<Dockerd>,
    /// Free bytes in the journal's file system.
    pub state_free: Option<u64>,
    /// The kernel's clock is synchronised; `None`: unknown.
    pub clock_synchronised: Option<bool>,
    /// The kernel, and so the clock, belongs to another system.
    pub in_container: bool,
    /// Drop-ins that systemd reads for the agent's units.
    pub drop_ins: BTreeMap<String, Vec<PathBuf>>,
    /// The TCP address of a Caddy admin endpoint, if one answers.
    pub admin_tcp: Option<String>,
    /// The images of the release, as their registries tell.
    pub images: BTreeMap<ServiceName, ImageAsked>,
    /// Cron jobs whose last run failed, and their results.
    pub failed_jobs: BTreeMap<CronName, String>,
    /// Jobs of the app outside of the agent.
    pub foreign_jobs: Vec<ForeignJob>,
    /// The run under way: its actor, and since when. Its intermediate state counts as no leftover.
    pub running: Option<String>,
}

/// A registry's answer about the image of a service.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageAsked {
    /// Registry and path.
    pub repository: Repository,
    /// The digest of the tracked tag, or why it has none; `None`: not asked.
    pub resolved: Option<Result<Digest, String>>,
    /// When the credentials for the repository expire.
    pub login: Option<Expiry>,
    /// Why the credentials cannot be read.
    pub bad_login: Option<String>,
}

impl Checkup {
    /// A release of the newest images beside `current`, as far as their tags could be resolved.
    pub fn newest(&self, current: &Release) -> Release {
        let mut newest = current.clone();
        for (name, asked) in &self.images {
            let Some(Ok(digest)) = &asked.resolved else { continue };
            let image = PinnedImage { repository: asked.repository.clone(), digest: digest.clone() };
            match name.is_app() {
                true => newest.image = image,
                false => _ = newest.images.insert(*name, image),
            }
        }
        newest
    }
}

/// A job for the app that something else than the agent starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ForeignJob {
    /// A crontab line that runs a command in a container of the app.
    Line {
        /// The crontab, below `/etc` or `/var/spool/cron`.
        file: PathBuf,
        /// From 1.
        line: usize,
    },
    /// A timer with the app's name, or whose service runs a command in a container of the app.
    Timer {
        /// Its name, `NAME.timer`.
        unit: String,
    },
}

/// The dockerd settings that matter to a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dockerd {
    /// Containers survive a restart of dockerd.
    pub live_restore: bool,
    /// Published ports are served by a child process of dockerd, and end with it.
    pub userland_proxy: bool,
    /// It can write log lines to the systemd journal.
    pub journald: bool,
}

/// The owner of a path, without following a symlink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The numeric user; 0 is root.
    pub uid: u32,
    /// Permission bits.
    pub mode: u32,
    /// File type of the path itself.
    pub kind: Kind,
    /// Number of hard links.
    pub links: u64,
}

/// The type of a path (stat(2), `st_mode`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A symbolic link, wherever it points.
    Symlink,
    /// A socket, a pipe or a device.
    Other,
}
