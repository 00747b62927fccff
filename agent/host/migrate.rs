//! Runs the migration. Called by perform.rs.

use std::time::Duration;

use anyhow::{Result, anyhow, bail};

use super::Host;
use super::logs::{LastWords, Start};
use super::perform::UNIT_JOB;
use super::systemd::{JobError, JobResult};
use super::verdict::host_fault;
use crate::model::exit::ExitCode;
use crate::model::name::MIGRATE_UNIT;
use crate::model::step_error::StepError;
use crate::model::unit::{ServiceResult, UnitSeen};

impl Host {
    /// Runs the migration unit to its end. One left by a cut-off run is stopped first: two must never run at
    /// once.
    pub(super) async fn migrate(&self, deadline: Duration) -> Result<(), StepError> {
        self.await_earlier_migration(deadline).await?;
        self.start.replace(Start::now(""));
        let ended = tokio::select! {
            ended = self.systemd.start(MIGRATE_UNIT, deadline) => ended,
            signal = self.signals.wait() => {
                self.systemd.stop(MIGRATE_UNIT, UNIT_JOB).await?;
                // A killed one would leave the host degraded.
                let _ = self.systemd.reset_failed(MIGRATE_UNIT).await;
                return Err(anyhow!("migrating: stopped by {signal}").into());
            }
        };
        let Err(error) = ended else { return Ok(()) };
        let unit = self.systemd.unit(MIGRATE_UNIT).await.unwrap_or_default();
        let said = self.last_words(MIGRATE_UNIT, None).await;
        // A migration that still runs would overlap with the next attempt.
        let _ = self.systemd.stop(MIGRATE_UNIT, UNIT_JOB).await;
        Err(failed(error, &unit, &said).context("migrating").with_log(said.lines))
    }

    async fn await_earlier_migration(&self, deadline: Duration) -> Result<()> {
        let begun = tokio::time::Instant::now();
        while self.systemd.unit(MIGRATE_UNIT).await?.is_up() {
            if begun.elapsed() > deadline {
                bail!("waiting for an earlier migration to end: not within {deadline:?}");
            }
            (self.detail)("waiting for an earlier migration to end");
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(200)) => {}
                signal = self.signals.wait() => bail!("waiting for an earlier migration to end: stopped by {signal}"),
            }
        }
        Ok(())
    }
}

fn failed(error: JobError, unit: &UnitSeen, said: &LastWords) -> StepError {
    let fault = host_fault(&error.result, unit, said);
    let ended = match unit.exit_code.map(ExitCode) {
        // The unit's result would repeat the code.
        Some(code) if error.result == JobResult::Failed => anyhow!("the migration ended with code {code}"),
        _ if error.result == JobResult::Failed && unit.result == ServiceResult::Timeout => {
            anyhow!("the migration did not end within its timeout ([migrate] timeout)")
        }
        _ => anyhow::Error::new(error),
    };
    StepError::blaming(fault, ended)
}
