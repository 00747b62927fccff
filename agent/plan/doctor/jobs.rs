//! Cron jobs that failed, and jobs of the app outside of the agent.

use super::Inputs;
use crate::model::checkup::{Checkup, ForeignJob};
use crate::model::problem::Problem;

pub(super) fn findings(inputs: &Inputs<'_>, checkup: &Checkup) -> Vec<Problem> {
    let mut found: Vec<_> = checkup
        .failed_jobs
        .iter()
        .map(|(name, how)| {
            let what = format!("the last run of cron job {name} failed: {how}");
            let fix = format!(
                "`journalctl -u {} -n 50` says why; `astra-agent cron run {name}` runs it again",
                name.service()
            );
            Problem::host("cron_failed", what, fix)
        })
        .collect();
    found.extend(checkup.foreign_jobs.iter().map(|job| foreign(inputs, job)));
    found
}

/// A foreign job probably does the work of a `[[cron_jobs]]` entry a second time.
fn foreign(inputs: &Inputs<'_>, job: &ForeignJob) -> Problem {
    let (what, fix) = match job {
        ForeignJob::Line { file, line } => (
            format!("{}:{line} enters a container of the app", file.display()),
            "write it as `run` under [[cron_jobs]], which no deploy cuts, and delete the line".to_owned(),
        ),
        ForeignJob::Timer { unit } => (
            format!("{unit} runs, and is not the agent's"),
            format!("write its job as `run` under [[cron_jobs]]; then `systemctl disable --now {unit}`"),
        ),
    };
    match inputs.config.cron_jobs.is_empty() {
        true => Problem::note("foreign_job", what, fix),
        false => {
            Problem::host("foreign_job", format!("{what}: beside [[cron_jobs]] it may do work twice"), fix)
        }
    }
}
