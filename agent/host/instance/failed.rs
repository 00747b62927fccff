//! Why an instance did not start or has ended, and who is to blame. Called by instance.rs.

use anyhow::anyhow;

use crate::host::Host;
use crate::host::systemd::JobError;
use crate::host::verdict::host_fault;
use crate::model::exit::ExitCode;
use crate::model::observed::Engine;
use crate::model::step::Target;
use crate::model::step_error::StepError;
use crate::model::unit::{ServiceResult, UnitSeen};

impl Host {
    /// A start that failed, or that systemd did not even try.
    pub(super) async fn start_failed(&self, instance: &Target, error: JobError) -> StepError {
        let unit = self.systemd.unit(&instance.unit).await.unwrap_or_default();
        if let (true, Some(signal)) = (error.result.is_of_the_unit(), unit.killed_by()) {
            return self.killed(instance, signal, "started").await;
        }
        let said = self.last_words(&instance.unit, Some(&instance.container)).await;
        StepError::blaming(host_fault(&error.result, &unit, &said), error).with_log(said.lines)
    }

    /// An instance that has ended, and why.
    pub(super) async fn ended(&self, instance: &Target, unit: &UnitSeen, when: &str) -> StepError {
        if let Some(signal) = unit.killed_by() {
            return self.killed(instance, signal, "ran").await;
        }
        // Restart=always would restart it, had it ended by itself.
        let skipped = unit.result == ServiceResult::ExecCondition;
        let error = match unit.was_stopped() {
            true if skipped => StepError::host(anyhow!("a condition of {instance} is not met")),
            true => StepError::host(anyhow!("{instance} was stopped (`systemctl stop`?)")),
            false => StepError::release(anyhow!("{instance}: {} {when}", died(unit))),
        };
        self.explain(instance, error).await
    }

    /// The release is not to blame: the process that held its container was killed.
    async fn killed(&self, instance: &Target, signal: i32, did: &str) -> StepError {
        let engine = match self.engine.as_ref().map(|engine| engine.kind()) {
            Some(Engine::Docker) => "docker",
            _ => "podman",
        };
        let error = anyhow!(
            "{engine} was killed (signal {signal}) while it {did} {instance}: journalctl -u {instance}"
        );
        self.explain(instance, StepError::host(error).context("the engine failed")).await
    }

    /// Adds the container's last log lines to the error.
    pub(super) async fn explain(&self, instance: &Target, error: StepError) -> StepError {
        error.with_log(self.last_words(&instance.unit, Some(&instance.container)).await.lines)
    }
}

fn died(unit: &UnitSeen) -> String {
    match unit.exit_code {
        Some(code) if unit.result == ServiceResult::ExitCode || code != 0 => {
            format!("it exited with code {}", ExitCode(code))
        }
        _ if unit.result.is_failure() => format!("it ended ({})", unit.result),
        _ => "it exited".to_owned(),
    }
}
