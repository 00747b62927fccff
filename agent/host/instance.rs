//! One instance through a release: drain, start trial, await ready, soak, undrain. Called by perform.rs.

use std::net::{SocketAddr, SocketAddrV4};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use tokio::time::{Instant, sleep};

use super::http::HttpError;
use super::logs::Start;
use super::probe::{ProbeError, probe};
use super::systemd::JobResult;
use super::{Host, failpoint};
use crate::model::answers::AnswerLimits;
use crate::model::envfile::{EnvFile, ManagedLines};
use crate::model::name::TRIAL_ENV;
use crate::model::outcome::Blame;
use crate::model::step::{Check, HttpCheck, Probe, Target};
use crate::model::step_error::StepError;
use crate::model::step_note::StepNote;

mod answers;
pub mod drain;
mod failed;
mod liveness;
mod stop;
mod warm;

use answers::Watch;
use stop::STOP_MARGIN;

/// Poll interval for something that changes within milliseconds.
const FAST_POLL: Duration = Duration::from_millis(20);
/// Poll interval for something that takes a while.
const SLOW_POLL: Duration = Duration::from_millis(100);
/// A readiness path that redirects for this long will not become ready.
const REDIRECTED: Duration = Duration::from_secs(10);
/// Readiness requests at the end of a soak before an instance counts as broken.
const SOAK_ASKS: usize = 3;

/// Error context: the answer was a redirect.
#[derive(Debug)]
struct Redirected;

impl std::fmt::Display for Redirected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("redirected")
    }
}

impl Host {
    /// Writes the trial file, and starts the instance with it.
    pub(super) async fn start_trial(
        &self,
        instance: &Target,
        lines: &ManagedLines,
        stop: Duration,
        timeout: Duration,
    ) -> Result<(), StepError> {
        let file = EnvFile::default().with_managed(&lines.in_full()).context("rendering the trial file")?;
        let mut bytes = file.render();
        bytes.extend_from_slice(format!("ASTRA_ENV={TRIAL_ENV}\n").as_bytes());
        self.files.write_atomic(&instance.id.trial_file(), &bytes, 0o600)?;
        self.start_over(instance, stop, timeout).await
    }

    /// Removes the trial file, and starts the instance with the release in astra.env.
    pub(super) async fn restore_committed(
        &self,
        instance: &Target,
        stop: Duration,
        timeout: Duration,
    ) -> Result<(), StepError> {
        self.files.remove(&instance.id.trial_file())?;
        // The committed release is not on trial, so its failure is no reason to hold it.
        let started = self.start_over(instance, stop, timeout).await;
        started.map_err(|error| StepError { blame: Blame::Host, ..error })
    }

    /// Stops, then starts: a start that systemd keeps retrying is `activating`, and only a stop ends it.
    async fn start_over(&self, instance: &Target, stop: Duration, start: Duration) -> Result<(), StepError> {
        self.ready.borrow_mut().remove(&instance.id);
        (self.detail)("stopping");
        let before = self.systemd.unit(&instance.unit).await.unwrap_or_default().invocation;
        // The instance still runs the other release, whose stop result says nothing about this one.
        let stopped = self.stop_unit(instance, stop + STOP_MARGIN).await;
        stopped.context("stopping what ran before")?;
        failpoint::reach("stopped", 0, &instance.unit);
        (self.detail)("starting");
        self.start.replace(Start::now(&before));
        match self.systemd.start(&instance.unit, start).await {
            Ok(()) => Ok(()),
            Err(late) if late.result == JobResult::Deadline => {
                let error = StepError::release(anyhow!("{instance}: not READY within {start:?}"));
                Err(self.explain(instance, error).await)
            }
            Err(error) => Err(self.start_failed(instance, error).await),
        }
    }

    /// Waits until the unit is active and the readiness path answers 2xx.
    pub(super) async fn await_ready(&self, instance: &Target, ask: &Probe) -> Result<StepNote, StepError> {
        let first = self.systemd.unit(&instance.unit).await?;
        let mut told = self.await_ready_since(instance, ask, first.restarts).await?;
        if let (Some(at), Some(http)) = (instance.upstream, ask.http().filter(|ask| !ask.warm_up.is_empty()))
        {
            let warmed = self.warm_up(at, http, ask.timeout).await;
            told.text = Some(told.text.map_or_else(String::new, |ready| format!("{ready}; ")) + &warmed);
        }
        Ok(told)
    }

    /// `restarts`: systemd's count when the instance was last good. A manual restart meanwhile is allowed.
    async fn await_ready_since(
        &self,
        instance: &Target,
        ask: &Probe,
        restarts: u32,
    ) -> Result<StepNote, StepError> {
        let begun = Instant::now();
        let mut last;
        let mut redirected: Option<Instant> = None;
        loop {
            let unit = self.systemd.unit(&instance.unit).await?;
            if unit.restarts > restarts || unit.has_ended() {
                return Err(self.ended(instance, &unit, "before it was ready").await);
            }
            last = match self.is_up_to(instance, ask, begun).await {
                Ok(()) if unit.is_active() => {
                    self.ready.borrow_mut().insert(instance.id, unit);
                    return Ok(StepNote::note(format!("ready after {:.1} s", begun.elapsed().as_secs_f64())));
                }
                Ok(()) => format!("the unit is {}", unit.active),
                Err(error) => {
                    let since = error.is::<Redirected>().then(|| redirected.unwrap_or_else(Instant::now));
                    redirected = since;
                    format!("{error:#}")
                }
            };
            let steady = redirected.is_some_and(|since| since.elapsed() >= REDIRECTED);
            if begun.elapsed() >= ask.timeout || steady {
                let waited = if steady { REDIRECTED } else { ask.timeout };
                let error = StepError::release(anyhow!("{instance}: not ready within {waited:?}: {last}"));
                return Err(self.explain(instance, error).await);
            }
            let (waited, limit) = (begun.elapsed().as_secs(), ask.timeout.as_secs());
            (self.detail)(&format!("waited {waited} of {limit} s: {last}"));
            // The poll interval grows: a fast app is asked often, a slow one seldom.
            sleep((begun.elapsed() / 10).clamp(FAST_POLL, SLOW_POLL * 5)).await;
        }
    }

    /// Checks readiness at a start that `begun` then.
    async fn is_up_to(&self, instance: &Target, ask: &Probe, begun: Instant) -> Result<()> {
        match &ask.check {
            Check::Settle(time) if begun.elapsed() < *time => bail!("it has to run for {time:?}"),
            _ => self.ask(instance, ask).await,
        }
    }

    /// Checks readiness once. An instance that only has to run is ready while its unit is active.
    async fn ask(&self, instance: &Target, ask: &Probe) -> Result<()> {
        match (&ask.check, instance.upstream) {
            (Check::Http(ask), Some(at)) => self.request(at, ask).await,
            (Check::Http(_), None) | (Check::Settle(_), _) => Ok(()),
            (Check::Command(ask), _) => self.command(instance, ask).await,
            (Check::Tcp(port), _) => self.accepts(instance, *port).await,
        }
    }

    async fn request(&self, at: SocketAddrV4, ask: &HttpCheck) -> Result<()> {
        let answer = match probe(SocketAddr::V4(at), &ask.path, &ask.host, ask.https, ask.answer).await {
            Err(ProbeError::Http(late @ HttpError::Late { .. })) => {
                bail!("{late} (`answer_timeout` of its readiness)");
            }
            answer => answer?,
        };
        if (200..300).contains(&answer.status) {
            return Ok(());
        }
        let error = anyhow!("{} answered {}: {}", ask.path, answer.status, answer.shown());
        Err(if (300..400).contains(&answer.status) { error.context(Redirected) } else { error })
    }

    /// Watches `instances` for `time`: none may restart, all must be ready at the end, and the answers to visitors
    /// must keep `limits`.
    pub(super) async fn soak(
        &self,
        instances: &[(Target, Probe)],
        time: Duration,
        limits: AnswerLimits,
    ) -> Result<StepNote, StepError> {
        let deadline = Instant::now() + time;
        let mut answers = Watch::start(self, limits).await;
        let mut began = self.invocations(instances);
        loop {
            for (instance, ask) in instances {
                self.unchanged(instance, ask).await.map_err(|error| error.at(instance.id))?;
            }
            let now = self.invocations(instances);
            if now != began {
                // A restart by hand cost visitors answers, and the release is not to blame for that.
                (began, answers) = (now, Watch::start(self, limits).await);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            (self.detail)(&format!("{:.0} s to go", left.as_secs_f64().ceil()));
            sleep(left.min(SLOW_POLL * 2)).await;
        }
        for (instance, ask) in instances {
            if let Err(error) = self.still_ready(instance, ask).await {
                // Stopped, killed or restarted since the last look: that is not the release's failure.
                self.unchanged(instance, ask).await.map_err(|error| error.at(instance.id))?;
                if self.ask(instance, ask).await.is_ok() {
                    continue;
                }
                let error = error.context(format!("{instance}: no longer ready after the soak"));
                return Err(self.explain(instance, StepError::release(error).at(instance.id)).await);
            }
        }
        answers::judge(self, answers, limits).await
    }

    fn invocations(&self, instances: &[(Target, Probe)]) -> Vec<Option<String>> {
        let ready = self.ready.borrow();
        instances.iter().map(|(of, _)| Some(ready.get(&of.id)?.invocation.clone())).collect()
    }

    /// A busy app may miss one or two answers; a hung or broken one gives none.
    async fn still_ready(&self, instance: &Target, ask: &Probe) -> Result<()> {
        let mut asked = self.ask(instance, ask).await;
        for _ in 1..SOAK_ASKS {
            if asked.is_err() {
                (self.detail)(&format!("{instance} did not answer as it should: asking again"));
                sleep(SLOW_POLL * 5).await;
                asked = self.ask(instance, ask).await;
            }
        }
        asked
    }

    async fn unchanged(&self, instance: &Target, ask: &Probe) -> Result<(), StepError> {
        let now = self.systemd.unit(&instance.unit).await?;
        let Some(was) = self.ready.borrow().get(&instance.id).cloned() else {
            return Err(anyhow!("watching {instance}: it was never ready in this run").into());
        };
        if now.restarts > was.restarts || now.has_ended() {
            return Err(self.ended(instance, &now, "while it was watched").await);
        }
        if now.invocation != was.invocation || !now.is_active() {
            // A manual restart: the instance counts as good once it is ready again.
            self.await_ready_since(instance, ask, was.restarts).await?;
        }
        Ok(())
    }
}
