//! Stops an instance, whatever state its start is in. Called by instance.rs and perform.rs.

use std::convert::Infallible;
use std::time::Duration;

use anyhow::Result;
use tokio::time::sleep;

use super::LOOK;
use crate::host::Host;
use crate::host::systemd::{JobError, JobResult};
use crate::model::step::Target;

/// Beyond what the app has to stop: the unit's own margin of 30 s, after which systemd kills what is left and
/// tidies up.
pub(super) const STOP_MARGIN: Duration = Duration::from_secs(60);
/// How often a stop is asked for that others cancel.
const STOP_TRIES: usize = 3;

impl Host {
    /// Stop the instance for good, and forget that it was ever drained or on trial.
    pub(in crate::host) async fn stop_instance(
        &self,
        instance: &Target,
        stop: Duration,
    ) -> Result<Option<String>> {
        self.stop_unit(instance, stop + STOP_MARGIN).await?;
        self.files.remove(&instance.id.trial_file())?;
        self.undrain(instance)?;
        // One that had to be killed has ended as it was to end: systemd must not call the host degraded for it.
        self.systemd.reset_failed(&instance.unit).await.map(|()| None)
    }

    /// Stop an instance, even one that only starts.
    pub(super) async fn stop_unit(&self, instance: &Target, deadline: Duration) -> Result<(), JobError> {
        let mut tries = 1..STOP_TRIES;
        loop {
            // Both at once, not by turns: one may hold the connection that the other needs.
            let ended = tokio::select! {
                ended = self.systemd.stop(&instance.unit, deadline) => ended,
                never = self.insist(instance, deadline) => match never {},
            };
            match ended {
                // A Caddy that systemd restarts wants its instances started (Wants=), whoever stops them.
                Err(error) if error.result == JobResult::Canceled && tries.next().is_some() => {}
                ended => return ended,
            }
        }
    }

    /// A start that is stopped gets one SIGTERM instead of the unit's ExecStop=, and that may be lost: the podman in
    /// front of it takes it and makes conmon the main process all the same, or the app has no handler for it, and the
    /// first process of a container has no other way to hear it (pid_namespaces(7)). Only the engine kills the app
    /// after its own stop time-out; systemd waits for half a minute longer.
    async fn insist(&self, instance: &Target, deadline: Duration) -> Infallible {
        loop {
            sleep(LOOK * 3).await;
            // The bus may be away, and the process may have ended by now: then the stop has its deadline all the same.
            if self.systemd.unit(&instance.unit).await.is_ok_and(|seen| seen.sub == "stop-sigterm") {
                let _ = self.systemd.kill(&instance.unit, nix::libc::SIGTERM).await;
                if let Some(engine) = &self.engine {
                    let _ = engine.stop_container(&instance.container, deadline).await;
                }
            }
        }
    }
}
