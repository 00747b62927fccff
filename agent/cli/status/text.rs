//! `status` as text: one row a fact, short digests, ages, and no line wider than the terminal.

use std::fmt::Write;

use super::seen::{AccessorySeen, Held, Instance, Job, Run, Status};
use super::under_way::UnderWay;
use crate::cli::out::{BOLD, GREEN, RED, YELLOW, paint};
use crate::cli::step_line::{done, short};
use crate::cli::{history, terminal};
use crate::host::facts::millis_of;
use crate::model::unit::ServiceResult;

/// Least width of the name column.
const NAMES: usize = 12;
/// Only the newest held releases are listed.
const HELD_SHOWN: usize = 3;

/// `columns`: the width of the terminal; `now`: milliseconds since 1970.
pub fn text(status: &Status, now: u64, columns: Option<usize>, styled: bool) -> String {
    let mut text = String::new();
    let rows = rows(status, now, styled);
    let names = rows.iter().map(|(name, _)| name.len() + 1).max().unwrap_or_default().max(NAMES);
    for (name, what) in rows {
        let what = terminal::wrap(&what, names, columns);
        let _ = writeln!(text, "{}{what}", paint(BOLD, &format!("{name:<names$}"), styled));
    }
    text.trim_end().to_owned()
}

type Row = (String, String);

fn rows(status: &Status, now: u64, styled: bool) -> Vec<Row> {
    let mut rows = Vec::new();
    for error in &status.config_errors {
        row(&mut rows, "config", paint(RED, error, styled));
    }
    if !status.config_errors.is_empty() {
        let what = "agent.toml is invalid; what follows is by the last valid one";
        row(&mut rows, "config", what.to_owned());
    }
    rows.extend(release(status, now));
    rows.extend(status.instances.iter().map(|i| (named(i), instance(i, styled))));
    if !status.paused.is_empty() {
        let names = status.paused.join(", ");
        let what = format!("{names}: `astra-agent resume`, or `instances` in agent.toml, starts instances");
        row(&mut rows, "paused", paint(YELLOW, &what, styled));
    }
    rows.extend(status.accessories.iter().map(|a| (a.name.clone(), accessory(a, styled))));
    let silent = || paint(RED, "does not answer", styled);
    row(&mut rows, "caddy", status.caddy.as_ref().map_or_else(silent, |v| format!("answers ({v})")));
    row(&mut rows, "engine", status.engine.clone());
    if let Some(run) = &status.under_way {
        row(&mut rows, "run", paint(YELLOW, &under_way(run, now), styled));
    }
    if let Some(run) = status.cut_off_run {
        row(&mut rows, "run", format!("{run} was cut off; `astra-agent recover` closes it"));
    }
    if let Some(damage) = &status.journal_damaged {
        row(&mut rows, "journal", paint(RED, &format!("damaged, safe mode: {damage}"), styled));
    }
    held(&status.held, &mut rows);
    for drift in &status.drift {
        row(&mut rows, "drift", format!("reconcile would: {}", short(drift)));
    }
    for pending in &status.pending {
        row(&mut rows, "pending", short(pending));
    }
    cron(&status.cron_jobs, now, styled, &mut rows);
    last(status, now, styled, &mut rows);
    rows
}

fn row(rows: &mut Vec<Row>, name: &str, what: String) {
    rows.push((name.to_owned(), what));
}

fn release(status: &Status, now: u64) -> Vec<Row> {
    let mut rows = Vec::new();
    match (&status.release, &status.image) {
        (Some(release), Some(image)) => {
            let age = since(status.live_since.as_deref(), now);
            let live = age.map(|age| format!(", live for {age}")).unwrap_or_default();
            let pin = if status.pinned { ", pinned: `deploy` follows the tag again" } else { "" };
            row(&mut rows, "release", format!("{release}{live}{pin}"));
            row(&mut rows, "image", short(image));
            for (service, image) in &status.images {
                row(&mut rows, "image", format!("{} of {service}", short(&image.to_string())));
            }
        }
        _ => {
            let none = match status.installing() {
                Some(installing) => format!("none is committed; {installing}"),
                None => "none is committed; `astra-agent install` begins".to_owned(),
            };
            row(&mut rows, "release", status.lost_release.clone().unwrap_or(none));
        }
    }
    let back = match status.rollback_release {
        Some(number) => {
            let held = status
                .rollback_held
                .map(|run| format!(", which is held since run {run}: `rollback --force` tries it again"));
            format!("would go to release {number} ({}){}", status.rollback_digests, held.unwrap_or_default())
        }
        None => "nothing to go back to".to_owned(),
    };
    row(&mut rows, "rollback", back);
    if !status.urls.is_empty() {
        row(&mut rows, "url", status.urls.join(" "));
    }
    rows
}

fn accessory(a: &AccessorySeen, styled: bool) -> String {
    let Some(image) = &a.image else {
        let waits = "not started yet: the next deploy does so".to_owned();
        return a.unreadable.as_ref().map_or(waits, |why| paint(RED, why, styled));
    };
    let up = if a.up { paint(GREEN, "up", styled) } else { paint(RED, "not up", styled) };
    format!("{up}, {}, {}{}", short(image), a.state, restarted(a.restarts))
}

fn restarted(restarts: u32) -> String {
    match restarts {
        0 => String::new(),
        1 => ", restarted once".to_owned(),
        many => format!(", restarted {many} times"),
    }
}

pub(super) fn instance(i: &Instance, styled: bool) -> String {
    let ready = if i.ready { paint(GREEN, "ready", styled) } else { paint(RED, "not ready", styled) };
    let release = i.release.map_or("unknown".to_owned(), |r| r.to_string());
    let drained = if i.drained { paint(YELLOW, ", drained", styled) } else { String::new() };
    let unrouted = if i.unrouted { paint(RED, ", not routed by Caddy", styled) } else { String::new() };
    let restarts = restarted(i.restarts);
    let port = i.port.map(|port| format!(", port {port}")).unwrap_or_default();
    format!("{ready}{drained}{unrouted}, release {release}{port}, {}{restarts}", i.state)
}

/// `instance 1`, or `worker 1`
pub(super) fn named(i: &Instance) -> String {
    let service = if i.service == "app" { "instance" } else { &i.service };
    format!("{service} {}", i.instance)
}

/// `deploy (run 13) under way for 7 s by root: step 2 of 15, drain astra-app@1`
fn under_way(run: &UnderWay, now: u64) -> String {
    let number = run.run.map(|number| format!(" (run {number})")).unwrap_or_default();
    let age = since(Some(&run.since), now).map(|age| format!(" for {age}")).unwrap_or_default();
    format!("{}{number} under way{age} by {}: {}", run.command, run.actor, doing(run))
}

/// `step 2 of 15, drain astra-app@1`
pub(super) fn doing(run: &UnderWay) -> String {
    let doing = run.doing.as_deref().map(done).unwrap_or_default();
    match (run.step, run.of, run.undoing) {
        (_, _, true) => format!("undoing, {doing}"),
        (Some(step), Some(of), _) => format!("step {step} of {of}, {doing}"),
        _ => "preparing".to_owned(),
    }
}

/// The newest held releases, and the number of others.
fn held(held: &[Held], rows: &mut Vec<Row>) {
    for held in held.iter().rev().take(HELD_SHOWN) {
        let only = if held.only_environment {
            ", with the environment and container arguments of that time"
        } else {
            ""
        };
        let (release, digests, run) = (held.release, &held.digests, held.run);
        let what = format!("release {release} ({digests}{only}) since run {run}: {}", short(&held.reason));
        row(rows, "held", what);
    }
    if let Some(more) = held.len().checked_sub(HELD_SHOWN).filter(|more| *more > 0) {
        row(rows, "", format!("+{more} more: `astra-agent status --json`"));
    }
}

/// Failed jobs, and the next one due.
fn cron(jobs: &[Job], now: u64, styled: bool, rows: &mut Vec<Row>) {
    for job in jobs.iter().filter(|job| job.failed()) {
        let ago = job.last.as_deref().and_then(millis_of).map(|at| format!(" {}", terminal::ago(now, at)));
        let result = job.result.as_ref().map_or("", ServiceResult::word);
        let failed =
            paint(RED, &format!("{} failed{} ({result})", job.name, ago.unwrap_or_default()), styled);
        row(rows, "cron", format!("{failed}: `journalctl -u astra-cron-{} -n 50`", job.name));
    }
    let due = jobs.iter().filter_map(|job| Some((job.next.as_deref().and_then(millis_of)?, job)));
    if let Some((at, job)) = due.min_by_key(|(at, _)| *at) {
        let wait = terminal::span(std::time::Duration::from_millis(at.saturating_sub(now)));
        row(rows, "cron", format!("next is {} in {wait}", job.name));
    }
}

fn last(status: &Status, now: u64, styled: bool, rows: &mut Vec<Row>) {
    let deploy = status.last_deploy.as_ref();
    if let Some(run) = deploy {
        row(rows, "last deploy", ended(run, now, styled));
    }
    if let Some(run) =
        status.last_run.as_ref().filter(|run| deploy.is_none_or(|deploy| deploy.run != run.run))
    {
        row(rows, "last run", ended(run, now, styled));
    }
}

/// `run 14, rollback to release 5, 2 h ago by root: converged in 15.6 s`
fn ended(run: &Run, now: u64, styled: bool) -> String {
    let release = run.release.map(|number| format!(" release {number}")).unwrap_or_default();
    let ago = since_ago(&run.at, now);
    let outcome = history::painted(run.outcome, styled);
    let took = run.seconds.map(|s| format!(" in {s:.1} s")).unwrap_or_default();
    let reason = run.reason.as_ref().map(|r| format!(": {}", short(r))).unwrap_or_default();
    let verb = run.verb.as_str();
    format!("run {}, {verb}{release}, {ago} by {}: {outcome}{took}{reason}", run.run, run.actor)
}

fn since(at: Option<&str>, now: u64) -> Option<String> {
    let elapsed = now.saturating_sub(millis_of(at?)?);
    Some(terminal::span(std::time::Duration::from_millis(elapsed)))
}

fn since_ago(at: &str, now: u64) -> String {
    millis_of(at).map_or_else(|| at.to_owned(), |at| terminal::ago(now, at))
}

#[cfg(test)]
mod tests;
