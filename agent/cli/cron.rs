//! `cron list|run`: the jobs as systemd sees them.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::json;

use super::session::Session;
use super::{Cron, out, progress, session};
use crate::config::{Config, CronCommand, CronJob, Schedule};
use crate::converge::Refused;
use crate::host::systemd::Systemd;
use crate::host::timer::JobSeen;
use crate::model::exit::ExitCode;
use crate::model::name::CronName;
use crate::model::problem::Problem;
use crate::model::unit::{ServiceResult, UnitSeen};

/// Extra wait beyond a job's own timeout.
const MARGIN: Duration = Duration::from_secs(60);
/// The exit code for a failed job, whatever code the job itself gave.
const FAILED: u8 = 1;

pub(super) async fn run(what: &Cron, json: bool) -> Result<u8, Refused> {
    session::root()?;
    match what {
        Cron::List => {
            let config = session::config()?;
            list(&Systemd::connect().await?, &config.cron_jobs, json).await
        }
        Cron::Run { name } => run_job(name, json).await,
    }
}

/// How a run of a job ended.
struct Ended {
    /// The job was already running: this command waited for that run.
    joined: bool,
    took: Duration,
    /// Why it failed.
    failure: Option<String>,
    exit_code: Option<i32>,
    log: Vec<String>,
}

async fn run_job(name: &CronName, json: bool) -> Result<u8, Refused> {
    let (_, detail) = progress::watch(true);
    session::root()?;
    let session = Session::inspect(session::config()?, detail).await?;
    let job = find(&session.config, name)?;
    let systemd = &session.host.systemd;
    let before = systemd.job_seen(name).await?;
    let service = name.service();
    let begun = Instant::now();
    let waited = systemd.start(&service, job.timeout + MARGIN).await;
    let took = begun.elapsed();
    let (after, unit) = (systemd.job_seen(name).await?, systemd.unit(&service).await?);
    let failure = match waited {
        Err(error) => Some(failure(&unit, job, &error.to_string())),
        Ok(()) if !before.running && after.last == before.last => {
            Some("it did not run: no release is committed yet, or its unit has a condition".to_owned())
        }
        Ok(()) => None,
    };
    let log = session.host.last_lines(&service).await;
    let ended = Ended { joined: before.running, took, failure, exit_code: unit.exit_code, log };
    show(name, &before, &ended, json);
    Ok(if ended.failure.is_some() { FAILED } else { 0 })
}

fn find<'c>(config: &'c Config, name: &CronName) -> Result<&'c CronJob, Refused> {
    config.cron_jobs.iter().find(|job| job.name == *name).ok_or_else(|| {
        let known: Vec<_> = config.cron_jobs.iter().map(|job| job.name.as_str()).collect();
        let fix = match known.is_empty() {
            true => "agent.toml has no [[cron_jobs]]".to_owned(),
            false => format!("agent.toml has {}", known.join(", ")),
        };
        Problem::config("cron_job", format!("there is no cron job {name}"), fix).into()
    })
}

/// The failure as systemd reports it, else the error of the wait.
fn failure(unit: &UnitSeen, job: &CronJob, waited: &str) -> String {
    match (&unit.result, unit.exit_code) {
        (ServiceResult::Timeout, _) => format!("timed out after {:?}", job.timeout),
        (_, Some(code)) if code != 0 => format!("exit code {}", ExitCode(code)),
        _ => waited.to_owned(),
    }
}

fn show(name: &CronName, before: &JobSeen, ended: &Ended, json: bool) {
    let seconds = ended.took.as_secs_f64();
    if json {
        return out::json(&json!({
            "job": name, "outcome": if ended.failure.is_some() { "failed" } else { "finished" },
            "joined": ended.joined, "seconds": (seconds * 10.0).round() / 10.0,
            "error": ended.failure, "exit_code": ended.exit_code, "log": ended.log,
        }));
    }
    if ended.joined {
        let since = before.last.map_or(String::new(), |at| format!(" since {}", out::time(at)));
        out::line(&format!("{name} was running already{since}: waited for the end of that run"));
    }
    for line in &ended.log {
        out::line(&format!("  {line}"));
    }
    match &ended.failure {
        None => out::line(&format!("{name} finished in {seconds:.1} s")),
        Some(why) => {
            let what = format!("{name} failed after {seconds:.1} s: {why}");
            let fix = format!("`journalctl -u {} -n 50` has all of its output", name.service());
            out::error(&Problem::host("cron_job", what, fix).to_string());
        }
    }
}

async fn list(systemd: &Systemd, jobs: &[CronJob], json: bool) -> Result<u8, Refused> {
    let mut rows = Vec::new();
    for job in jobs {
        let seen = systemd.job_seen(&job.name).await?;
        let when = match &job.when {
            Schedule::Calendar(lines) => lines.join(" | "),
            Schedule::Every(every) => format!("every {every:?}"),
        };
        let what = match &job.what {
            CronCommand::Command(argv) => argv.join(" "),
            CronCommand::Run(job) => {
                format!("run: {}", [&job.entrypoint[..], &job.argv[..]].concat().join(" "))
            }
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
        out::json(&json!({ "jobs": rows }));
        return Ok(0);
    }
    if rows.is_empty() {
        out::line("agent.toml has no [[cron_jobs]]");
    }
    for (job, seen, when, what) in rows {
        let last = seen.last.map_or("never ran".to_owned(), |at| format!("last {}", out::time(at)));
        let result = seen.result.as_ref().map_or(String::new(), |result| format!(" ({result})"));
        let next = match (seen.running, seen.active, seen.next) {
            (true, ..) => "runs now".to_owned(),
            (_, false, _) => "its timer is stopped: `astra-agent reconcile` starts it".to_owned(),
            (.., Some(at)) => format!("next {}", until(&job.when, at)),
            (.., None) => "next after this run".to_owned(),
        };
        out::line(&format!("{:<24} {when}", job.name.as_str()));
        out::line(&format!("    {last}{result}, {next}"));
        out::line(&format!("    {what}"));
    }
    Ok(0)
}

/// A point in calendar time; for `every`, the time left until then.
fn until(when: &Schedule, at: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    match when {
        Schedule::Calendar(_) => out::time(at),
        Schedule::Every(_) => format!("in {} s", Duration::from_millis(at).saturating_sub(now).as_secs()),
    }
}
