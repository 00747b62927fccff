//! Jobs of systemd: their types, and the task that receives their results.
//!
//! The order that loses no result: the `JobRemoved` stream is open and `Subscribe()` called before the call
//! that makes the job; the answer has the job's path; the signal is matched by that path, whether it came
//! before or after the answer. A stream that is not drained blocks every call on its connection once its
//! queue of 64 is full (zbus), so it has its own connection, and a task that always drains it. A signal stream of
//! the `Manager` proxy would first call `GetNameOwner`, which has no timeout.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::StreamExt;
use tokio::sync::oneshot;
use zbus::{Connection, MatchRule, MessageStream, OwnedObjectPath};

use super::{BUS, MANAGER, ManagerProxy, PATH};
use crate::model::step_error::StepError;

/// The action of a job on its unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// `StartUnit`.
    Start,
    /// `StopUnit`.
    Stop,
    /// `RestartUnit`: also starts a unit that does not run.
    Restart,
}

impl Verb {
    /// Makes the job, and returns its path.
    pub(super) async fn call(self, manager: ManagerProxy<'_>, unit: &str) -> zbus::Result<OwnedObjectPath> {
        let mode = "replace";
        match self {
            Self::Start => manager.start_unit(unit, mode).await,
            Self::Stop => manager.stop_unit(unit, mode).await,
            Self::Restart => manager.restart_unit(unit, mode).await,
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Start => "starting",
            Self::Stop => "stopping",
            Self::Restart => "restarting",
        })
    }
}

/// The result of a job (org.freedesktop.systemd1(5), `JobRemoved`), or why it is unknown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobResult {
    /// The unit is in the requested state.
    Done,
    /// The unit failed.
    Failed,
    /// Another job replaced it.
    Canceled,
    /// The job's own time limit passed (`JobTimeoutSec=`).
    Timeout,
    /// A unit that it requires failed.
    Dependency,
    /// It did not apply to the unit's state.
    Skipped,
    /// An `Assert…=` of the unit was not met (systemd.unit(5)).
    Assert,
    /// A result that newer versions of systemd have, e.g. `collected`.
    Other(String),
    /// systemd rejected the call, or could not be reached.
    Refused,
    /// The deadline passed; the job may still run.
    Deadline,
    /// The deadline passed, and no process of the unit was seen: the job waits, or the bus is gone.
    NotBegun,
}

impl JobResult {
    fn parse(text: &str) -> Self {
        match text {
            "done" => Self::Done,
            "failed" => Self::Failed,
            "canceled" => Self::Canceled,
            "timeout" => Self::Timeout,
            "dependency" => Self::Dependency,
            "skipped" => Self::Skipped,
            "assert" => Self::Assert,
            other => Self::Other(other.to_owned()),
        }
    }

    /// Whether it says something about the unit's own processes. Otherwise another job, a required unit, the
    /// bus or systemd itself ended the job.
    pub(in super::super) fn is_of_the_unit(&self) -> bool {
        match self {
            Self::Done | Self::Failed | Self::Timeout | Self::Deadline => true,
            Self::Canceled
            | Self::Dependency
            | Self::Skipped
            | Self::Assert
            | Self::Other(_)
            | Self::Refused
            | Self::NotBegun => false,
        }
    }
}

impl fmt::Display for JobResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Done => "job done",
            Self::Failed => "job failed",
            Self::Canceled => "job canceled",
            Self::Timeout => "job timed out",
            Self::Dependency => "job failed for a unit that it requires",
            Self::Skipped => "job skipped",
            Self::Assert => "job failed an assertion of its unit",
            Self::Other(text) => return write!(f, "job ended as `{text}`"),
            Self::Refused => "systemd refused",
            Self::Deadline => "waited too long",
            Self::NotBegun => "its process was not seen to begin",
        })
    }
}

/// A job that failed: `restarting astra-app@1.service: job failed: start-limit-hit`.
#[derive(Debug, thiserror::Error)]
#[error("{verb} {unit}: {result}{detail}")]
pub struct JobError {
    /// Full name, with its suffix.
    pub unit: String,
    /// The action that was requested.
    pub verb: Verb,
    /// How the job ended, or why that is unknown.
    pub result: JobResult,
    /// `: ` and the unit's `Result` or its exit code; empty if there is a `source`, which follows in the
    /// chain.
    pub detail: String,
    /// The D-Bus error, if there was one: then the host is to blame, not the unit.
    pub source: Option<zbus::Error>,
}

impl From<JobError> for StepError {
    fn from(error: JobError) -> Self {
        Self::host(error)
    }
}

impl JobError {
    pub(in super::super) fn new(unit: &str, verb: Verb, result: JobResult, detail: String) -> Self {
        Self { unit: unit.to_owned(), verb, result, detail: format!(": {detail}"), source: None }
    }

    pub(in super::super) fn refused(unit: &str, verb: Verb, error: zbus::Error) -> Self {
        let (unit, result) = (unit.to_owned(), JobResult::Refused);
        Self { unit, verb, result, detail: String::new(), source: Some(error) }
    }
}

/// The results of jobs, received by one task.
#[derive(Clone, Debug)]
pub(super) struct Jobs {
    table: Arc<Mutex<Table>>,
    connection: Connection,
}

#[derive(Debug, Default)]
struct Table {
    /// Open tickets, whose job path is unknown or still waited for: while there is one, results are kept.
    tickets: usize,
    ended: HashMap<OwnedObjectPath, JobResult>,
    waiting: HashMap<OwnedObjectPath, oneshot::Sender<JobResult>>,
    /// The stream has ended: no more results will arrive.
    closed: bool,
}

/// Number, path, unit and result of a job.
type Removed = (u32, OwnedObjectPath, String, String);

impl Jobs {
    /// Listens on `connection`, which must not be used otherwise.
    pub(super) async fn listen(connection: Connection) -> Result<Self, zbus::Error> {
        let rule = MatchRule::builder()
            .msg_type(zbus::message::Type::Signal)
            .sender(BUS)
            .interface(MANAGER)
            .member("JobRemoved")
            .path(PATH)
            .build()?;
        let mut stream = MessageStream::for_match_rule(rule, &connection, None).await?;
        let table = Arc::new(Mutex::new(Table::default()));
        let heard = Arc::clone(&table);
        tokio::spawn(async move {
            while let Some(message) = stream.next().await {
                let Ok(message) = message else { break };
                let removed: Result<Removed, _> = message.body().deserialize();
                if let Ok((_, job, _, result)) = removed {
                    lock(&heard).heard(job, JobResult::parse(&result));
                }
            }
            let mut table = lock(&heard);
            table.closed = true;
            table.waiting.clear();
        });
        ManagerProxy::new(&connection).await?.subscribe().await?;
        Ok(Self { table, connection })
    }

    pub(super) fn alive(&self) -> bool {
        !self.connection.is_closed() && !lock(&self.table).closed
    }

    /// Must be called before the call that makes a job.
    pub(super) fn ticket(&self) -> JobTicket {
        lock(&self.table).tickets += 1;
        JobTicket { table: Arc::clone(&self.table) }
    }
}

impl Table {
    fn heard(&mut self, job: OwnedObjectPath, result: JobResult) {
        if let Some(waiter) = self.waiting.remove(&job) {
            // The waiter is gone: its deadline has passed.
            let _ = waiter.send(result);
        } else if self.tickets > 0 {
            self.ended.insert(job, result);
        }
    }
}

/// A call that makes a job. While it exists, results are kept.
#[derive(Debug)]
pub(in super::super) struct JobTicket {
    table: Arc<Mutex<Table>>,
}

impl JobTicket {
    /// Waits for the result of `job`; `None` if the bus was lost. Has no deadline of its own.
    pub(super) async fn end_of(self, job: &OwnedObjectPath) -> Option<JobResult> {
        let end = {
            let mut table = lock(&self.table);
            if let Some(result) = table.ended.remove(job) {
                return Some(result);
            }
            if table.closed {
                return None;
            }
            let (tell, end) = oneshot::channel();
            table.waiting.insert(job.clone(), tell);
            end
        };
        end.await.ok()
    }
}

impl Drop for JobTicket {
    fn drop(&mut self) {
        let mut table = lock(&self.table);
        table.tickets = table.tickets.saturating_sub(1);
        if table.tickets == 0 {
            table.ended.clear();
            table.waiting.retain(|_, waiter| !waiter.is_closed());
        }
    }
}

fn lock(table: &Mutex<Table>) -> MutexGuard<'_, Table> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}
