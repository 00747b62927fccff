//! One instance through a release: drain, try, await, soak, rejoin. Called by perform.rs.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use tokio::time::{Instant, sleep};

use super::http::HttpError;
use super::logs::Start;
use super::perform::{CaddyHangs, HostFault};
use super::probe::probe;
use super::systemd::JobResult;
use super::{Host, failpoint};
use crate::model::envfile::{EnvFile, ManagedLines};
use crate::model::name::TRIAL_ENV;
use crate::model::step::{Probe, Target};
use crate::model::text::clean;
use crate::model::told::Told;

mod failed;
mod stop;

use stop::STOP_MARGIN;

/// How long Caddy may take to see a marker: its health checks come every 250 ms, and one may take 6 s.
const CADDY_SEES: Duration = Duration::from_secs(8);
/// Between two looks at something that changes within milliseconds.
const GLANCE: Duration = Duration::from_millis(20);
/// Between two looks at something that takes a while.
const LOOK: Duration = Duration::from_millis(100);
/// One answer of the readiness path.
const ANSWER: Duration = Duration::from_secs(5);
/// Longest part of its body that is told on.
const BODY: usize = 500;
/// How often an instance is asked at the end of a soak before it counts as broken.
const SOAK_ASKS: usize = 3;

/// Caddy's checks of one instance's health route.
struct Checks {
    /// So many with the code that was asked for.
    answered: u64,
    /// Some are under way.
    pending: bool,
}

fn is_late(cause: &(dyn std::error::Error + 'static)) -> bool {
    matches!(cause.downcast_ref(), Some(HttpError::Late { .. }))
}

impl Host {
    /// No new requests to `instance`; returns when those in flight have ended, or `timeout` is over.
    pub(super) async fn drain(&self, instance: &Target, timeout: Duration) -> Result<Told> {
        let before = self.checks(instance, "503").await?;
        self.files.write_atomic(&instance.id.marker(), b"", 0o644)?;
        let Some(before) = before else {
            return Ok(Told::note("Caddy is down: nothing to drain"));
        };
        let asked = self.checks(instance, "503").await?.is_some_and(|now| now.pending);
        self.wait_for_caddy(instance, "503", before.answered).await?;
        if asked {
            // A check that was asked before the marker was there, of an app that is slow to answer, has told Caddy since
            // that all is well: until the next one.
            let settled = self.wait_for_answers(instance, "503").await?;
            self.wait_for_caddy(instance, "503", settled).await?;
        }
        (self.detail)("waiting for requests in flight");
        let deadline = Instant::now() + timeout;
        loop {
            let busy = self.in_flight(instance).await?;
            if busy == 0 {
                return Ok(Told::default());
            }
            if Instant::now() >= deadline {
                let text = format!("{busy} requests still in flight after {timeout:?}: they are cut");
                return Ok(Told::cutting(busy, text));
            }
            (self.detail)(&format!("waiting for {busy} requests in flight"));
            sleep(GLANCE * 2).await;
        }
    }

    /// Let Caddy send requests again; returns when its own health check has seen the instance ready.
    pub(super) async fn rejoin(&self, instance: &Target) -> Result<Option<String>> {
        let before = self.checks(instance, "200").await;
        self.files.remove(&instance.id.marker())?;
        match before? {
            Some(before) => self.wait_for_caddy(instance, "200", before.answered).await.map(|()| None),
            None => Ok(Some("Caddy is down: in rotation when it comes back".to_owned())),
        }
    }

    /// Caddy's checks of `instance`; `None`: Caddy is down. One that hangs still holds requests, and may go on with
    /// them: an error.
    async fn checks(&self, instance: &Target, code: &str) -> Result<Option<Checks>> {
        let server = format!("health-{}", instance.id);
        match self.caddy.metrics().await {
            Ok(metrics) => Ok(Some(Checks {
                answered: metrics.health_seen(&server, code),
                pending: metrics.is_answering(&server),
            })),
            Err(error) if error.chain().any(is_late) => Err(error.context(CaddyHangs)),
            Err(_) => Ok(None),
        }
    }

    /// Only Caddy asks its health routes, so a count that rises is Caddy's own check having seen the change.
    async fn wait_for_caddy(&self, instance: &Target, code: &str, before: u64) -> Result<()> {
        (self.detail)("waiting until Caddy has seen it");
        let deadline = Instant::now() + CADDY_SEES;
        while Instant::now() < deadline {
            if matches!(self.checks(instance, code).await, Ok(Some(now)) if now.answered > before) {
                // The count rises when the answer is sent; the check that asked still has to read it.
                sleep(GLANCE).await;
                return Ok(());
            }
            sleep(GLANCE).await;
        }
        bail!(
            "waiting until Caddy sees {code} on the health route {} of {instance}: not within {CADDY_SEES:?}",
            instance.health_route()
        )
    }

    /// Returns, when no check waits for its answer, how many were answered with `code`.
    async fn wait_for_answers(&self, instance: &Target, code: &str) -> Result<u64> {
        (self.detail)("waiting for health checks that were under way");
        let deadline = Instant::now() + CADDY_SEES;
        while Instant::now() < deadline {
            if let Some(Checks { answered, pending: false }) = self.checks(instance, code).await? {
                return Ok(answered);
            }
            sleep(GLANCE).await;
        }
        bail!("waiting for Caddy's health checks of {instance}: still under way after {CADDY_SEES:?}")
    }

    async fn in_flight(&self, instance: &Target) -> Result<u64> {
        let upstreams = self.caddy.upstreams().await.context("asking Caddy for requests in flight")?;
        let address = instance.upstream.to_string();
        Ok(upstreams.iter().filter(|u| u.address == address).map(|u| u.num_requests).sum())
    }

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
                Err(error) => format!("{error:#}"),
            };
            if begun.elapsed() >= ask.timeout {
                let error = anyhow!("{instance}: not ready within {:?}: {last}", ask.timeout);
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
        let answer = probe(SocketAddr::V4(instance.upstream), &ask.path, &ask.host, ANSWER).await?;
        if (200..300).contains(&answer.status) {
            return Ok(());
        }
        bail!("{} answered {}: {}", ask.path, answer.status, clean(answer.body_start.trim(), BODY))
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
