//! Takes an instance out of rotation and lets it back in. Caddy checks the marker for every request, so it
//! applies to the very next one (caddy/Caddyfile, docs/decisions/0017). Called by perform.rs.

use std::collections::BTreeSet;
use std::net::{SocketAddr, SocketAddrV4};
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use tokio::time::{Instant, sleep};

use super::{FAST_POLL, SLOW_POLL};
use crate::host::Host;
use crate::host::http::HttpError;
use crate::host::perform::CaddyHangs;
use crate::host::probe::{ProbeAnswer, ProbeError, probe};
use crate::model::caddyfile::LEAVING;
use crate::model::instance::InstanceName;
use crate::model::name::{DRAIN_DIR, WORKING};
use crate::model::problem::Problem;
use crate::model::step::{Drain, Probe, Target};
use crate::model::step_note::StepNote;

/// Limit for an answer of Caddy's health route that does not depend on the app.
const CADDY_ANSWERS: Duration = Duration::from_secs(5);
/// A Caddy that starts answers at its admin socket before its sites listen: limit between the two.
const CADDY_STARTS: Duration = Duration::from_secs(5);
/// Limit until Caddy's own health check of the app gets a 2xx.
const CADDY_SEES: Duration = Duration::from_secs(8);
/// A request routed before the marker existed is counted after this time.
const ROUTED: Duration = Duration::from_millis(20);
/// Body of the health route's answer while the marker exists.
const DRAINED: &str = "drained";

/// No serving instance would be ready with the new config.
#[derive(Debug, thiserror::Error)]
#[error(
    "no instance that serves is ready by its readiness path and [caddy]: {0}\n  hint: put the former path back; to change \
     it, first deploy an image that answers both"
)]
pub struct NoneReady(String);

/// Open requests and connections of one instance, as Caddy counts them.
struct InFlight {
    requests: u64,
    /// WebSockets and event streams.
    streams: u64,
}

impl Host {
    /// Stops new requests to `instance`; returns when those in flight have ended, or the timeouts of `limits`
    /// have passed.
    ///
    /// # Errors
    /// Caddy hangs, or ignores the marker.
    pub(in crate::host) async fn drain(&self, instance: &Target, limits: &Drain) -> Result<StepNote> {
        self.files.write_atomic(&instance.id.marker(), b"", 0o644)?;
        self.files.write_atomic(Path::new(WORKING), b"", 0o644)?;
        match self.ask_caddy_for(instance, "/", CADDY_ANSWERS).await? {
            None => return Ok(StepNote::note("Caddy is down: nothing to drain")),
            Some(answer) if answer.status == 200 && answer.body_start == DRAINED => {}
            Some(_) if !self.caddy_runs_at_all().await? => {
                return Ok(StepNote::note("Caddy is down: nothing to drain"));
            }
            Some(_) if !self.is_upstream(instance).await? => {
                return Ok(StepNote::note("Caddy does not know it: nothing to drain"));
            }
            Some(answer) => {
                let what = format!(
                    "draining {instance}: Caddy does not see its marker: {} answered {}: it runs another Caddyfile than \
                     /etc/astra/Caddyfile",
                    self.health_route(instance),
                    answer.status
                );
                let fix = "`systemctl restart astra-caddy` makes it read that file";
                return Err(Problem::host("caddy", what, fix).into());
            }
        }
        sleep(ROUTED).await;
        let begun = Instant::now();
        loop {
            let Some(busy) = self.in_flight(instance).await? else {
                return Ok(StepNote::note("Caddy is down: nothing to drain"));
            };
            let waited = begun.elapsed();
            let requests_over = busy.requests == 0 || waited >= limits.requests;
            let streams_over = busy.streams == 0 || waited >= limits.streams;
            if requests_over && streams_over {
                return Ok(cut(&busy, limits));
            }
            (self.detail)(&waiting(&busy, waited, limits));
            sleep(FAST_POLL * 2).await;
        }
    }

    /// Lets Caddy send requests again, once Caddy's own request to the instance got a 2xx. A hung Caddy holds all
    /// requests: when it goes on, no marker may keep the instance from them.
    ///
    /// # Errors
    /// Caddy hangs, or gets no 2xx from the instance: the error has the last answer.
    pub(in crate::host) async fn undrain(&self, instance: &Target, ask: &Probe) -> Result<Option<String>> {
        let asked = self.wait_for_caddy(instance, ask).await;
        if asked.as_ref().map_or_else(|error| error.is::<CaddyHangs>(), |_| true) {
            self.remove_marker(instance)?;
        }
        asked
    }

    /// Removes the marker. With the last one, Caddy stops checking for markers.
    pub(super) fn remove_marker(&self, instance: &Target) -> Result<()> {
        self.files.remove(&instance.id.marker())?;
        self.leave_markers()
    }

    /// Without markers, Caddy need not check for them.
    pub(in crate::host) fn leave_markers(&self) -> Result<()> {
        let markers = self.files.list(Path::new(DRAIN_DIR))?;
        if markers.iter().any(|name| name.parse::<InstanceName>().is_ok()) {
            return Ok(());
        }
        let left = markers.iter().filter(|name| name.starts_with(LEAVING));
        left.map(|name| Path::new(DRAIN_DIR).join(name))
            .try_for_each(|path| self.files.remove(&path).map(drop))?;
        self.files.remove(Path::new(WORKING)).map(drop)
    }

    /// A new readiness setting in the Caddyfile must not take every instance out of rotation: for example a
    /// mistyped path, or one that only the next image has.
    ///
    /// # Errors
    /// [`NoneReady`]: some of `instances` serve for a service now, and none of these is ready by its check.
    pub async fn keep_rotation(&self, instances: &[(Target, Probe)]) -> Result<()> {
        let web = || instances.iter().filter(|(instance, _)| instance.upstream.is_some());
        let services: BTreeSet<_> = web().map(|(instance, _)| instance.id.service).collect();
        for service in services {
            let own: Vec<_> = web().filter(|(instance, _)| instance.id.service == service).collect();
            self.keep_service_rotation(&own).await?;
        }
        Ok(())
    }

    async fn keep_service_rotation(&self, instances: &[&(Target, Probe)]) -> Result<()> {
        let mut last = None;
        for (instance, ask) in instances {
            let serves = self.ask_caddy_for(instance, "/serves", CADDY_ANSWERS).await;
            if !matches!(serves, Ok(Some(answer)) if (200..300).contains(&answer.status)) {
                continue;
            }
            match self.still_ready(instance, ask).await {
                Ok(()) => return Ok(()),
                Err(error) => last = Some(format!("{instance}: {error:#}")),
            }
        }
        last.map_or(Ok(()), |last| Err(NoneReady(last).into()))
    }

    async fn wait_for_caddy(&self, instance: &Target, ask: &Probe) -> Result<Option<String>> {
        let (Some(at), Some(ask)) = (instance.upstream, ask.http()) else { return Ok(None) };
        (self.detail)("waiting until Caddy reaches it");
        let deadline = Instant::now() + CADDY_SEES.max(ask.answer * 2);
        loop {
            let Some(answer) = self.ask_caddy_for(instance, "/app", ask.answer + CADDY_ANSWERS).await? else {
                return Ok(Some("Caddy is down: in rotation when it comes back".to_owned()));
            };
            match answer.status {
                200..300 => return Ok(None),
                // Caddy does not run a Caddyfile of the agent, so nothing keeps the instance out of rotation.
                404 | 421 => {
                    return Ok(Some(format!("Caddy has no health route {}", self.health_route(instance))));
                }
                status if Instant::now() >= deadline => bail!(
                    "waiting until Caddy reaches {instance} at {}: {} answered {status}: {}",
                    at,
                    ask.path,
                    answer.shown()
                ),
                _ => sleep(SLOW_POLL).await,
            }
        }
    }

    /// The answer of the instance's health route in Caddy; `None`: Caddy is down. A hung Caddy is an error:
    /// it still holds requests, and may go on with them.
    async fn ask_caddy_for(
        &self,
        instance: &Target,
        path: &str,
        within: Duration,
    ) -> Result<Option<ProbeAnswer>> {
        let route = self.health_route(instance);
        let path = &format!("{}{path}", instance.id.service.health_path());
        let patience = if self.no_health_routes.get() { Duration::ZERO } else { CADDY_STARTS };
        let starts_until = Instant::now() + patience;
        loop {
            let error = match probe(SocketAddr::V4(route), path, &route.to_string(), false, within).await {
                Ok(answer) => return Ok(Some(answer)),
                Err(ProbeError::Http(HttpError::Late { .. })) => {
                    return Err(anyhow!("no answer from {route} within {within:?}").context(CaddyHangs));
                }
                Err(error) => error,
            };
            if !self.caddy_runs_at_all().await? {
                return Ok(None);
            }
            // The admin socket answers and the health route does not: Caddy is starting, or its health routes are
            // elsewhere than in the Caddyfile.
            if Instant::now() >= starts_until {
                self.no_health_routes.set(true);
                return Ok(Some(ProbeAnswer { status: 404, location: None, body_start: format!("{error}") }));
            }
            (self.detail)("waiting until Caddy has started");
            sleep(SLOW_POLL).await;
        }
    }

    /// The instance's health route in Caddy: 127.0.1.i:9080.
    fn health_route(&self, instance: &Target) -> SocketAddrV4 {
        SocketAddrV4::new(instance.id.address(), self.health_port)
    }

    async fn caddy_runs_at_all(&self) -> Result<bool> {
        match self.caddy.upstreams().await {
            Ok(_) => Ok(true),
            Err(error) if error.chain().any(is_late) => Err(error.context(CaddyHangs)),
            Err(_) => Ok(false),
        }
    }

    async fn is_upstream(&self, instance: &Target) -> Result<bool> {
        let upstreams = self.caddy.upstreams().await?;
        let known = [instance.upstream.map(|at| at.to_string()), instance.stream_upstream()];
        Ok(upstreams.iter().any(|upstream| known.iter().flatten().any(|known| *known == upstream.address)))
    }

    async fn in_flight(&self, instance: &Target) -> Result<Option<InFlight>> {
        let upstreams = match self.caddy.upstreams().await {
            Ok(upstreams) => upstreams,
            Err(error) if error.chain().any(is_late) => {
                return Err(error.context("asking Caddy for requests in flight").context(CaddyHangs));
            }
            Err(_) if !self.caddy_runs_at_all().await? => return Ok(None),
            Err(error) => return Err(error.context("asking Caddy for requests in flight")),
        };
        let count = |address: Option<String>| {
            let of = upstreams.iter().filter(|upstream| Some(&upstream.address) == address.as_ref());
            of.map(|upstream| upstream.num_requests).sum::<u64>()
        };
        let requests = count(instance.upstream.map(|at| at.to_string()));
        Ok(Some(InFlight { requests, streams: count(instance.stream_upstream()) }))
    }
}

fn is_late(cause: &(dyn std::error::Error + 'static)) -> bool {
    matches!(cause.downcast_ref(), Some(HttpError::Late { .. }))
}

/// `3 requests (cut in 22 s), 12 WebSockets and event streams (cut in 2 s)`
fn waiting(busy: &InFlight, waited: Duration, limits: &Drain) -> String {
    let left = |limit: Duration| format!("cut in {:.0} s", limit.saturating_sub(waited).as_secs_f64().ceil());
    let requests = (busy.requests > 0)
        .then(|| format!("{} ({})", counted(busy.requests, "request"), left(limits.requests)));
    let streams = (busy.streams > 0)
        .then(|| format!("{} ({})", counted(busy.streams, "open stream"), left(limits.streams)));
    let parts: Vec<_> = requests.into_iter().chain(streams).collect();
    format!("waiting for {}", parts.join(", "))
}

fn cut(busy: &InFlight, limits: &Drain) -> StepNote {
    let requests = (busy.requests > 0)
        .then(|| format!("{} after {:?}", counted(busy.requests, "request"), limits.requests));
    let streams = (busy.streams > 0)
        .then(|| format!("{} after {:?}", counted(busy.streams, "open stream"), limits.streams));
    let parts: Vec<_> = requests.into_iter().chain(streams).collect();
    match parts.is_empty() {
        true => StepNote::default(),
        false => StepNote::cutting(busy.requests + busy.streams, format!("cutting {}", parts.join(", "))),
    }
}

fn counted(count: u64, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_counted_apart_from_requests() {
        let limits = Drain { requests: Duration::from_secs(30), streams: Duration::from_secs(5) };
        let busy = InFlight { requests: 1, streams: 12 };
        let text = waiting(&busy, Duration::from_millis(3200), &limits);
        assert_eq!(text, "waiting for 1 request (cut in 27 s), 12 open streams (cut in 2 s)");
        let told = cut(&InFlight { requests: 0, streams: 12 }, &limits);
        assert_eq!((told.cut, told.warning), (12, true));
        assert_eq!(told.text.as_deref(), Some("cutting 12 open streams after 5s"));
        assert_eq!(cut(&InFlight { requests: 0, streams: 0 }, &limits), StepNote::default());
    }
}
