//! `doctor`: what is unsafe or broken on this host, with a fix for each finding. Changes nothing.

use std::io::IsTerminal;

use serde_json::json;

use super::out::{self, BOLD, GREEN, RED, YELLOW, paint};
use super::session::{self, Session};
use super::{terminal, waiting};
use crate::config::ConfigError;
use crate::converge::{Refused, Snapshot};
use crate::journal::Journal;
use crate::model::history::History;
use crate::model::name::{JOURNAL_DIR, RECONCILE_UNIT};
use crate::model::observed::Observed;
use crate::model::outcome::Outcome;
use crate::model::problem::{Problem, Severity};
use crate::plan::doctor::{blind, findings, watched};
use crate::plan::units;

/// Exit code 0 without problems, 4 with one. Notes do not count.
pub async fn run(json: bool) -> Result<u8, Refused> {
    let waiting = waiting::begin("looking at the host and asking the registry", json);
    session::root()?;
    let (config, errors) = session::config_or_last()?;
    let session = Session::inspect(config, waiting.detail()).await?;
    let config = &session.config;
    let mut names = units::enabled(config);
    names.push(RECONCILE_UNIT.to_owned());
    names.extend(config.migrations().map(|(of, _)| config.name.migration_unit(of.name)));
    names.extend(config.spares().map(|id| config.name.unit(id)));
    names.extend(config.cron_jobs.iter().map(|job| job.name.service()));
    let checkup = session.host.checkup(config, &watched(config), &names).await;
    let reconciler = session.reconciler(waiting.watch())?;
    let mut found: Vec<Problem> = errors.iter().flat_map(|errors| &errors.0).map(invalid).collect();
    found.extend(match reconciler.snapshot(true).await {
        Ok(mut snapshot) => {
            reconciler.ask_sources(&mut snapshot).await?;
            findings(&reconciler.inputs(&snapshot), &checkup)
        }
        Err(error) => {
            let history = Journal::at(JOURNAL_DIR).history().unwrap_or_else(|_| History::default());
            let snapshot = Snapshot { observed: Observed::default(), history, caddy_image: None };
            blind(&reconciler.inputs(&snapshot), &checkup, &format!("{error:#}"))
        }
    });
    drop(waiting);
    let ill = found.iter().any(|f| f.severity == Severity::Problem);
    if json {
        out::json(&json!({ "ok": !ill, "findings": found }));
    } else {
        show(&found);
    }
    Ok(if ill { Outcome::Incomplete.exit_code() } else { 0 })
}

fn invalid(error: &ConfigError) -> Problem {
    let fix = "`astra-agent check` shows the line; until then the last valid agent.toml holds, and only `recover` and \
               `rollback` change the host";
    Problem::config("config", error.summary(), fix)
}

/// Indentation of the wrapped lines of a finding.
const FIX: usize = 7;

fn show(found: &[Problem]) {
    let styled = std::io::stdout().is_terminal();
    let columns = terminal::columns();
    for finding in found {
        let (style, word) = match finding.severity {
            Severity::Problem => (RED, "problem"),
            Severity::Note => (YELLOW, "note"),
        };
        let what = format!("{} {}", paint(style, &format!("{word}:"), styled), finding.what);
        out::line(&terminal::wrap(&what, FIX, columns));
        let fix = format!("  {} {}", paint(BOLD, "fix:", styled), finding.fix);
        out::line(&terminal::wrap(&fix, FIX, columns));
    }
    let problems = found.iter().filter(|f| f.severity == Severity::Problem).count();
    match problems {
        0 => out::line(&paint(GREEN, "no problems found", styled)),
        1 => out::line("1 problem"),
        many => out::line(&format!("{many} problems")),
    }
}
