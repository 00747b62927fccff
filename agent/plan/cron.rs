//! Cron jobs as timers and services. Called by units.rs.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::config::{Config, CronCommand, CronJob, Schedule};
use crate::model::name::unit_file;
use crate::model::observed::Engine;

use super::units::lines::own_lines;
use super::units::text::{filled, quote_exec, span};
use super::units::{container, one_off};

/// A timer and a service for every job.
pub fn render(config: &Config, engine: Engine) -> BTreeMap<PathBuf, String> {
    let timers = config.cron_jobs.iter().map(|job| (unit_file(&job.name.timer()), timer(job)));
    let services =
        config.cron_jobs.iter().map(|job| (unit_file(&job.name.service()), service(config, engine, job)));
    timers.chain(services).collect()
}

fn timer(job: &CronJob) -> String {
    let (when, accuracy) = match &job.when {
        Schedule::Calendar(lines) => {
            (lines.iter().map(|l| format!("OnCalendar={l}")).collect::<Vec<_>>().join("\n"), "1s")
        }
        // A period is counted from start to start, and first from when the timer is armed. Not OnCalendar=:
        // it can only express periods that divide a minute, an hour or a day, and jumps with the clock. A run
        // that takes longer than the period is followed by the next at once; they never overlap. With an
        // accuracy of 1 s a job of every 2 s ran every 3 s.
        Schedule::Every(time) => (format!("OnActiveSec={0}\nOnUnitActiveSec={0}", span(*time)), "50ms"),
    };
    filled(
        include_str!("../../units/cron.timer"),
        &[("service", &job.name.service()), ("when", &when), ("accuracy", accuracy)],
    )
}

fn service(config: &Config, engine: Engine, job: &CronJob) -> String {
    let timeout = span(job.timeout);
    let (name, app) = (job.name.as_str(), &config.name);
    match &job.what {
        CronCommand::Command(argv) => filled(
            include_str!("../../units/cron-command.service"),
            &[("name", name), ("command", &quote_exec(argv)), ("timeout", &timeout)],
        ),
        CronCommand::Run(job) => {
            let entrypoint = container::entrypoint(&job.entrypoint, &config.app);
            let env_file = app.env_file().to_string_lossy().into_owned();
            filled(
                include_str!("../../units/cron-run.service"),
                &[
                    ("name", name),
                    ("env_file", &env_file),
                    ("own_lines", &own_lines(&env_file, &format!("/run/astra/cron-{name}.env"))),
                    ("client", one_off::client(engine)),
                    ("sweep", &one_off::sweep(engine, &format!("astra-cron-{name}"))),
                    ("clear", &one_off::clear(engine, &format!("astra-cron-{name}"))),
                    ("one_off", &quote_exec(&one_off::args(engine, entrypoint, &job.env))),
                    ("command", &quote_exec(&container::argv(entrypoint, &job.argv))),
                    ("timeout", &timeout),
                    ("stop_timeout", &one_off::stop(&config.app)),
                ],
            )
        }
    }
}
