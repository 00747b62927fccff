//! `status`: what is running, what is held, what differs, and the run under way.

use std::io::IsTerminal;
use std::path::Path;
use std::time::Duration;

use super::progress::Detail;
use super::session::Session;
use super::{out, session, terminal, waiting};
use crate::config::ConfigError;
use crate::converge::{Refused, Watch};
use crate::host::lock::Lock;
use crate::host::signals::Signals;
use crate::model::name::LOCK;
use crate::model::problem::Problem;

mod follow;
mod seen;
mod serving;
mod text;
mod under_way;

pub(super) use seen::Status;

/// Refresh interval of `--watch` while no run is under way.
const REFRESH: Duration = Duration::from_secs(2);

/// Exit code 0 if every instance serves the committed release and Caddy answers, else 4; 2 if agent.toml is invalid
/// and the host well.
pub async fn run(watch: bool, json: bool) -> Result<u8, Refused> {
    if watch {
        return follow_or_refresh(json).await;
    }
    let status = observe(json).await?;
    if json {
        out::json(&status);
    } else {
        out::line(&screen(&status));
    }
    Ok(status.exit_code())
}

async fn observe(json: bool) -> Result<Status, Refused> {
    let waiting = waiting::begin("looking at the host", json);
    session::root()?;
    look(waiting.detail(), waiting.watch()).await
}

/// One look at the host.
pub(super) async fn look(detail: Detail, watch: Watch) -> Result<Status, Refused> {
    let (config, errors) = session::config_or_last()?;
    let session = Session::open_with(config, detail, Signals::none()).await?;
    let reconciler = session.reconciler(watch)?;
    let snapshot = reconciler.snapshot(false).await?;
    let jobs = seen::jobs(&session).await;
    let status = seen::status(&session, &reconciler, &snapshot, Lock::holder_of(Path::new(LOCK)), jobs);
    Ok(match errors {
        // A reconcile and a deploy would refuse.
        Some(errors) => {
            let config_errors = errors.0.iter().map(ConfigError::summary).collect();
            Status { config_errors, drift: Vec::new(), pending: Vec::new(), ..status }
        }
        None => status,
    })
}

fn screen(status: &Status) -> String {
    text::text(status, terminal::now(), terminal::columns(), std::io::stdout().is_terminal())
}

/// Follows a run under way to its end; without one, refreshes the status until Ctrl-C.
async fn follow_or_refresh(json: bool) -> Result<u8, Refused> {
    session::root()?;
    if json {
        let fix = "a program asks `status --json` again, and `history --json` for the end";
        return Err(Problem::config("usage", "`--watch` has no answer in JSON", fix).into());
    }
    if let Some(holder) = Lock::holder_of(Path::new(LOCK)) {
        return follow::follow(&holder).await;
    }
    loop {
        let shown = screen(&observe(false).await?);
        // Redraws in place, without flicker.
        let top = if std::io::stdout().is_terminal() { "\x1b[H\x1b[J" } else { "" };
        out::line(&format!("{top}{shown}\n"));
        tokio::time::sleep(REFRESH).await;
    }
}
