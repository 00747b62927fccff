//! A cron job as systemd shows its timer and its service (org.freedesktop.systemd1(5), "Timer Unit Objects",
//! "Service Unit Objects"). Called by `cron list`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};

use super::systemd::{SERVICE, Systemd, get, unit_path};
use crate::model::name::CronName;
use crate::model::unit::{ActiveState, ServiceResult};

const TIMER: &str = "org.freedesktop.systemd1.Timer";

/// The last and the next run of a job.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobSeen {
    /// Whether its timer is active.
    pub active: bool,
    /// Whether its service runs now.
    pub running: bool,
    /// Start of its last run, by timer or by hand, in milliseconds since 1970; `None`: none since the boot.
    pub last: Option<u64>,
    /// Result of that run: `success`, `exit-code`, `timeout`, …; `None`: it did not run, or is still running.
    pub result: Option<ServiceResult>,
    /// Milliseconds since 1970; `None`: its timer is inactive, or waits for the end of the job.
    pub next: Option<u64>,
}

impl Systemd {
    /// A job whose units do not exist is inactive and has no runs.
    ///
    /// # Errors
    ///
    /// systemd does not answer.
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
        let running = service.active == ActiveState::Activating;
        let last = moment(&runs, "ExecMainStartTimestamp");
        Ok(JobSeen {
            active: timer.is_active(),
            running,
            last,
            result: last.is_some_and(|_| !running).then_some(service.result),
            next: moment(&elapses, "NextElapseUSecRealtime")
                .or_else(|| by_the_clock(moment(&elapses, "NextElapseUSecMonotonic")?)),
        })
    }
}

/// Converts milliseconds since the boot to milliseconds since 1970.
fn by_the_clock(since_boot: u64) -> Option<u64> {
    let uptime = std::fs::read_to_string("/proc/uptime").ok()?;
    let seconds: f64 = uptime.split_whitespace().next()?.parse().ok()?;
    let up = Duration::from_secs_f64(seconds);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    let booted = now.checked_sub(up)?;
    u64::try_from(booted.as_millis()).ok()?.checked_add(since_boot)
}
