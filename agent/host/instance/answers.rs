//! The answers to visitors during a soak, by Caddy's counters. Called by instance.rs.

use anyhow::anyhow;

use super::Host;
use crate::host::caddy::Metrics;
use crate::model::answers::{AnswerLimits, Answers};
use crate::model::step_error::StepError;
use crate::model::step_note::StepNote;

/// With so many bad answers the end of a long soak is not waited for.
const PLENTY: u64 = 50;

/// Counts answers from its start on.
pub(super) struct Watch {
    limits: AnswerLimits,
    before: Metrics,
}

impl Watch {
    /// `None`: nothing is limited, or Caddy does not answer.
    pub async fn start(host: &Host, limits: AnswerLimits) -> Option<Self> {
        let before = if limits.is_some() { host.caddy.metrics().await.ok()? } else { return None };
        Some(Self { limits, before })
    }

    /// `None`: Caddy does not answer, or counts from zero again, as after a load of another config.
    pub async fn so_far(&self, host: &Host) -> Option<Answers> {
        let now = host.caddy.metrics().await.ok()?;
        let since = |count: fn(&Metrics) -> u64| count(&now).checked_sub(count(&self.before));
        let all = since(Metrics::answers)?;
        let in_time = self.limits.p99.map(|limit| {
            let limit = limit.as_secs_f64();
            now.within(limit).checked_sub(self.before.within(limit))
        });
        let slow = match in_time {
            None => 0,
            Some(in_time) => since(Metrics::timed)?.checked_sub(in_time?)?,
        };
        Some(Answers { all, errors: since(Metrics::server_errors)?, slow })
    }

    /// The limit that is broken already, if that cannot be an accident any more.
    pub async fn is_broken(&self, host: &Host) -> Option<String> {
        let answers = self.so_far(host).await?;
        self.limits.broken_by(&answers).filter(|_| answers.errors.max(answers.slow) >= PLENTY)
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
        None => Ok(StepNote::note(answers.to_string())),
    }
}
