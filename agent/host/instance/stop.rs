//! Stops an instance in any state, even while it starts. Called by instance.rs and perform.rs.

use std::convert::Infallible;
use std::time::Duration;

use anyhow::Result;
use tokio::time::sleep;

use super::SLOW_POLL;
use crate::host::Host;
use crate::host::systemd::{JobError, JobResult};
use crate::model::step::Target;
use crate::model::unit::SubState;

/// Added to the app's stop timeout: the unit's own margin of 30 s, after which systemd kills the rest and
/// cleans up.
pub(super) const STOP_MARGIN: Duration = Duration::from_secs(60);
/// Attempts of a stop whose job others cancel.
const STOP_TRIES: usize = 3;

impl Host {
    /// Stops the instance for good, and removes its marker and trial file.
    pub(in crate::host) async fn stop_instance(&self, instance: &Target, stop: Duration) -> Result<()> {
        self.stop_unit(instance, stop + STOP_MARGIN).await?;
        self.files.remove(&instance.id.trial_file())?;
        self.remove_marker(instance)?;
        // A killed instance was meant to end, so its failed state is reset and does not make the host
        // degraded.
        self.systemd.reset_failed(&instance.unit).await
    }

    /// Stops an instance, even while it starts.
    pub(super) async fn stop_unit(&self, instance: &Target, deadline: Duration) -> Result<(), JobError> {
        let mut tries = 1..STOP_TRIES;
        loop {
            // Concurrently: one may hold the connection that the other needs.
            let ended = tokio::select! {
                ended = self.systemd.stop(&instance.unit, deadline) => ended,
                never = self.resend_sigterm(instance, deadline) => match never {},
            };
            match ended {
                // A Caddy that systemd restarts also starts its instances (Wants=), which cancels the stop.
                Err(error) if error.result == JobResult::Canceled && tries.next().is_some() => {}
                ended => return ended,
            }
        }
    }

    /// Stopping a start sends one SIGTERM instead of running the unit's ExecStop=, and the signal may be
    /// lost: podman receives it and still makes conmon the main process, or the app has no handler, which a
    /// container's process 1 needs (pid_namespaces(7)). Then only the engine kills the app after its own stop
    /// timeout, and systemd waits for half a minute longer. So SIGTERM is sent again.
    async fn resend_sigterm(&self, instance: &Target, deadline: Duration) -> Infallible {
        loop {
            sleep(SLOW_POLL * 3).await;
            // The bus may be unavailable, and the process may have ended: the stop still has its deadline.
            if self.systemd.unit(&instance.unit).await.is_ok_and(|seen| seen.sub == SubState::StopSigterm) {
                let _ = self.systemd.kill(&instance.unit, nix::libc::SIGTERM).await;
                if let Some(engine) = &self.engine {
                    let _ = engine.stop_container(&instance.container, deadline).await;
                }
            }
        }
    }
}
