//! Makes jobs and waits for their result, even if the bus is lost meanwhile.

use std::time::Duration;

use tokio::time::Instant;
use zbus::OwnedObjectPath;

use super::jobs::{JobError, JobResult, JobTicket, Jobs, Verb};
use super::{Systemd, UNIT, active, get, is, retry_on_reconnect, unit_path};
use crate::model::exit::ExitCode;
use crate::model::unit::{ActiveState, LoadState, ServiceResult, UnitSeen};

/// Poll interval for a unit once its job's signal is lost.
const POLL: Duration = Duration::from_millis(250);

impl Systemd {
    /// Must be called before the call that makes a job, so that its result cannot be missed.
    pub(in super::super) async fn ticket(&self) -> Result<JobTicket, zbus::Error> {
        Ok(retry_on_reconnect(async || self.jobs().await).await?.ticket())
    }

    async fn jobs(&self) -> Result<Jobs, zbus::Error> {
        let mut slot = self.jobs.lock().await;
        match slot.as_ref() {
            Some(jobs) if jobs.alive() => Ok(jobs.clone()),
            _ => Ok(slot.insert(Jobs::listen(self.open().await?).await?).clone()),
        }
    }

    pub(super) async fn job(&self, unit: &str, verb: Verb, deadline: Duration) -> Result<(), JobError> {
        let until = Instant::now() + deadline;
        let run = async {
            let ticket = self.ticket().await?;
            let job = self.manager(async |manager| verb.call(manager, unit).await).await?;
            Ok::<_, zbus::Error>((ticket, job))
        };
        let (ticket, job) = match tokio::time::timeout_at(until, run).await {
            Ok(Ok(begun)) => begun,
            Ok(Err(error)) if verb == Verb::Stop && is(&error, "NoSuchUnit") => return Ok(()),
            Ok(Err(error)) => return Err(JobError::refused(unit, verb, error)),
            Err(_) => return Err(self.late(unit, verb, deadline).await),
        };
        match tokio::time::timeout_at(until, self.outcome(ticket, &job, unit, verb)).await {
            Ok(JobResult::Done) => Ok(()),
            Ok(result) => Err(JobError::new(unit, verb, result, self.why(unit).await)),
            Err(_) => Err(self.late(unit, verb, deadline).await),
        }
    }

    /// Waits for the result of a job made under the ticket of `ticket`.
    pub(in super::super) async fn outcome(
        &self,
        ticket: JobTicket,
        job: &OwnedObjectPath,
        unit: &str,
        verb: Verb,
    ) -> JobResult {
        match ticket.end_of(job).await {
            Some(result) => result,
            None => self.reread(job, unit, verb).await,
        }
    }

    /// The bus was lost during the wait: polls the job and the unit until the job is gone.
    async fn reread(&self, job: &OwnedObjectPath, unit: &str, verb: Verb) -> JobResult {
        loop {
            if let Ok(seen) = self.properties(&unit_path(unit), UNIT).await {
                let (_, current): (u32, OwnedObjectPath) = get(&seen, "Job").unwrap_or_default();
                if current != *job {
                    return result_by(&active(&seen), verb);
                }
            }
            tokio::time::sleep(POLL).await;
        }
    }

    pub(in super::super) async fn late(&self, unit: &str, verb: Verb, deadline: Duration) -> JobError {
        let seen = self.unit(unit).await;
        // Without the bus, or while the job waits for another unit, nothing is known of the unit's process.
        let runs = seen.as_ref().is_ok_and(UnitSeen::is_up);
        let result = if runs || verb == Verb::Stop { JobResult::Deadline } else { JobResult::NotBegun };
        let state = seen.map(|seen| format!("; it is {} ({})", seen.active, seen.sub));
        let detail =
            format!("its job did not end within {} s{}", deadline.as_secs_f64(), state.unwrap_or_default());
        JobError::new(unit, verb, result, detail)
    }

    /// The unit's own result after a failed job.
    pub(in super::super) async fn why(&self, unit: &str) -> String {
        match self.unit(unit).await {
            Ok(seen) if seen.load != LoadState::Loaded => format!("the unit is {}", seen.load),
            Ok(UnitSeen { exit_code: Some(code), result: ServiceResult::ExitCode, .. }) => {
                format!("exit code {}", ExitCode(code))
            }
            Ok(seen) if seen.result.is_failure() => seen.result.to_string(),
            Ok(seen) => format!("the unit is {} ({})", seen.active, seen.sub),
            Err(error) => format!("{error:#}"),
        }
    }
}

/// The result of a job that was lost, by the state of its unit.
fn result_by(active: &ActiveState, verb: Verb) -> JobResult {
    use ActiveState as A;
    match (verb, active) {
        (Verb::Stop, A::Inactive | A::Failed) => JobResult::Done,
        // A oneshot without RemainAfterExit= is inactive when it has finished.
        (Verb::Start | Verb::Restart, A::Active | A::Inactive) => JobResult::Done,
        (Verb::Start | Verb::Restart, A::Failed) => JobResult::Failed,
        (Verb::Stop, A::Active)
        | (_, A::Reloading | A::Refreshing | A::Activating | A::Deactivating | A::Maintenance)
        | (_, A::Missing | A::Other(_)) => JobResult::Other("lost with the bus".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_result_follows_from_the_state_of_the_unit() {
        let told = |verb| {
            ["active", "inactive", "failed", "activating", "deactivating", "reloading", ""].map(|state| {
                match result_by(&ActiveState::parse(state), verb) {
                    JobResult::Done => "done",
                    JobResult::Failed => "failed",
                    _ => "lost",
                }
            })
        };
        let started = ["done", "done", "failed", "lost", "lost", "lost", "lost"];
        assert_eq!((told(Verb::Start), told(Verb::Restart)), (started, started));
        assert_eq!(told(Verb::Stop), ["lost", "done", "done", "lost", "lost", "lost", "lost"]);
    }
}
