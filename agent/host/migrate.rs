//! Runs a migration. Called by perform.rs.

use std::time::Duration;

use anyhow::{Result, anyhow, bail};

use super::Host;
use super::logs::{LastWords, Start};
use super::perform::UNIT_JOB;
use super::systemd::{JobError, JobResult};
use super::verdict::host_fault;
use crate::model::exit::ExitCode;
use crate::model::instance::ServiceName;
use crate::model::step_error::StepError;
use crate::model::unit::{ServiceResult, UnitSeen};

impl Host {
    /// Waits until no migration that a cut-off run has left still runs: two must never run at once.
    pub(super) async fn await_earlier_migrations(
        &self,
        unit: &str,
        others: &[String],
        deadline: Duration,
    ) -> Result<(), StepError> {
        for earlier in others.iter().map(String::as_str).chain([unit]) {
            self.await_earlier_migration(earlier, deadline).await?;
        }
        Ok(())
    }

    /// Runs the migration unit of a service to its end.
    pub(super) async fn migrate(
        &self,
        service: ServiceName,
        unit: &str,
        deadline: Duration,
    ) -> Result<(), StepError> {
        let what = format!("migrating{}", service.named(" "));
        self.start.replace(Start::now(""));
        let ended = tokio::select! {
            ended = self.systemd.start(unit, deadline) => ended,
            signal = self.signals.wait() => {
                self.systemd.stop(unit, UNIT_JOB).await?;
                // A killed one would leave the host degraded.
                let _ = self.systemd.reset_failed(unit).await;
                return Err(anyhow!("{what}: stopped by {signal}").into());
            }
        };
        let Err(error) = ended else { return Ok(()) };
        let seen = self.systemd.unit(unit).await.unwrap_or_default();
        let said = self.last_words(unit, None).await;
        // A migration that still runs would overlap with the next attempt.
        let _ = self.systemd.stop(unit, UNIT_JOB).await;
        Err(failed(service, error, &seen, &said).context(what).with_log(said.lines))
    }

    async fn await_earlier_migration(&self, unit: &str, deadline: Duration) -> Result<()> {
        let begun = tokio::time::Instant::now();
        while self.systemd.unit(unit).await?.is_up() {
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

fn failed(service: ServiceName, error: JobError, unit: &UnitSeen, said: &LastWords) -> StepError {
    let fault = host_fault(&error.result, unit, said);
    let ended = match unit.exit_code.map(ExitCode) {
        // The unit's result would repeat the code.
        Some(code) if error.result == JobResult::Failed => anyhow!("the migration ended with code {code}"),
        _ if error.result == JobResult::Failed && unit.result == ServiceResult::Timeout => {
            let table =
                if service.is_app() { "migrate".to_owned() } else { format!("services.{service}.migrate") };
            anyhow!("the migration did not end within its timeout ([{table}] timeout)")
        }
        _ => anyhow::Error::new(error),
    };
    StepError::blaming(fault, ended)
}
