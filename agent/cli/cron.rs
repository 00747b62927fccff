//! `cron list|run`: the jobs as systemd sees them.

use std::time::Duration;

use anyhow::{Context, anyhow};
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
            systemd
                .start(&name.service(), longest)
                .await
                .with_context(|| format!("running {name}; its output: journalctl -u {}", name.service()))?;
            out::line(&format!("{name} ran, {:.1} s", begun.elapsed().as_secs_f64()));
            Ok(0)
        }
    }
}

async fn list(systemd: &Systemd, jobs: &[CronJob], json: bool) -> Result<u8, Refused> {
    let mut rows = Vec::new();
    for job in jobs {
        let timer = systemd.timer(&job.name.timer()).await?;
        let service = systemd.unit(&job.name.service()).await?;
        let when = match &job.when {
            When::Calendar(lines) => lines.join(" | "),
            When::Every(every) => format!("every {every:?}"),
        };
        let what = match &job.what {
            What::Command(argv) => argv.join(" "),
            What::Run(argv) => format!("run: {}", argv.join(" ")),
        };
        rows.push((job, timer, service, when, what));
    }
    if json {
        let rows: Vec<_> = rows
            .iter()
            .map(|(job, timer, service, when, what)| {
                json!({
                    "name": job.name, "when": when, "what": what, "active": timer.active,
                    "last": timer.last.map(out::time), "next": timer.next.map(out::time), "result": service.result,
                })
            })
            .collect();
        out::json(&rows);
        return Ok(0);
    }
    if rows.is_empty() {
        out::line("agent.toml has no [[cron_jobs]]");
    }
    for (job, timer, service, when, what) in rows {
        let last = timer.last.map_or("never".to_owned(), out::time);
        let next = timer.next.map_or("-".to_owned(), out::time);
        out::line(&format!("{:<24} {when}", job.name.as_str()));
        out::line(&format!("    last {last} ({}), next {next}", service.result));
        out::line(&format!("    {what}"));
    }
    Ok(0)
}
