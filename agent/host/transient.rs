//! Runs a command as a transient unit (systemd-run(1)): it survives the caller's terminal, runs in the
//! sandbox of the drop-ins for its name, and writes to the caller's own descriptors; when it is killed,
//! systemd starts another unit for it. Called by cli/ to run a mutating verb.

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use futures_util::StreamExt;
use tokio::sync::{Mutex, Notify};
use tokio::time::Instant;
use zbus::{Connection, Fd, MatchRule, MessageStream, Variant};

use super::systemd::{
    BUS, JobError, JobResult, ManagerProxy, Properties, SERVICE, Systemd, UNIT, Verb, active, get, is,
    unit_path,
};
use crate::model::unit::ActiveState;

/// Limit until the command's `execve`; everything before it is systemd's own work.
const START: Duration = Duration::from_secs(30);
/// Poll interval for a run, besides signals.
const POLL: Duration = Duration::from_secs(2);
/// Limit until a lost bus is back.
const BUS_BACK: Duration = Duration::from_secs(60);

/// The command and its unit's settings.
#[derive(Debug)]
pub struct Transient<'a> {
    /// `astra-agent-run.service`
    pub name: &'a str,
    /// Shown by `systemctl status`; never a secret.
    pub description: &'a str,
    /// The command; the first is an absolute path. Taken literally: no specifiers, no variables.
    pub argv: &'a [String],
    /// Limit of the whole run (`RuntimeMaxSec=`).
    pub limit: Option<Duration>,
    /// Variables of the command, which `systemctl show` gives to every user: never a secret.
    pub env: &'a [(String, String)],
    /// The command's standard output.
    pub stdout: BorrowedFd<'a>,
    /// The command's standard error.
    pub stderr: BorrowedFd<'a>,
    /// The unit that systemd starts when the command fails or is killed; empty for none.
    pub on_failure: &'a str,
    /// Exit codes that count as success (`SuccessExitStatus=`), besides 0.
    pub success_exit: &'a [i32],
    /// Time between SIGTERM and SIGKILL.
    pub stop_timeout: Duration,
}

/// Why a command was not run.
#[derive(Debug, thiserror::Error)]
pub enum TransientError {
    /// A unit of that name exists already: another run.
    #[error(
        "starting {0}: a unit of that name exists already (systemd before 252 also says so of a new unit with drop-ins)"
    )]
    UnitExists(String),
    /// systemd could not execute it, e.g. because of its sandbox.
    #[error(transparent)]
    Job(#[from] JobError),
    /// systemd or the bus could not be reached.
    #[error(transparent)]
    Other(#[from] anyhow::Error),
}

/// How the command ended: exactly one of the two is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// The exit code, 0 to 255.
    pub code: Option<i32>,
    /// The signal that killed it (signal(7)).
    pub signal: Option<i32>,
}

/// A command that runs or has run.
#[derive(Debug)]
pub struct TransientRun<'a> {
    systemd: &'a Systemd,
    unit: String,
    changed: Arc<Notify>,
    /// Dropping this ends the task that drains its signals.
    _signals: Connection,
    /// While this connection lives, systemd keeps the unit's exit status (`AddRef`).
    reference: Mutex<Connection>,
}

/// Runs a command; returns when systemd has executed it. It may have ended by then.
///
/// # Errors
///
/// The unit's name is in use, systemd cannot execute the command, or does not answer.
pub async fn run_transient<'a>(
    systemd: &'a Systemd,
    transient: Transient<'_>,
) -> Result<TransientRun<'a>, TransientError> {
    let unit = transient.name.to_owned();
    let doing = || format!("starting {unit}");
    let body = bodies(&transient).with_context(doing)?;
    let changed = Arc::new(Notify::new());
    let signals = watch(systemd, &unit, Arc::clone(&changed)).await.with_context(doing)?;
    let reference = systemd.open().await.with_context(doing)?;
    let begin = async {
        let ticket = systemd.ticket().await?;
        let manager = ManagerProxy::new(&reference).await?;
        Ok::<_, zbus::Error>((ticket, manager.start_transient_unit(&unit, "fail", &body, &[]).await?))
    };
    let (ticket, job) = match begin.await {
        Ok(begun) => begun,
        Err(error) if is(&error, "UnitExists") => return Err(TransientError::UnitExists(unit)),
        Err(error) => return Err(JobError::refused(&unit, Verb::Start, error).into()),
    };
    let ended = tokio::time::timeout(START, systemd.outcome(ticket, &job, &unit, Verb::Start)).await;
    let run = TransientRun { systemd, unit, changed, _signals: signals, reference: Mutex::new(reference) };
    let unit = run.unit.as_str();
    match ended {
        Ok(JobResult::Done) => Ok(run),
        // It was executed and killed at once: `wait` reports that.
        Ok(_) if matches!(run.look().await, Ok(Some(Exit { signal: Some(_), .. }))) => Ok(run),
        Ok(result) => Err(JobError::new(unit, Verb::Start, result, systemd.why(unit).await).into()),
        Err(_) => Err(systemd.late(unit, Verb::Start, START).await.into()),
    }
}

impl TransientRun<'_> {
    /// Waits until the command has ended; only its own deadlines and the unit's limit this. Waits up to a
    /// minute for a lost bus. Fails if systemd has lost the unit's state, which takes a bus that is down
    /// exactly when the command ends.
    ///
    /// # Errors
    ///
    /// systemd has lost the unit's state, or the bus does not return.
    pub async fn wait(&self) -> anyhow::Result<Exit> {
        let mut heard = Instant::now();
        loop {
            match self.look().await {
                Ok(Some(exit)) => {
                    // Closing the connection has the same effect, only later.
                    let _ = self.release().await;
                    return Ok(exit);
                }
                Ok(None) => heard = Instant::now(),
                Err(error) if !error.is::<zbus::Error>() || heard.elapsed() > BUS_BACK => {
                    return Err(error.context(format!("waiting for {}", self.unit)));
                }
                Err(_) => tokio::time::sleep(POLL / 10).await,
            }
            // `notified` stores a permit for a change since the last poll, so none is missed.
            let _ = tokio::time::timeout(POLL, self.changed.notified()).await;
        }
    }

    async fn release(&self) -> Result<(), zbus::Error> {
        ManagerProxy::new(&*self.reference.lock().await).await?.unref_unit(&self.unit).await
    }

    /// A restarted bus has dropped the reference to the unit: takes it again.
    async fn hold(&self) -> Result<(), zbus::Error> {
        let mut reference = self.reference.lock().await;
        if reference.is_closed() {
            let fresh = self.systemd.open().await?;
            match ManagerProxy::new(&fresh).await?.ref_unit(&self.unit).await {
                // The unit has ended and was collected meanwhile: the next poll reports it.
                Err(error) if !is(&error, "NoSuchUnit") => return Err(error),
                _ => *reference = fresh,
            }
        }
        Ok(())
    }

    /// Sends `signal` to the command, which decides what to do.
    ///
    /// # Errors
    ///
    /// The command has ended, or systemd does not answer.
    pub async fn interrupt(&self, signal: i32) -> anyhow::Result<()> {
        self.systemd.kill(&self.unit, signal).await
    }

    /// The unit's name.
    pub fn unit(&self) -> &str {
        &self.unit
    }

    async fn look(&self) -> anyhow::Result<Option<Exit>> {
        self.hold().await?;
        let path = unit_path(&self.unit);
        let unit: Properties = self.systemd.properties(&path, UNIT).await?;
        if !matches!(active(&unit), ActiveState::Inactive | ActiveState::Failed) {
            return Ok(None);
        }
        let service = self.systemd.properties(&path, SERVICE).await?;
        let status: Option<i32> = get(&service, "ExecMainStatus");
        // waitid(2): CLD_EXITED, CLD_KILLED, CLD_DUMPED.
        match get::<i32>(&service, "ExecMainCode") {
            Some(1) => Ok(Some(Exit { code: status, signal: None })),
            Some(2 | 3) => Ok(Some(Exit { code: None, signal: status })),
            _ => anyhow::bail!("systemd no longer knows how it ended"),
        }
    }
}

/// Wakes `changed` whenever systemd signals a change of the unit. Uses its own connection, always drained.
async fn watch(systemd: &Systemd, unit: &str, changed: Arc<Notify>) -> Result<Connection, zbus::Error> {
    let connection = systemd.open().await?;
    let rule = MatchRule::builder()
        .msg_type(zbus::message::Type::Signal)
        .sender(BUS)
        .interface("org.freedesktop.DBus.Properties")
        .member("PropertiesChanged")
        .path(unit_path(unit))
        .build()?;
    let mut stream = MessageStream::for_match_rule(rule, &connection, None).await?;
    tokio::spawn(async move {
        while stream.next().await.is_some() {
            changed.notify_one();
        }
        changed.notify_one();
    });
    ManagerProxy::new(&connection).await?.subscribe().await?;
    Ok(connection)
}

/// Escapes arguments for systemd, which expands `$NAME` and reads `$$` as `$`.
fn literal(argv: &[String]) -> Vec<String> {
    argv.iter().map(|word| word.replace('$', "$$")).collect()
}

/// The unit's properties in D-Bus types (org.freedesktop.systemd1(5), "Service Unit Objects").
fn bodies<'a>(transient: &'a Transient<'_>) -> anyhow::Result<Vec<(String, Variant<'a>)>> {
    let binary = transient.argv.first().context("the command is empty")?;
    let environment: Vec<String> =
        transient.env.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let fixed: [(&str, Variant<'a>); 12] = [
        ("Description", transient.description.into()),
        ("Type", "exec".into()),
        // Not "ExecStartEx": systemd 252 writes that name to the unit's file, and cannot read it back at a
        // reload.
        ("ExecStart", vec![(binary.clone(), literal(transient.argv), false)].into()),
        ("Environment", environment.into()),
        ("StandardInput", "null".into()),
        ("StandardOutputFileDescriptor", Fd::from(transient.stdout).into()),
        ("StandardErrorFileDescriptor", Fd::from(transient.stderr).into()),
        ("SuccessExitStatus", (transient.success_exit.to_vec(), Vec::<i32>::new()).into()),
        ("KillMode", "mixed".into()),
        ("TimeoutStopUSec", micros(transient.stop_timeout).into()),
        ("CollectMode", "inactive-or-failed".into()),
        ("AddRef", true.into()),
    ];
    let mut all: Vec<(String, Variant<'a>)> = fixed.map(|(name, value)| (name.to_owned(), value)).into();
    if !transient.on_failure.is_empty() {
        all.push(("OnFailure".to_owned(), vec![transient.on_failure].into()));
    }
    if let Some(limit) = transient.limit {
        all.push(("RuntimeMaxUSec".to_owned(), micros(limit).into()));
    }
    Ok(all)
}

/// systemd's unit of time.
fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_passed_literally_in_a_form_that_systemd_252_reads_back() {
        let nowhere = std::fs::File::options().write(true).open("/dev/null").unwrap();
        let argv = ["/bin/echo", "$HOME", "${A}$$"].map(str::to_owned);
        let transient = Transient {
            name: "x.service",
            description: "",
            argv: &argv,
            limit: Some(START),
            env: &[],
            stdout: std::os::fd::AsFd::as_fd(&nowhere),
            stderr: std::os::fd::AsFd::as_fd(&nowhere),
            on_failure: "",
            success_exit: &[],
            stop_timeout: START,
        };
        let all = bodies(&transient).unwrap();
        assert!(all.iter().all(|(name, _)| !name.ends_with("Ex")));
        let (_, command) = all.iter().find(|(name, _)| name == "ExecStart").unwrap();
        assert_eq!(command.value_signature().to_string(), "a(sasb)");
        let text = format!("{command:?}");
        assert!(text.contains("\"$$HOME\"") && text.contains("\"$${A}$$$$\""), "{text}");
    }
}
