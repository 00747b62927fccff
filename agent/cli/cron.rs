//! `cron list|run`: the jobs as systemd sees them.

use std::time::Duration;

use anyhow::anyhow;
use serde_json::json;

use super::{Cron, out, session};
use crate::config::{CronJob, What, When};
use crate::converge::Refused;
use crate::host::systemd::Systemd;
use crate::model::outcome::EXIT_USAGE;

/// Without a time-out of its own a job may take that long (units/cron.service).
const LONGEST: Duration = Duration::from_secs(3600);

pub(super) async fn run(what: &Cron, json: bool) -> Result<u8, Refused> {
    session::root()?;
    let config = session::config()?;
    let systemd = Systemd::connect().await?;
    match what {
        Cron::List => list(&systemd, &config.cron_jobs, json).await,
        Cron::Run { name } => {
            let job = config.cron_jobs.iter().find(|j| j.name == *name).ok_or_else(|| {
                let known: Vec<_> = config.cron_jobs.iter().map(|j| j.name.as_str()).collect();
                let error =
                    anyhow!("there is no cron job {name}\n  hint: agent.toml has {}", known.join(", "));
                Refused { exit_code: EXIT_USAGE, error }
            })?;
            let longest = job.timeout.unwrap_or(LONGEST) + Duration::from_secs(60);
            let begun = std::time::Instant::now();
            let service = name.service();
            systemd.start(&service, longest).await.map_err(|error| {
                anyhow!("{name} failed: {error}\n  hint: `journalctl -u {service} -n 50` has its output")
            })?;
            out::line(&format!("{name} ran, {:.1} s", begun.elapsed().as_secs_f64()));
            Ok(0)
        }
    }
}

async fn list(systemd: &Systemd, jobs: &[CronJob], json: bool) -> Result<u8, Refused> {
    let mut rows = Vec::new();
    for job in jobs {
        let seen = systemd.job_seen(&job.name).await?;
        let when = match &job.when {
            When::Calendar(lines) => lines.join(" | "),
            When::Every(every) => format!("every {every:?}"),
        };
        let what = match &job.what {
            What::Command(argv) => argv.join(" "),
            What::Run(argv) => format!("run: {}", argv.join(" ")),
        };
        rows.push((job, seen, when, what));
    }
    if json {
        let rows: Vec<_> = rows
            .iter()
            .map(|(job, seen, when, what)| {
                json!({
                    "name": job.name, "when": when, "what": what, "active": seen.active, "running": seen.running,
                    "last": seen.last.map(out::time), "next": seen.next.map(out::time), "result": seen.result,
                })
            })
            .collect();
        out::json(&rows);
        return Ok(0);
    }
    if rows.is_empty() {
        out::line("agent.toml has no [[cron_jobs]]");
    }
    for (job, seen, when, what) in rows {
        let last = seen.last.map_or("never ran".to_owned(), |at| format!("last {}", out::time(at)));
        let result = seen.result.map_or(String::new(), |result| format!(" ({result})"));
        let next = match (seen.running, seen.active, seen.next) {
            (true, ..) => "runs now".to_owned(),
            (_, false, _) => "its timer is stopped: `astra-agent reconcile` starts it".to_owned(),
            (.., Some(at)) => format!("next {}", out::time(at)),
            (.., None) => "next when its time has passed".to_owned(),
        };
        out::line(&format!("{:<24} {when}", job.name.as_str()));
        out::line(&format!("    {last}{result}, {next}"));
        out::line(&format!("    {what}"));
    }
    Ok(0)
}
