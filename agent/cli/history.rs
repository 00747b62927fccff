//! `history`: the runs of this host, newest first.

use std::io::IsTerminal;

use serde::Serialize;

use super::out::{self, GREEN, RED, paint};
use super::session;
use crate::converge::Refused;
use crate::journal::Journal;
use crate::model::entry::{Entry, Verb};
use crate::model::history::RunRecord;
use crate::model::name::JOURNAL_DIR;
use crate::model::outcome::{Blame, Outcome};
use crate::model::release::Release;

#[derive(Debug, Serialize)]
struct Row {
    run: u64,
    at: String,
    verb: Verb,
    actor: String,
    release: Option<Release>,
    outcome: Option<Outcome>,
    reason: Option<String>,
    seconds: Option<f64>,
    /// Closed by a later recover.
    recovered: bool,
    /// The steps that were planned.
    plan: Vec<String>,
}

pub fn run(lines: usize, json: bool) -> Result<u8, Refused> {
    session::root()?;
    let history = Journal::at(JOURNAL_DIR).history()?;
    if let Some(damage) = &history.damaged {
        out::warning(&format!("the journal is damaged, some runs are missing: {damage}"));
    }
    let rows: Vec<Row> = history.runs.iter().rev().take(lines).filter_map(row).collect();
    if json {
        out::json(&rows);
    } else if rows.is_empty() {
        out::line("no run yet");
    }
    let styled = std::io::stdout().is_terminal();
    for row in rows.iter().filter(|_| !json) {
        let release =
            row.release.as_ref().map(|r| format!(" release {} ({})", r.number, r.image.digest.short()));
        let word = row.outcome.map_or("not ended", word);
        let style = if row.outcome == Some(Outcome::Converged) { GREEN } else { RED };
        let seconds = row.seconds.map(|s| format!(" {s:.1} s")).unwrap_or_default();
        let by = if row.recovered { ", closed by recover" } else { "" };
        out::line(&format!(
            "{:>5}  {}  {:<10} {}{}{seconds}  by {}{by}",
            row.run,
            row.at,
            row.verb.as_str(),
            paint(style, word, styled),
            release.unwrap_or_default(),
            row.actor,
        ));
        if let Some(reason) = &row.reason {
            out::line(&format!("         {}", out::first_line(reason)));
        }
    }
    Ok(0)
}

fn row(run: &RunRecord) -> Option<Row> {
    let opened = run.opened()?;
    let closed = run.closed();
    let plan = run.entries.first().and_then(|s| match &s.entry {
        Entry::Opened { plan, .. } => Some(plan.clone()),
        _ => None,
    });
    Some(Row {
        run: run.id,
        at: out::time(opened.at),
        verb: opened.verb,
        actor: opened.actor.to_owned(),
        release: opened.new.cloned(),
        outcome: closed.map(|(outcome, _, _)| outcome),
        reason: closed.and_then(|(_, reason, _)| reason.map(str::to_owned)),
        seconds: closed
            .map(|(_, _, at)| std::time::Duration::from_millis(at.saturating_sub(opened.at)).as_secs_f64()),
        recovered: run.entries.iter().any(|s| matches!(s.entry, Entry::Closed { recovered: true, .. })),
        plan: plan.unwrap_or_default(),
    })
}

/// An outcome in words.
pub fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Converged => "converged",
        Outcome::Undone { blame: Blame::Release } => "undone, the release failed",
        Outcome::Undone { blame: Blame::Host } => "undone",
        Outcome::Failed { blame: Blame::Release } => "the release failed",
        Outcome::Failed { blame: Blame::Host } => "failed",
        Outcome::Incomplete => "incomplete",
    }
}
