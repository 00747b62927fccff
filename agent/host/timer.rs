//! A cron job as systemd shows its timer and its service (org.freedesktop.systemd1(5), "Timer Unit Objects",
//! "Service Unit Objects"). Called by `cron list`.

use anyhow::{Context, Result};

use super::systemd::{SERVICE, Systemd, get, unit_path};
use crate::model::name::CronName;

const TIMER: &str = "org.freedesktop.systemd1.Timer";

/// When a job ran, and when it will.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobSeen {
    /// Whether its timer runs.
    pub active: bool,
    pub running: bool,
    /// Begin of its last run, by the clock or by hand, in milliseconds since 1970; `None`: not since the boot.
    pub last: Option<u64>,
    /// How that ended: `success`, `exit-code`, `timeout`, …; `None`: it did not run, or runs still.
    pub result: Option<String>,
    /// Milliseconds since 1970; `None`: not on the calendar (an interval timer counts from its last run).
    pub next: Option<u64>,
}

impl Systemd {
    /// A job whose units do not exist is inactive and never ran.
    pub async fn job_seen(&self, name: &CronName) -> Result<JobSeen> {
        let read = async |unit: &str, interface| {
            let seen = self.properties(&unit_path(unit), interface).await;
            seen.with_context(|| format!("reading the state of {unit}"))
        };
        let (timer, service) = (self.unit(&name.timer()).await?, self.unit(&name.service()).await?);
        let elapses = read(&name.timer(), TIMER).await?;
        let runs = read(&name.service(), SERVICE).await?;
        let moment = |properties, name| {
            get::<u64>(properties, name).filter(|us| (1..u64::MAX).contains(us)).map(|us| us / 1000)
        };
        let running = service.active == "activating";
        let last = moment(&runs, "ExecMainStartTimestamp");
        Ok(JobSeen {
            active: timer.active == "active",
            running,
            last,
            result: last.is_some_and(|_| !running).then_some(service.result),
            next: moment(&elapses, "NextElapseUSecRealtime"),
        })
    }
}
