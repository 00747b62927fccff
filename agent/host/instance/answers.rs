//! The answers to visitors during a soak, by Caddy's counters. Called by instance.rs.

use anyhow::anyhow;

use super::Host;
use crate::host::caddy::Metrics;
use crate::model::answers::{AnswerLimits, Answers};
use crate::model::step_error::StepError;
use crate::model::step_note::StepNote;

/// Counts answers from its start on.
pub(super) struct Watch {
    limits: AnswerLimits,
    before: Metrics,
}

impl Watch {
    /// `None`: nothing is limited, or Caddy does not answer.
    pub async fn start(host: &Host, limits: AnswerLimits) -> Option<Self> {
        let before = if limits.is_some() { host.caddy.metrics().await.ok()?.of_site() } else { return None };
        Some(Self { limits, before })
    }

    /// `None`: Caddy does not answer, or counts from zero again, as after a load of another config.
    async fn so_far(&self, host: &Host) -> Option<Answers> {
        let now = host.caddy.metrics().await.ok()?.of_site();
        let since = |count: fn(&Metrics) -> u64| count(&now).checked_sub(count(&self.before));
        let (timed, made) = (since(Metrics::answers)?, since(Metrics::proxy_errors)?);
        let limit = self.limits.p99.map_or(f64::INFINITY, |limit| limit.as_secs_f64());
        let in_time = now.within(limit).checked_sub(self.before.within(limit))?;
        let errors = since(Metrics::server_errors)? + made;
        Some(Answers { all: timed + made, errors, timed, slow: timed.checked_sub(in_time)? })
    }
}

/// Whether the answers since `watch` began keep `limits`.
pub(super) async fn judge(
    host: &Host,
    watch: Option<Watch>,
    limits: AnswerLimits,
) -> Result<StepNote, StepError> {
    if !limits.is_some() {
        return Ok(StepNote::default());
    }
    let answers = match watch {
        Some(watch) => watch.so_far(host).await,
        None => None,
    };
    let Some(answers) = answers else {
        return Ok(StepNote::warning("Caddy's counters could not be read: no answer was judged"));
    };
    match limits.broken_by(&answers) {
        Some(broken) => Err(StepError::release(anyhow!("{broken}"))),
        None => Ok(StepNote::note(limits.told(&answers))),
    }
}
