//! `history`: the runs of this host, newest first.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::Duration;

use serde::Serialize;
use serde_json::json;

use super::out::{self, BOLD, GREEN, RED, paint};
use super::{session, terminal};
use crate::converge::Refused;
use crate::host::facts::millis_of;
use crate::journal::Journal;
use crate::model::digest::Digest;
use crate::model::entry::{Entry, Verb};
use crate::model::history::{Opened, RunRecord};
use crate::model::instance::ServiceName;
use crate::model::name::JOURNAL_DIR;
use crate::model::outcome::{Blame, Outcome};
use crate::model::release::Release;

/// Spaces between two columns.
const GAP: &str = "  ";
/// Indentation of the reason of a run.
const INDENT: usize = 6;
/// The column that a narrow terminal leaves out: the age already says it.
const STARTED: usize = 2;

#[derive(Debug, Serialize)]
struct Row {
    run: u64,
    at: String,
    verb: Verb,
    #[serde(skip_serializing_if = "Option::is_none")]
    accessory: Option<ServiceName>,
    /// The images of services that have their own, if they are not those of the release before.
    #[serde(skip)]
    changed: BTreeMap<ServiceName, Digest>,
    actor: String,
    release: Option<Release>,
    outcome: Option<Outcome>,
    reason: Option<String>,
    seconds: Option<f64>,
    /// Closed by a later `recover`.
    recovered: bool,
    /// The steps that were planned.
    plan: Vec<String>,
}

/// `lines`: how many runs, 0 for all.
pub fn run(lines: usize, json: bool) -> Result<u8, Refused> {
    session::root()?;
    let history = Journal::at(JOURNAL_DIR).history()?;
    if let Some(damage) = &history.damaged {
        out::warning(&format!("the journal is damaged, some runs are missing: {damage}"));
    }
    let lines = if lines == 0 { usize::MAX } else { lines };
    let rows: Vec<Row> = history.runs.iter().rev().take(lines).filter_map(row).collect();
    if json {
        out::json(&json!({ "runs": rows }));
    } else if rows.is_empty() {
        out::line("no run yet");
    } else {
        let styled = std::io::stdout().is_terminal();
        out::line(&table(&rows, terminal::now(), terminal::columns(), styled));
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
        accessory: opened.accessory,
        changed: changed(&opened),
        actor: opened.actor.to_owned(),
        release: opened.new.cloned(),
        outcome: closed.map(|(outcome, _, _)| outcome),
        reason: closed.and_then(|(_, reason, _)| reason.map(str::to_owned)),
        seconds: closed.map(|(_, _, at)| Duration::from_millis(at.saturating_sub(opened.at)).as_secs_f64()),
        recovered: run.entries.iter().any(|s| matches!(s.entry, Entry::Closed { recovered: true, .. })),
        plan: plan.unwrap_or_default(),
    })
}

/// The images of services that the run brought, beside that of the app, which has a column.
fn changed(opened: &Opened<'_>) -> BTreeMap<ServiceName, Digest> {
    let mut brought = opened.new.zip(opened.old).map(|(new, old)| new.beyond(old)).unwrap_or_default();
    brought.remove(&ServiceName::app());
    brought
}

const HEADER: [&str; 9] = ["RUN", "AGE", "STARTED", "VERB", "RELEASE", "DIGEST", "OUTCOME", "TOOK", "BY"];

/// A table with columns as wide as their content; `columns` is the terminal's width.
fn table(rows: &[Row], now: u64, columns: Option<usize>, styled: bool) -> String {
    let cells: Vec<[String; 9]> = rows.iter().map(|row| cells(row, now, styled)).collect();
    let width = |column: usize| {
        let header = HEADER.get(column).map_or(0, |name| name.len());
        cells
            .iter()
            .filter_map(|row| row.get(column))
            .map(|cell| terminal::shown(cell))
            .fold(header, usize::max)
    };
    let widths: Vec<usize> = (0..HEADER.len()).map(width).collect();
    let whole: usize = widths.iter().sum::<usize>() + GAP.len() * (HEADER.len() - 1);
    let narrow = columns.is_some_and(|columns| columns < whole);
    let line = |row: &[String]| {
        let kept = row.iter().zip(&widths).enumerate().filter(|(n, _)| !narrow || *n != STARTED);
        let padded =
            kept.map(|(_, (cell, width))| format!("{cell}{}", " ".repeat(width - terminal::shown(cell))));
        padded.collect::<Vec<_>>().join(GAP).trim_end().to_owned()
    };
    let mut lines = vec![paint(BOLD, &line(&HEADER.map(str::to_owned)), styled)];
    for (row, cells) in rows.iter().zip(&cells) {
        lines.push(line(cells));
        let changed = row.changed.iter().map(|(name, digest)| format!("{name} {}", digest.short()));
        let changed = changed.collect::<Vec<_>>().join(", ");
        let changed = (!changed.is_empty()).then(|| format!("with {changed}"));
        let by_recover = row.recovered.then(|| "closed by recover".to_owned());
        let reason = row.reason.as_deref().map(|r| super::step_line::short(out::first_line(r)));
        for remark in changed.into_iter().chain(by_recover).chain(reason) {
            let remark = terminal::wrap(&remark, INDENT, columns);
            lines.push(format!("{}{remark}", " ".repeat(INDENT)));
        }
    }
    lines.join("\n")
}

fn cells(row: &Row, now: u64, styled: bool) -> [String; 9] {
    let age = millis_of(&row.at).map(|at| terminal::ago(now, at)).unwrap_or_default();
    // To the second: `2026-11-21 04:23:42Z`.
    let started = row.at.get(..19).map(|at| format!("{}Z", at.replace('T', " "))).unwrap_or_default();
    let release = row.release.as_ref();
    // A command puts the host in order in runs of their own; a refused release has none.
    let about = match row.accessory {
        Some(accessory) => format!(" {accessory}"),
        None if row.verb.deploys() && release.is_none() => " (no release)".to_owned(),
        None => String::new(),
    };
    let digest = release.and_then(|r| r.image.digest.hex().get(..12)).unwrap_or("-");
    [
        row.run.to_string(),
        age,
        started,
        format!("{}{about}", row.verb.as_str()),
        release.map_or("-".to_owned(), |r| r.number.to_string()),
        digest.to_owned(),
        painted(row.outcome, styled),
        row.seconds.map_or("-".to_owned(), |s| format!("{s:.1} s")),
        row.actor.clone(),
    ]
}

/// An outcome in its colour; a run without an outcome has not ended.
pub fn painted(outcome: Option<Outcome>, styled: bool) -> String {
    let style = if outcome == Some(Outcome::Converged) { GREEN } else { RED };
    paint(style, outcome.map_or("not ended", outcome_label), styled)
}

/// The outcome as a word.
pub fn outcome_label(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Converged => "converged",
        Outcome::Undone { blame: Blame::Release } | Outcome::Failed { blame: Blame::Release } => {
            "release failed"
        }
        Outcome::Undone { blame: Blame::Host } => "undone",
        Outcome::Failed { blame: Blame::Host } => "failed",
        Outcome::Incomplete => "incomplete",
    }
}

#[cfg(test)]
mod tests;
