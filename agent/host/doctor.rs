//! Observes what only `doctor` needs. Changes nothing; a part that does not answer is left out.

use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::lock::Lock;
use super::probe::probe;
use super::systemd::get;
use super::{Host, systemd};
use crate::config::{Config, OwnImage};
use crate::model::checkup::{Checkup, Dockerd, ImageAsked, Kind, Owner};
use crate::model::exit::ExitCode;
use crate::model::name::{LOCK, STATE};
use crate::model::token;
use crate::model::unit::{ActiveState, ServiceResult};

/// Programs that the units run beside the engine, and where systemd searches them: systemd.exec(5), `ExecSearchPath=`.
const PROGRAMS: [&str; 2] = ["ip", "ss"];
const SEARCHED: [&str; 6] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
/// Caddy's default admin endpoint over TCP.
const ADMIN: u16 = 2019;
const DAEMON_JSON: &str = "/etc/docker/daemon.json";
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
/// A user is waiting: one attempt.
const RESOLVE: Duration = Duration::from_secs(8);

impl Host {
    /// `watched`: paths whose owner and mode matter. `units`: units whose drop-ins matter.
    pub async fn checkup(&self, config: &Config, watched: &[PathBuf], units: &[String]) -> Checkup {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let mut checkup = Checkup { now, ..Checkup::default() };
        for path in watched {
            checkup.owners.extend(self.owner_of(path).ok().map(|owner| (path.clone(), owner)));
        }
        let is_absent = |program: &&str| {
            !SEARCHED.iter().any(|dir| self.files.below(&Path::new(dir).join(program)).exists())
        };
        checkup.absent = PROGRAMS.into_iter().filter(is_absent).collect();
        if let Some(engine) = &self.engine
            && let Ok(store) = engine.image_store_path().await
        {
            checkup.owners.extend(self.owner_of(&store).ok().map(|owner| (store.clone(), owner)));
            checkup.store = Some(store);
        }
        checkup.dockerd = self.dockerd().await;
        checkup.state_free = self.files.free_bytes(Path::new(STATE)).ok();
        checkup.running = Lock::holder_of(Path::new(LOCK))
            .map(|held| format!("`{}`, process {}, since {}", held.command, held.pid, held.since));
        self.look_at_systemd(units, &mut checkup).await;
        checkup.foreign_jobs = self.foreign_jobs(config).await;
        self.look_at_jobs(config, &mut checkup).await;
        checkup.admin_tcp = admin_over_tcp().await;
        self.look_at_registry(config, &mut checkup).await;
        checkup
    }

    async fn dockerd(&self) -> Option<Dockerd> {
        let says = self.engine.as_ref()?.dockerd_settings().await.ok().flatten()?;
        let written = self.files.read(Path::new(DAEMON_JSON)).ok().flatten();
        let settings: serde_json::Value =
            written.and_then(|file| serde_json::from_slice(&file.bytes).ok()).unwrap_or_default();
        // dockerd has no API for this setting.
        let userland_proxy =
            settings.get("userland-proxy").and_then(serde_json::Value::as_bool).unwrap_or(true);
        Some(Dockerd { live_restore: says.live_restore, userland_proxy, journald: says.journald })
    }

    pub(super) fn owner_of(&self, path: &Path) -> std::io::Result<Owner> {
        let meta = std::fs::symlink_metadata(self.files.below(path))?;
        let kind = match meta.file_type() {
            kind if kind.is_file() => Kind::File,
            kind if kind.is_dir() => Kind::Dir,
            kind if kind.is_symlink() => Kind::Symlink,
            _ => Kind::Other,
        };
        Ok(Owner { uid: meta.uid(), mode: meta.permissions().mode() & 0o7777, kind, links: meta.nlink() })
    }

    async fn look_at_systemd(&self, units: &[String], checkup: &mut Checkup) {
        checkup.clock_synchronised = self.systemd.clock_synchronised().await;
        checkup.in_container = self.systemd.is_in_container().await;
        for name in units {
            let Ok(properties) = self.systemd.properties(&systemd::unit_path(name), systemd::UNIT).await
            else {
                continue;
            };
            let paths: Vec<String> = get(&properties, "DropInPaths").unwrap_or_default();
            // Drop-ins of the distribution apply to all services and are not reported.
            let own = |path: &&String| {
                let dir = Path::new(path).parent().and_then(Path::file_name).and_then(|n| n.to_str());
                dir.is_some_and(|dir| dir.starts_with(name.split(['@', '.']).next().unwrap_or(name)))
            };
            let paths: Vec<PathBuf> = paths.iter().filter(own).map(PathBuf::from).collect();
            if !paths.is_empty() {
                checkup.drop_ins.insert(name.clone(), paths);
            }
        }
    }

    /// A failed job is easily missed: its unit stays failed until the next run or a `reset-failed`.
    async fn look_at_jobs(&self, config: &Config, checkup: &mut Checkup) {
        for job in &config.cron_jobs {
            let Ok(unit) = self.systemd.unit(&job.name.service()).await else { continue };
            if unit.active == ActiveState::Failed {
                let how = match (unit.result, unit.exit_code) {
                    (ServiceResult::Timeout, _) => format!("timed out after {:?}", job.timeout),
                    (_, Some(code)) => format!("exit code {}", ExitCode(code)),
                    (result, None) => result.to_string(),
                };
                checkup.failed_jobs.insert(job.name.clone(), how);
            }
        }
    }

    async fn look_at_registry(&self, config: &Config, checkup: &mut Checkup) {
        for service in config.services().filter(|of| of.name.is_app() || of.image.is_some()) {
            let asked = self.ask_registry(&config.image_of(service)).await;
            checkup.images.insert(service.name, asked);
        }
    }

    async fn ask_registry(&self, image: &OwnImage) -> ImageAsked {
        let repository = image.repository().clone();
        let login = match self.registry.credentials_for(&repository).await {
            Ok(login) => login.and_then(|login| token::expiry(login.password.reveal())),
            Err(error) => {
                let bad_login = Some(format!("{error:#}"));
                return ImageAsked { repository, resolved: None, login: None, bad_login };
            }
        };
        let resolved = match image {
            OwnImage::Tracked(image) => Some(self.registry.resolve(image, RESOLVE, 0).await),
            OwnImage::Pinned(_) => None,
        };
        let resolved = resolved.map(|digest| digest.map_err(|error| error.to_string()));
        ImageAsked { repository, resolved, login, bad_login: None }
    }
}

/// Whether a JSON answer comes to a request that only an admin endpoint knows.
async fn admin_over_tcp() -> Option<String> {
    for ip in [std::net::IpAddr::from([127, 0, 0, 1]), std::net::Ipv6Addr::LOCALHOST.into()] {
        let address = SocketAddr::new(ip, ADMIN);
        let answer = probe(address, "/config/admin", &address.to_string(), false, PROBE_TIMEOUT).await;
        // 2.6 and later refuse a foreign Host with 403 and Caddy's own message.
        if answer.is_ok_and(|a| a.status == 200 || a.body_start.contains("\"error\"")) {
            return Some(address.to_string());
        }
    }
    None
}
