//! Observes the host without changing it. Every wait is short: a part that does not answer counts as absent.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::{Path, PathBuf};

use anyhow::Result;
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};

use super::Host;
use super::engine::ContainerSeen;
use super::probe::probe;
use crate::config::{Config, Service};
use crate::model::instance::InstanceName;
use crate::model::name::{
    CADDY_SOCKET_DIR, CRON_PREFIX, DRAIN_DIR, ETC, FILES_DIR, NAMES_UNIT, POLICY, ROOTS_OWN_POLICY, RUN,
    STATE, TRIAL_ENV, UNIT_DIR, WORKING,
};
use crate::model::observed::{CaddySeen, EngineSeen, ImageSeen, InstanceSeen, Observed, Running, Stray};
use crate::model::policy::Policy;
use crate::model::problem::Problem;
use crate::model::step::{Check, Probe, Target};
use crate::model::unit::UnitSeen;

/// The engine's answer about an instance is valid for one invocation of its unit: a container lives within
/// one.
const SEEN: &str = "/run/astra/seen.json";

/// The objects to observe.
#[derive(Debug, Default)]
pub struct Scope {
    /// Files that the config would write.
    pub files: Vec<PathBuf>,
    /// Units that the config wants, except instances.
    pub units: Vec<String>,
    /// Instances that may exist, spares included, and the readiness check of each.
    pub instances: Vec<(Target, Probe)>,
    /// Configured addresses of instances that listen elsewhere now.
    pub ports: Vec<SocketAddrV4>,
    /// Also the local images, which the engine lists slowly.
    pub images: bool,
    /// Also the engine's networks, if it is asked at all.
    pub networks: bool,
}

/// The local images, if the engine listed them in time, and the free bytes of their store.
type Images = (Option<Vec<ImageSeen>>, Option<u64>);

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Seen {
    invocation: String,
    runs: Running,
}

impl Host {
    /// Observes everything in `scope`.
    ///
    /// # Errors
    ///
    /// systemd does not answer, or a directory of the agent cannot be listed.
    pub async fn observe(&self, config: &Config, scope: &Scope) -> Result<Observed> {
        let mut observed = Observed { env: super::sources::local(config)?, ..Observed::default() };
        self.see_files(config, scope, &mut observed)?;
        if config.verify.require_signature {
            self.see_policy(&mut observed);
        }
        let busy = scope
            .ports
            .iter()
            .filter(|at| is_busy(*at.ip(), at.port()) || is_busy(Ipv4Addr::LOCALHOST, at.port()));
        observed.busy = busy.map(SocketAddrV4::port).collect();
        observed.addresses = self.addresses();
        // The engine may have to be started first, so the rest is observed meanwhile.
        let (unknown, images) = tokio::join!(self.see_running(scope, &mut observed), async {
            if scope.images { self.ask_images().await } else { None }
        });
        if unknown? || scope.images {
            // An engine that did not answer once is not asked again.
            if images.is_some() || !scope.images {
                // After the units: the cached answer must not be older than the unit's invocation.
                self.see_engine(scope, images, &mut observed).await;
            }
            self.remember(&observed);
        } else {
            observed.engine =
                self.engine.as_ref().map(|e| EngineSeen { engine: e.kind(), version: String::new() });
        }
        Ok(observed)
    }

    /// Units, readiness and Caddy; returns whether the engine has to be asked what an instance runs.
    async fn see_running(&self, scope: &Scope, observed: &mut Observed) -> Result<bool> {
        let names = scope.units.iter().cloned().chain(scope.instances.iter().map(|(t, _)| t.unit.clone()));
        let names: Vec<_> = names.collect();
        let probes = scope.instances.iter().map(async |(target, ask)| self.is_ready(target, ask).await);
        let (units, answers, caddy) =
            tokio::join!(self.systemd.units(&names), join_all(probes), self.ask_caddy());
        observed.units = units?;
        if let Some(version) = caddy {
            observed.caddy = Some(CaddySeen { version, runs: self.caddy_runs(observed).await });
        }
        let known = self.seen();
        let mut unknown = false;
        for ((target, _), answers) in scope.instances.iter().zip(answers) {
            let unit = observed.units.get(&target.unit).cloned().unwrap_or_default();
            let runs = known.get(&target.id).filter(|s| s.invocation == unit.invocation);
            unknown |= runs.is_none() && unit.is_up();
            let runs = runs.filter(|_| unit.is_up()).map(|s| s.runs.clone());
            if !unit.is_up() && is_taken(target) {
                observed.taken.insert(target.id);
            }
            // Another process on its port does not make it ready.
            let ready = answers && unit.is_active();
            observed.instances.insert(target.id, InstanceSeen { unit, runs, ready });
        }
        Ok(unknown)
    }

    /// The addresses of this host at which containers call services, by its table of routes: `|-- 198.18.1.2`, and
    /// below it `/32 host LOCAL`. Not by way of `/proc/self`, which is a symlink.
    fn addresses(&self) -> BTreeSet<Ipv4Addr> {
        let path = format!("/proc/{}/net/fib_trie", std::process::id());
        let seen = self.files.read(Path::new(&path)).ok().flatten();
        let text = seen.map(|seen| String::from_utf8_lossy(&seen.bytes).into_owned()).unwrap_or_default();
        let lines = text.lines().map(str::trim_start);
        let pairs = lines.clone().zip(lines.skip(1)).filter(|(_, below)| below.ends_with("host LOCAL"));
        let addresses = pairs.filter_map(|(line, _)| line.strip_prefix("|-- ")?.parse::<Ipv4Addr>().ok());
        addresses.filter(|address| address.octets().starts_with(&[198, 18])).collect()
    }

    /// The files of releases, their templates, and the pins of accessories, also of those that left the config.
    fn release_files(&self, config: &Config, observed: &mut Observed) -> Result<Vec<PathBuf>> {
        let mut paths: Vec<PathBuf> = config.templates().map(Path::to_owned).collect();
        let names = self.files.list(Path::new(ETC))?.into_iter();
        let pins = names.filter(|name| config.name.accessory(name).is_some());
        paths.extend(pins.map(|name| Path::new(ETC).join(name)));
        match self.files.list(Path::new(FILES_DIR)) {
            Ok(names) => paths.extend(names.into_iter().map(|name| Path::new(FILES_DIR).join(name))),
            // Something else in its place: only a release that uses such files fails.
            Err(error) => observed.odd.push(format!("{error:#}")),
        }
        Ok(paths)
    }

    fn see_files(&self, config: &Config, scope: &Scope, observed: &mut Observed) -> Result<()> {
        let mut paths: BTreeSet<PathBuf> = scope.files.iter().cloned().collect();
        paths.extend([config.name.env_file(), config.name.staged_env()]);
        paths.extend(self.release_files(config, observed)?);
        paths.insert(crate::model::name::LAST_APP_IMAGE.into());
        paths.extend(config.accessories.keys().map(|name| config.name.accessory_env(*name)));
        for name in self.files.list(Path::new(UNIT_DIR))? {
            let job =
                name.starts_with(CRON_PREFIX) && (name.ends_with(".timer") || name.ends_with(".service"));
            let of = |unit: &str| config.name.instance(unit);
            let one_off = name == NAMES_UNIT || config.name.migration(&name).is_some();
            if job || one_off || config.name.service(&name).is_some() {
                paths.insert(Path::new(UNIT_DIR).join(&name));
            } else if name.strip_suffix(".d").and_then(of).is_some() {
                let dir = Path::new(UNIT_DIR).join(&name);
                paths.extend(self.files.list(&dir)?.into_iter().map(|file| dir.join(file)));
            }
        }
        let truth = [config.name.env_file(), config.name.staged_env()];
        for path in paths {
            match self.files.read(&path) {
                Ok(Some(seen)) => _ = observed.files.insert(path, seen),
                Ok(None) => {}
                // Its directory is unsafe: that problem has its own fix.
                Err(error) if truth.contains(&path) && error.is::<Problem>() => return Err(error),
                Err(error) if truth.contains(&path) => {
                    let fix = format!("`ls -l {}`; put the file itself there", path.display());
                    return Err(Problem::host("files", format!("{error:#}"), fix).into());
                }
                // A symlink or a directory instead of one of the agent's files: a write replaces it, or fails
                // with the reason.
                Err(error) => {
                    observed.odd.push(format!("{error:#}"));
                    observed.unreadable.insert(path, format!("{error:#}"));
                }
            }
        }
        for dir in [DRAIN_DIR, CADDY_SOCKET_DIR, FILES_DIR] {
            if self.files.owner(Path::new(dir))?.is_some() {
                observed.dirs.insert(dir.into());
            }
        }
        let markers = self.files.list(Path::new(DRAIN_DIR))?;
        observed.markers = markers.iter().filter_map(|name| name.parse().ok()).collect();
        observed.working = self.files.read(Path::new(WORKING))?.is_some();
        for name in self.files.list(Path::new(RUN))? {
            let trial = name.strip_prefix("trial-").and_then(|n| n.strip_suffix(".env"));
            observed.trials.extend(trial.and_then(|name| name.parse::<InstanceName>().ok()));
            observed.trial_env |= Path::new(RUN).join(&name) == Path::new(TRIAL_ENV);
        }
        observed.missing_sources =
            self.files.missing(config.all_services().flat_map(Service::volume_sources));
        observed.store_suspect = self.store_is_suspect()?;
        observed.unflushed = self.unflushed()?;
        observed.leftovers = self.files.leftovers([ETC, RUN, STATE, DRAIN_DIR, UNIT_DIR].map(Path::new))?;
        observed.leftovers.extend(self.files.leftovers([Path::new(FILES_DIR)]).unwrap_or_default());
        Ok(())
    }

    /// The files that decide which images podman accepts. A file that cannot be read still counts for podman.
    fn see_policy(&self, observed: &mut Observed) {
        let mut paths = vec![PathBuf::from(ROOTS_OWN_POLICY), POLICY.into()];
        match self.files.read(Path::new(POLICY)) {
            Ok(Some(seen)) => {
                paths.extend(Policy::parse(&seen.bytes).map(|policy| policy.keys()).unwrap_or_default());
                observed.files.insert(POLICY.into(), seen);
            }
            Ok(None) => {}
            Err(error) => observed.odd.push(format!("{error:#}")),
        }
        let dirs: BTreeSet<PathBuf> =
            paths.iter().skip(1).flat_map(|path| path.ancestors().skip(1)).map(Path::to_owned).collect();
        for path in paths.into_iter().chain(dirs) {
            match self.owner_of(&path) {
                Ok(owner) => _ = observed.trust.insert(path, Ok(owner)),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => _ = observed.trust.insert(path, Err(error.to_string())),
            }
        }
    }

    /// Whether the readiness path answers 2xx now. An instance without a port is ready as long as its unit is active:
    /// a command in its container would cost more than all the rest of `status`.
    pub async fn is_ready(&self, target: &Target, ask: &Probe) -> bool {
        let (Some(at), Check::Http(ask)) = (target.upstream, &ask.check) else { return true };
        let answer = probe(SocketAddr::V4(at), &ask.path, &ask.host, ask.https, ask.answer).await;
        answer.is_ok_and(|a| (200..300).contains(&a.status))
    }

    /// All images (a rollback may need a repository that the config no longer names), and the free space of
    /// their store. `None`: the engine does not answer.
    async fn ask_images(&self) -> Option<Images> {
        let engine = self.engine.as_ref()?;
        let (images, store) = tokio::join!(engine.images(), engine.image_store_path());
        Some((images.ok(), self.files.free_bytes(&store.ok()?).ok()))
    }

    /// Engine and container labels. They stay unknown if the engine does not answer.
    async fn see_engine(&self, scope: &Scope, images: Option<Images>, observed: &mut Observed) {
        let Some(engine) = &self.engine else { return };
        let (version, containers) = tokio::join!(engine.version(), engine.containers());
        // An engine that cannot list containers counts as silent: no instance is restarted for that.
        let (Ok(version), Ok(containers)) = (version, containers) else { return };
        observed.engine = Some(EngineSeen { engine: engine.kind(), version });
        if scope.networks {
            observed.networks = engine.networks().await.ok();
        }
        if let Some((listed, free)) = images {
            observed.images_unknown = listed.is_none();
            (observed.images, observed.free_bytes) = (listed.unwrap_or_default(), free);
        }
        let unit_of = |name: &str| {
            let instance = scope.instances.iter().find(|(t, _)| t.container == name);
            instance.map_or_else(|| format!("{name}.service"), |(t, _)| t.unit.clone())
        };
        // The units are read after the container list: cron containers come and go with their service, and
        // one whose service runs by now is no leftover.
        let jobs = containers.iter().filter(|c| c.name.starts_with(CRON_PREFIX)).map(|c| unit_of(&c.name));
        let Ok(jobs) = self.systemd.units(&jobs.collect::<Vec<_>>()).await else { return };
        let idle = |c: &&ContainerSeen| {
            let name = unit_of(&c.name);
            let unit = jobs.get(&name).or_else(|| observed.units.get(&name));
            let ours = c.labels.contains_key("astra.release") || unit.is_some();
            ours && c.state != "running" && !unit.is_some_and(UnitSeen::is_up)
        };
        observed.strays = containers
            .iter()
            .filter(idle)
            .map(|c| Stray { id: c.id.clone(), name: c.name.clone() })
            .collect();
        for (target, _) in &scope.instances {
            let found = containers.iter().find(|c| c.name == target.container && c.state == "running");
            let runs = found.and_then(|c| {
                // Written where the container is older than the release that is committed.
                let since = c.labels.get("astra.since").and_then(|since| since.parse().ok());
                let release = since.or_else(|| c.labels.get("astra.release")?.parse().ok())?;
                let image = c.labels.get("astra.image")?.parse().ok()?;
                let port = c.labels.get("astra.port").and_then(|port| port.parse().ok());
                Some(Running { release, image, port })
            });
            if let Some(seen) = observed.instances.get_mut(&target.id) {
                seen.runs = runs;
            }
        }
    }

    fn seen(&self) -> BTreeMap<InstanceName, Seen> {
        let file = self.files.read(Path::new(SEEN)).ok().flatten();
        file.and_then(|f| serde_json::from_slice(&f.bytes).ok()).unwrap_or_default()
    }

    /// A cache: if the write fails, the engine is asked again.
    fn remember(&self, observed: &Observed) {
        let seen: BTreeMap<InstanceName, Seen> = observed
            .instances
            .iter()
            .filter(|(_, i)| i.unit.is_active())
            .filter_map(|(id, i)| {
                let invocation = i.unit.invocation.clone();
                Some((*id, Seen { invocation, runs: i.runs.clone()? }))
            })
            .collect();
        if let Ok(bytes) = serde_json::to_vec(&seen) {
            let _ = self.files.write_atomic(Path::new(SEEN), &bytes, 0o600);
        }
    }
}

/// Whether a process listens there. Binds without listening: two agents that check at the same moment do not
/// see each other (socket(7), SO_REUSEADDR).
fn is_busy(ip: Ipv4Addr, port: u16) -> bool {
    let bind = || {
        let socket = tokio::net::TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind(SocketAddr::from((ip, port)))
    };
    bind().is_err_and(|error: std::io::Error| error.kind() == std::io::ErrorKind::AddrInUse)
}

/// Whether another process listens on the instance's address.
fn is_taken(target: &Target) -> bool {
    let busy = |at: SocketAddrV4| is_busy(*at.ip(), at.port()) || is_busy(Ipv4Addr::LOCALHOST, at.port());
    target.upstream.is_some_and(busy)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_listener_is_detected_and_another_check_is_not() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(is_busy(Ipv4Addr::LOCALHOST, port));
        drop(listener);
        let looks = || (0..2000).filter(|_| is_busy(Ipv4Addr::LOCALHOST, port)).count();
        let busy = std::thread::scope(|scope| {
            let all = [(); 4].map(|()| scope.spawn(looks));
            all.map(|one| one.join().unwrap())
        });
        assert_eq!(busy, [0; 4]);
    }
}
