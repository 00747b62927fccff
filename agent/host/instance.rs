//! One instance through a release: drain, try, await, soak, rejoin. Called by perform.rs.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use tokio::time::{Instant, sleep};

use super::http::HttpError;
use super::logs::Start;
use super::perform::HostFault;
use super::probe::{ProbeError, probe};
use super::systemd::JobResult;
use super::{Host, failpoint};
use crate::model::envfile::{EnvFile, ManagedLines};
use crate::model::name::TRIAL_ENV;
use crate::model::step::{Probe, Target};

pub mod drain;
mod failed;
mod stop;

use stop::STOP_MARGIN;

/// Between two looks at something that changes within milliseconds.
const GLANCE: Duration = Duration::from_millis(20);
/// Between two looks at something that takes a while.
const LOOK: Duration = Duration::from_millis(100);
/// A readiness path that redirects for that long will not stop doing so.
const REDIRECTED: Duration = Duration::from_secs(10);
/// How often an instance is asked at the end of a soak before it counts as broken.
const SOAK_ASKS: usize = 3;

/// Context of an answer that is a redirect.
#[derive(Debug)]
struct Redirected;

impl std::fmt::Display for Redirected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("redirected")
    }
}

impl Host {
    /// Write the trial file, and start the instance with it.
    pub(super) async fn try_release(
        &self,
        instance: &Target,
        lines: &ManagedLines,
        stop: Duration,
        timeout: Duration,
    ) -> Result<Option<String>> {
        let file = EnvFile::default().with_managed(lines).context("rendering the trial file")?;
        let mut bytes = file.render();
        bytes.extend_from_slice(format!("ASTRA_ENV={TRIAL_ENV}\n").as_bytes());
        self.files.write_atomic(&instance.id.trial_file(), &bytes, 0o600)?;
        self.start_over(instance, stop, timeout).await
    }

    /// Remove the trial file, and start the instance with what astra.env says.
    pub(super) async fn return_to_committed(
        &self,
        instance: &Target,
        stop: Duration,
        timeout: Duration,
    ) -> Result<Option<String>> {
        self.files.remove(&instance.id.trial_file())?;
        self.start_over(instance, stop, timeout).await
    }

    /// Stop, then start: a start that systemd keeps retrying reads `activating` and is only left by a stop.
    async fn start_over(&self, instance: &Target, stop: Duration, start: Duration) -> Result<Option<String>> {
        self.ready.borrow_mut().remove(&instance.id);
        (self.detail)("stopping");
        let before = self.systemd.unit(&instance.unit).await.unwrap_or_default().invocation;
        // What runs there now is another release: its stop says nothing about the one to come.
        let stopped = self.stop_unit(instance, stop + STOP_MARGIN).await;
        stopped.context(HostFault("stopping what ran before"))?;
        failpoint::reach("stopped", 0, &instance.unit);
        (self.detail)("starting");
        self.start.replace(Start::now(&before));
        match self.systemd.start(&instance.unit, start).await {
            Ok(()) => Ok(None),
            Err(late) if late.result == JobResult::Deadline => {
                Err(self.explain(instance, anyhow!("{instance}: not READY within {start:?}")).await)
            }
            Err(error) => Err(self.start_failed(instance, error).await),
        }
    }

    /// Wait until the unit is active and the readiness path answers 2xx.
    pub(super) async fn await_ready(&self, instance: &Target, ask: &Probe) -> Result<Option<String>> {
        let first = self.systemd.unit(&instance.unit).await?;
        self.await_ready_since(instance, ask, first.restarts).await
    }

    /// Of a unit that systemd had restarted so often when all was well, and that somebody may be restarting by hand.
    async fn await_ready_since(
        &self,
        instance: &Target,
        ask: &Probe,
        restarts: u32,
    ) -> Result<Option<String>> {
        let begun = Instant::now();
        let mut last;
        let mut redirected: Option<Instant> = None;
        loop {
            let unit = self.systemd.unit(&instance.unit).await?;
            if unit.restarts > restarts || unit.has_ended() {
                return Err(self.ended(instance, &unit, "before it was ready").await);
            }
            last = match self.ask(instance, ask).await {
                Ok(()) if unit.is_active() => {
                    self.ready.borrow_mut().insert(instance.id, unit);
                    return Ok(Some(format!("ready after {:.1} s", begun.elapsed().as_secs_f64())));
                }
                Ok(()) => format!("the readiness path answers, but the unit is {}", unit.active),
                Err(error) => {
                    let since = error.is::<Redirected>().then(|| redirected.unwrap_or_else(Instant::now));
                    redirected = since;
                    format!("{error:#}")
                }
            };
            let steady = redirected.is_some_and(|since| since.elapsed() >= REDIRECTED);
            if begun.elapsed() >= ask.timeout || steady {
                let waited = if steady { REDIRECTED } else { ask.timeout };
                let error = anyhow!("{instance}: not ready within {waited:?}: {last}");
                return Err(self.explain(instance, error).await);
            }
            let (waited, limit) = (begun.elapsed().as_secs(), ask.timeout.as_secs());
            (self.detail)(&format!("waited {waited} of {limit} s: {last}"));
            // An app that starts in a second is asked often, one that takes minutes is left alone.
            sleep((begun.elapsed() / 10).clamp(GLANCE, LOOK * 5)).await;
        }
    }

    /// Ask the readiness path once.
    async fn ask(&self, instance: &Target, ask: &Probe) -> Result<()> {
        let at = SocketAddr::V4(instance.upstream);
        let answer = match probe(at, &ask.path, &ask.host, ask.https, ask.answer).await {
            Err(ProbeError::Http(late @ HttpError::Late { .. })) => {
                bail!("{late} (`answer_timeout` in [app.readiness])");
            }
            answer => answer?,
        };
        if (200..300).contains(&answer.status) {
            return Ok(());
        }
        let error = anyhow!("{} answered {}: {}", ask.path, answer.status, answer.shown());
        Err(if (300..400).contains(&answer.status) { error.context(Redirected) } else { error })
    }

    /// Watch `instances` for `time`: none may restart, and all must be ready at the end.
    pub(super) async fn soak(
        &self,
        instances: &[Target],
        time: Duration,
        ask: &Probe,
    ) -> Result<Option<String>> {
        let deadline = Instant::now() + time;
        loop {
            for instance in instances {
                self.unchanged(instance, ask).await?;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            (self.detail)(&format!("{:.0} s to go", left.as_secs_f64().ceil()));
            sleep(left.min(LOOK * 2)).await;
        }
        for instance in instances {
            if let Err(error) = self.still_ready(instance, ask).await {
                return Err(self
                    .explain(instance, error.context(format!("{instance}: no longer ready after the soak")))
                    .await);
            }
        }
        Ok(None)
    }

    /// An app that is busy may miss one answer or two; one that hangs or is broken gives none.
    async fn still_ready(&self, instance: &Target, ask: &Probe) -> Result<()> {
        let mut asked = self.ask(instance, ask).await;
        for _ in 1..SOAK_ASKS {
            if asked.is_err() {
                (self.detail)(&format!("{instance} did not answer as it should: asking again"));
                sleep(LOOK * 5).await;
                asked = self.ask(instance, ask).await;
            }
        }
        asked
    }

    async fn unchanged(&self, instance: &Target, ask: &Probe) -> Result<()> {
        let now = self.systemd.unit(&instance.unit).await?;
        let Some(was) = self.ready.borrow().get(&instance.id).cloned() else {
            bail!("watching {instance}: it was never ready in this run");
        };
        if now.restarts > was.restarts || now.has_ended() {
            return Err(self.ended(instance, &now, "while it was watched").await);
        }
        if now.invocation != was.invocation || !now.is_active() {
            // Somebody restarts it by hand: it is as good as ever once it is ready again.
            self.await_ready_since(instance, ask, was.restarts).await?;
        }
        Ok(())
    }
}
