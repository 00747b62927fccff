//! systemd over D-Bus (org.freedesktop.systemd1(5)): the state of units, and jobs with their results.
//!
//! Two connections: one for calls, and one on which a single task drains `JobRemoved` (systemd/jobs.rs says
//! why). Both are made when first needed, and again after the bus dropped them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result};
use futures_util::future::try_join_all;
use tokio::sync::Mutex;
use zbus::{Connection, OwnedObjectPath, OwnedVariant};

mod bus;
mod jobs;
mod wait;

use crate::model::problem::Problem;
use crate::model::unit::{ActiveState, LoadState, ServiceResult, SubState, UnitFileState, UnitSeen};
pub(super) use bus::{ManagerProxy, Properties};
use bus::{PropertiesProxy, TimeDateProxy};
use jobs::Jobs;
pub use jobs::{JobError, JobResult, Verb};

pub(super) const BUS: &str = "org.freedesktop.systemd1";
pub(super) const MANAGER: &str = "org.freedesktop.systemd1.Manager";
pub(super) const PATH: &str = "/org/freedesktop/systemd1";
pub(super) const UNIT: &str = "org.freedesktop.systemd1.Unit";
pub(super) const SERVICE: &str = "org.freedesktop.systemd1.Service";

/// Limit for the answer to one call. A reload of a busy host takes 0.1 s.
const CALL: Duration = Duration::from_secs(25);
const CONNECT: Duration = Duration::from_secs(10);
/// Limit until a killed bus is back, and the poll interval.
const RESTART: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(50);

/// The service manager behind one bus.
#[derive(Debug)]
pub struct Systemd {
    /// Address of the bus; `None`: the system bus.
    bus: Option<String>,
    calls: Mutex<Option<Connection>>,
    jobs: Mutex<Option<Jobs>>,
}

/// Every call fails if systemd refuses it, or does not answer within 25 s; a job also fails with its unit, and
/// at its deadline.
#[allow(clippy::missing_errors_doc, reason = "all calls fail alike, as said above")]
impl Systemd {
    /// Connects to the system bus. Fails if it does not accept within 10 s.
    pub async fn connect() -> Result<Self> {
        Self::at(None).await
    }

    /// Like [`Systemd::connect`], to the bus at this D-Bus address if there is one.
    pub async fn at(bus: Option<String>) -> Result<Self> {
        let new = Self { bus, calls: Mutex::default(), jobs: Mutex::default() };
        let _ = new.connection().await.map_err(|error| {
            let fix = "look at `systemctl status dbus`, restart it";
            Problem::host("bus", format!("connecting to systemd over D-Bus: {error}"), fix)
        })?;
        Ok(new)
    }

    /// The current state of a unit. A unit that does not exist is no error: its `load` is `not-found`.
    /// `result`, `restarts`, `main_pid` and `exit_code` are filled only for a service.
    pub async fn unit(&self, name: &str) -> Result<UnitSeen> {
        self.read(name).await.with_context(|| format!("reading the state of {name}"))
    }

    /// Several units, with all calls in flight together.
    pub async fn units(&self, names: &[String]) -> Result<BTreeMap<String, UnitSeen>> {
        let all =
            names.iter().map(|name| async { Ok::<_, anyhow::Error>((name.clone(), self.unit(name).await?)) });
        Ok(try_join_all(all).await?.into_iter().collect())
    }

    async fn read(&self, name: &str) -> Result<UnitSeen> {
        let path = unit_path(name);
        let (unit, service) = tokio::try_join!(self.properties(&path, UNIT), async {
            match name.ends_with(".service") {
                true => self.properties(&path, SERVICE).await,
                false => Ok(Properties::new()),
            }
        })?;
        let invocation: Vec<u8> = get(&unit, "InvocationID").unwrap_or_default();
        let (job, _): (u32, OwnedObjectPath) = get(&unit, "Job").unwrap_or_default();
        let status = get(&service, "ExecMainStatus").unwrap_or_default();
        let main = (get(&service, "ExecMainCode").unwrap_or_default(), status);
        // waitid(2): CLD_EXITED; CLD_KILLED and CLD_DUMPED.
        let (exit_code, signal) = match failed_before_main(&service).unwrap_or(main) {
            (1, status) => (Some(status), None),
            (2 | 3, status) => (None, Some(status)),
            _ => (None, None),
        };
        Ok(UnitSeen {
            load: LoadState::parse(&word(&unit, "LoadState")),
            active: active(&unit),
            sub: SubState::parse(&word(&unit, "SubState")),
            enabled: UnitFileState::parse(&word(&unit, "UnitFileState")),
            result: ServiceResult::parse(&word(&service, "Result")),
            restarts: get(&service, "NRestarts").unwrap_or_default(),
            invocation: invocation.iter().map(|byte| format!("{byte:02x}")).collect(),
            main_pid: get(&service, "MainPID").unwrap_or_default(),
            need_reload: get(&unit, "NeedDaemonReload").unwrap_or_default(),
            exit_code,
            signal,
            skipped: get::<u64>(&unit, "ConditionTimestamp").is_some_and(|at| at > 0)
                && get(&unit, "ConditionResult") == Some(false),
            job: job != 0,
        })
    }

    /// All properties of one interface of an object. systemd loads the unit of that path, like `LoadUnit`.
    pub(super) async fn properties(&self, path: &str, interface: &str) -> Result<Properties, zbus::Error> {
        self.call(async |bus| PropertiesProxy::new(bus, path).await?.get_all(interface).await).await
    }

    /// Names of units that match one of the glob `patterns`: loaded ones, and unit files (templates as
    /// `NAME@.service`). Includes a running unit whose file is gone.
    pub async fn list(&self, patterns: &[&str]) -> Result<Vec<String>> {
        let any_state = &[];
        let (loaded, files) = tokio::try_join!(
            self.manager(async |manager| manager.list_units_by_patterns(any_state, patterns).await),
            self.manager(async |manager| manager.list_unit_files_by_patterns(any_state, patterns).await),
        )
        .with_context(|| format!("listing the units {}", patterns.join(", ")))?;
        let loaded = loaded
            .into_iter()
            .filter(|(_, _, load, active, ..)| {
                LoadState::parse(load) != LoadState::NotFound
                    || ActiveState::parse(active) != ActiveState::Inactive
            })
            .map(|(name, ..)| name);
        let files = files.into_iter().filter_map(|(path, _)| Some(path.rsplit('/').next()?.to_owned()));
        Ok(loaded.chain(files).collect::<BTreeSet<_>>().into_iter().collect())
    }

    /// Starts a unit and waits for its job: for `Type=notify` until READY, for a oneshot until its end. The
    /// job result is not enough: the unit may have died right after.
    pub async fn start(&self, unit: &str, deadline: Duration) -> Result<(), JobError> {
        self.job(unit, Verb::Start, deadline).await
    }

    /// Stops a unit and waits for its job. A unit that does not exist counts as stopped.
    pub async fn stop(&self, unit: &str, deadline: Duration) -> Result<(), JobError> {
        self.job(unit, Verb::Stop, deadline).await
    }

    /// Restarts a unit, or starts it if it does not run, and waits for its job.
    pub async fn restart(&self, unit: &str, deadline: Duration) -> Result<(), JobError> {
        self.job(unit, Verb::Restart, deadline).await
    }

    /// `systemctl daemon-reload`.
    pub async fn reload(&self) -> Result<()> {
        self.manager(async |manager| manager.reload().await).await.context("reloading the unit files")
    }

    /// `systemctl enable`, without a reload. Already enabled units are no error.
    pub async fn enable(&self, units: &[&str]) -> Result<()> {
        self.manager(async |manager| manager.enable_unit_files(units, false, false).await)
            .await
            .map(drop)
            .with_context(|| format!("enabling {}", units.join(", ")))
    }

    /// `systemctl disable`, without a reload. A missing unit file is no error.
    pub async fn disable(&self, units: &[&str]) -> Result<()> {
        match self.manager(async |manager| manager.disable_unit_files(units, false).await).await {
            Err(error) if !is(&error, "NoSuchUnit") && !is(&error, "FileNotFound") => {
                Err(error).with_context(|| format!("disabling {}", units.join(", ")))
            }
            _ => Ok(()),
        }
    }

    /// `systemctl reset-failed`: also ends a start limit. A unit that is not loaded is no error.
    pub async fn reset_failed(&self, unit: &str) -> Result<()> {
        match self.manager(async |manager| manager.reset_failed_unit(unit).await).await {
            Err(error) if !is(&error, "NoSuchUnit") => {
                Err(error).with_context(|| format!("resetting the failed state of {unit}"))
            }
            _ => Ok(()),
        }
    }

    /// Sends signal number `signal` (signal(7)) to the main process of `unit`.
    pub async fn kill(&self, unit: &str, signal: i32) -> Result<()> {
        self.manager(async |manager| manager.kill_unit(unit, "main", signal).await)
            .await
            .with_context(|| format!("sending signal {signal} to {unit}"))
    }

    /// Whether the kernel's clock is synchronised to a time server (org.freedesktop.timedate1(5), which
    /// systemd starts on demand); `None` if unknown.
    pub async fn clock_synchronised(&self) -> Option<bool> {
        let connection = self.connection().await.ok()?;
        TimeDateProxy::new(&connection).await.ok()?.is_synchronised().await.ok()
    }

    /// Whether systemd runs in a container, and so on another system's kernel (as systemd-detect-virt(1)
    /// reports).
    pub async fn is_in_container(&self) -> bool {
        let known = [
            "docker",
            "lxc",
            "lxc-libvirt",
            "openvz",
            "podman",
            "proot",
            "pouch",
            "rkt",
            "systemd-nspawn",
            "wsl",
            "container-other",
        ];
        let manager = self.properties(PATH, MANAGER).await.unwrap_or_default();
        get::<String>(&manager, "Virtualization").is_some_and(|virt| known.contains(&virt.as_str()))
    }

    /// A call of the manager.
    pub(super) async fn manager<R>(
        &self,
        call: impl AsyncFn(ManagerProxy<'_>) -> Result<R, zbus::Error>,
    ) -> Result<R, zbus::Error> {
        self.call(async |bus| call(ManagerProxy::new(bus).await?).await).await
    }

    /// A D-Bus call. Every call here may be repeated: a second start of a unit finds the job of the first.
    async fn call<R>(
        &self,
        call: impl AsyncFn(&Connection) -> Result<R, zbus::Error>,
    ) -> Result<R, zbus::Error> {
        retry_on_reconnect(async || {
            let connection = self.connection().await?;
            match call(&connection).await {
                Err(error @ (zbus::Error::MethodError(..) | zbus::Error::FDO(_))) => Err(error),
                Err(_) if connection.is_closed() => {
                    Err(std::io::Error::from(std::io::ErrorKind::NotConnected).into())
                }
                other => other,
            }
        })
        .await
    }

    /// The connection that calls go over.
    pub(super) async fn connection(&self) -> Result<Connection, zbus::Error> {
        let mut slot = self.calls.lock().await;
        match slot.as_ref() {
            Some(connection) if !connection.is_closed() => Ok(connection.clone()),
            _ => Ok(slot.insert(self.open().await?).clone()),
        }
    }

    /// A new connection of its own. On a bus that was just restarted systemd is not there yet, and a call to
    /// it would be lost silently.
    pub(super) async fn open(&self) -> Result<Connection, zbus::Error> {
        let builder = match &self.bus {
            Some(address) => zbus::connection::Builder::address(address.as_str()),
            None => zbus::connection::Builder::system(),
        };
        let connection =
            tokio::time::timeout(CONNECT, builder.method_timeout(CALL).build()).await.unwrap_or_else(
                |_| Err(zbus::Error::Failure("the bus did not accept the connection within 10 s".to_owned())),
            )?;
        let until = tokio::time::Instant::now() + RESTART;
        while !self.is_on(&connection).await? && tokio::time::Instant::now() < until {
            tokio::time::sleep(POLL).await;
        }
        Ok(connection)
    }

    async fn is_on(&self, connection: &Connection) -> Result<bool, zbus::Error> {
        let (bus, path) = ("org.freedesktop.DBus", "/org/freedesktop/DBus");
        connection
            .call_method(Some(bus), path, Some(bus), "NameHasOwner", &(BUS,))
            .await?
            .body()
            .deserialize()
    }
}

/// A property, if it exists and has that type.
pub(super) fn get<T: TryFrom<OwnedVariant>>(properties: &Properties, name: &str) -> Option<T> {
    T::try_from(properties.get(name)?.try_clone().ok()?).ok()
}

/// A unit's `ActiveState`.
pub(super) fn active(unit: &Properties) -> ActiveState {
    ActiveState::parse(&word(unit, "ActiveState"))
}

fn word(properties: &Properties, name: &str) -> String {
    get(properties, name).unwrap_or_default()
}

/// An entry of `ExecStartPre=`: path, argv, whether a failure is ignored, start and end (by the clock and
/// monotonic), process id, and its waitid(2) code and status.
type ExecStatus = (String, Vec<String>, bool, u64, u64, u64, u64, u32, i32, i32);

/// How the command failed that kept the last start from reaching its main process: docker's unit starts its
/// container there.
fn failed_before_main(service: &Properties) -> Option<(i32, i32)> {
    let main_began: u64 = get(service, "ExecMainStartTimestampMonotonic").unwrap_or_default();
    let commands: Vec<ExecStatus> = get(service, "ExecStartPre")?;
    let failed = |(_, _, ignored, _, _, _, ended, _, code, status): ExecStatus| {
        (!ignored && ended > main_began && (code, status) != (1, 0)).then_some((code, status))
    };
    commands.into_iter().find_map(failed)
}

/// Whether `error` is systemd's `org.freedesktop.systemd1.NAME` (or the standard error of that name). Names
/// are stable, texts are not.
pub(super) fn is(error: &zbus::Error, name: &str) -> bool {
    match error {
        zbus::Error::MethodError(full, ..) => full.as_str().rsplit('.').next() == Some(name),
        zbus::Error::FDO(inner) => {
            use zbus::DBusError;
            inner.name().as_str().rsplit('.').next() == Some(name)
        }
        _ => false,
    }
}

/// Retries once on a new connection when the bus has dropped the old one, and further while the bus restarts:
/// a dying bus may accept a connection and drop it as well.
pub(super) async fn retry_on_reconnect<T>(
    attempt: impl AsyncFn() -> Result<T, zbus::Error>,
) -> Result<T, zbus::Error> {
    let until = tokio::time::Instant::now() + RESTART;
    loop {
        match attempt().await {
            Err(error) if dropped(&error) && tokio::time::Instant::now() < until => {
                tokio::time::sleep(POLL).await;
            }
            other => return other,
        }
    }
}

/// Whether the error only means a lost connection.
fn dropped(error: &zbus::Error) -> bool {
    use std::io::ErrorKind as Kind;
    match error {
        zbus::Error::InputOutput(error) => matches!(
            error.kind(),
            Kind::BrokenPipe | Kind::ConnectionReset | Kind::NotConnected | Kind::UnexpectedEof
        ),
        zbus::Error::Handshake(_) => true,
        _ => false,
    }
}

/// Object path of a unit (sd_bus_path_encode(3)): every byte but ASCII letters, and digits that do not come
/// first, is written `_xx`.
pub(super) fn unit_path(name: &str) -> String {
    let mut path = format!("{PATH}/unit/");
    for (at, byte) in name.bytes().enumerate() {
        if byte.is_ascii_alphabetic() || (at > 0 && byte.is_ascii_digit()) {
            path.push(char::from(byte));
        } else {
            path.push_str(&format!("_{byte:02x}"));
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_paths_are_escaped_like_systemds() {
        assert_eq!(
            unit_path("astra-app@1.service"),
            "/org/freedesktop/systemd1/unit/astra_2dapp_401_2eservice"
        );
        assert_eq!(unit_path("1.mount"), "/org/freedesktop/systemd1/unit/_31_2emount");
    }
}
