//! A timer as systemd shows it (org.freedesktop.systemd1(5), "Timer Unit Objects"). Called by `cron list`.

use anyhow::{Context, Result};

use super::systemd::{Systemd, get, unit_path};

const TIMER: &str = "org.freedesktop.systemd1.Timer";

/// When a timer elapsed, and when it will.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimerSeen {
    pub active: bool,
    /// Milliseconds since 1970; `None`: not since the boot.
    pub last: Option<u64>,
    /// Milliseconds since 1970; `None`: not on the calendar (an interval timer counts from its last run).
    pub next: Option<u64>,
}

impl Systemd {
    /// A timer that does not exist is inactive.
    pub async fn timer(&self, name: &str) -> Result<TimerSeen> {
        let unit = self.unit(name).await?;
        let seen = self
            .properties(&unit_path(name), TIMER)
            .await
            .with_context(|| format!("reading the state of {name}"))?;
        let moment = |property| {
            get::<u64>(&seen, property).filter(|us| (1..u64::MAX).contains(us)).map(|us| us / 1000)
        };
        Ok(TimerSeen {
            active: unit.active == "active",
            last: moment("LastTriggerUSec"),
            next: moment("NextElapseUSecRealtime"),
        })
    }
}
