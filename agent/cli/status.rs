//! `status`: what runs, what is held, what differs.

use std::fmt::Write;
use std::io::IsTerminal;

use serde::Serialize;

use super::out::{self, BOLD, GREEN, RED, YELLOW, paint};
use super::progress;
use super::session::Session;
use crate::converge::{Foreman, Look, Refused};
use crate::host::signals::Signals;
use crate::model::entry::Verb;
use crate::model::outcome::Outcome;

/// The answer of `status --json`.
#[derive(Debug, Serialize)]
struct Status {
    release: Option<u64>,
    image: Option<String>,
    rollback_to: Option<String>,
    pinned: bool,
    /// Why nobody can tell from astra.env what is committed, and what to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    lost_release: Option<String>,
    instances: Vec<Instance>,
    caddy: Option<String>,
    held: Vec<Held>,
    /// What `reconcile` would do.
    drift: Vec<String>,
    /// What only `deploy` would change.
    pending: Vec<String>,
    cut_off_run: Option<u64>,
    journal_damaged: Option<String>,
    last_run: Option<Run>,
}

#[derive(Debug, Serialize)]
struct Instance {
    instance: u16,
    unit: String,
    state: String,
    release: Option<u64>,
    ready: bool,
    drained: bool,
    restarts: u32,
}

#[derive(Debug, Serialize)]
struct Held {
    release: u64,
    digest: String,
    /// The image itself served; what it was tried with is held.
    only_environment: bool,
    reason: String,
}

#[derive(Debug, Serialize)]
struct Run {
    run: u64,
    verb: Verb,
    at: String,
    outcome: Option<Outcome>,
    reason: Option<String>,
}

/// Exit code 0 when every instance serves the committed release and Caddy answers, 4 when a person should look.
pub async fn run(json: bool) -> Result<u8, Refused> {
    let (watch, detail) = progress::watch(true);
    let session = Session::open(detail, Signals::none()).await?;
    let foreman = session.foreman(watch)?;
    let look = foreman.look(false).await?;
    let status = status(&foreman, &look);
    if json {
        out::json(&status);
    } else {
        out::line(text(&status).trim_end());
    }
    let serves = status.instances.iter().filter(|i| i.instance <= session.config.app.instances);
    let well = serves.clone().count() > 0 && serves.clone().all(|i| i.ready && i.release == status.release);
    Ok(if well && status.caddy.is_some() && status.journal_damaged.is_none() { 0 } else { 4 })
}

fn status(foreman: &Foreman<'_>, look: &Look) -> Status {
    let inputs = foreman.inputs(look);
    let committed = inputs.committed();
    let observed = &look.observed;
    let history = &look.history;
    let instances = observed
        .instances
        .iter()
        .filter(|(id, seen)| foreman.config.instances().any(|i| i == **id) || seen.unit.active != "inactive");
    Status {
        release: committed.as_ref().map(|c| c.release),
        image: committed.as_ref().map(|c| c.image.to_string()),
        rollback_to: history.rollback_target().map(|r| r.image.to_string()),
        pinned: inputs.is_chosen(),
        lost_release: match inputs.env_file().managed() {
            Ok(None) if inputs.is_nameless() => {
                Some(format!("astra.env names none: {}", inputs.name_again()))
            }
            Ok(_) => None,
            Err(error) => {
                Some(format!("astra.env cannot be read: {error}; `astra-agent doctor` says what to do"))
            }
        },
        instances: instances
            .map(|(id, seen)| Instance {
                instance: id.get(),
                unit: foreman.config.app.name.unit(*id),
                state: format!("{} ({})", seen.unit.active, seen.unit.sub),
                release: seen.runs.as_ref().map(|r| r.release),
                ready: seen.ready,
                drained: observed.markers.contains(id),
                restarts: seen.unit.restarts,
            })
            .collect(),
        caddy: observed
            .caddy
            .as_ref()
            .map(|c| c.version.map_or("no version".to_owned(), |(major, minor)| format!("{major}.{minor}"))),
        held: history
            .held
            .iter()
            .map(|h| Held {
                release: h.release.number,
                digest: h.release.image.digest.to_string(),
                only_environment: h.exactly,
                reason: out::first_line(&h.reason).to_owned(),
            })
            .collect(),
        drift: foreman.keep_plan(look, Verb::Reconcile).steps.iter().map(ToString::to_string).collect(),
        pending: crate::plan::release::pending(&inputs),
        cut_off_run: history.open_runs().next().map(|r| r.id),
        journal_damaged: history.damaged.clone(),
        last_run: history.runs.last().and_then(|r| {
            let opened = r.opened()?;
            let closed = r.closed();
            Some(Run {
                run: r.id,
                verb: opened.verb,
                at: out::time(opened.at),
                outcome: closed.map(|(outcome, _, _)| outcome),
                reason: closed.and_then(|(_, reason, _)| reason.map(out::first_line).map(str::to_owned)),
            })
        }),
    }
}

fn text(status: &Status) -> String {
    let styled = std::io::stdout().is_terminal();
    let bold = |t: &str| paint(BOLD, &format!("{t:<10}"), styled);
    let mut text = String::new();
    let mut row = |name: &str, what: &str| {
        let _ = writeln!(text, "{} {what}", bold(name));
    };
    match (&status.release, &status.image) {
        (Some(release), Some(image)) => {
            let pin = if status.pinned { ", pinned: `deploy` follows the tag again" } else { "" };
            row("release", &format!("{release} ({image}){pin}"));
        }
        _ => row(
            "release",
            status.lost_release.as_deref().unwrap_or("none is committed; `astra-agent install` begins"),
        ),
    }
    row("rollback", status.rollback_to.as_deref().unwrap_or("nothing to go back to"));
    for i in &status.instances {
        let ready = if i.ready { paint(GREEN, "ready", styled) } else { paint(RED, "not ready", styled) };
        let release = i.release.map_or("unknown".to_owned(), |r| r.to_string());
        let drained = if i.drained { paint(YELLOW, ", drained", styled) } else { String::new() };
        let restarts =
            if i.restarts > 0 { format!(", restarted {} times", i.restarts) } else { String::new() };
        row(
            &format!("instance {}", i.instance),
            &format!("{ready}{drained}, release {release}, {}{restarts}", i.state),
        );
    }
    row("caddy", &status.caddy.as_ref().map_or("does not answer".to_owned(), |v| format!("answers ({v})")));
    for held in &status.held {
        let only = if held.only_environment {
            ", with the environment and container arguments of that time"
        } else {
            ""
        };
        row("held", &format!("release {} ({}{only}): {}", held.release, held.digest, held.reason));
    }
    for drift in &status.drift {
        row("drift", &format!("reconcile would: {drift}"));
    }
    for pending in &status.pending {
        row("pending", pending);
    }
    if let Some(run) = status.cut_off_run {
        row("run", &format!("{run} is under way or was cut off; `astra-agent recover` closes it"));
    }
    if let Some(damage) = &status.journal_damaged {
        row("journal", &format!("damaged, safe mode: {damage}"));
    }
    if let Some(run) = &status.last_run {
        let outcome = run.outcome.map_or("not ended", super::history::word);
        let reason = run.reason.as_ref().map(|r| format!(": {r}")).unwrap_or_default();
        row("last run", &format!("{} {} at {}: {outcome}{reason}", run.run, run.verb.as_str(), run.at));
    }
    text
}
