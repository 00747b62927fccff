//! The row of a met fault: printed, and recorded for the campaign.

use std::env;

use super::row::Row;
use crate::harness::Output;
use crate::report::Report;
use crate::rows;

pub struct Met<'a> {
    pub row: &'a Row,
    pub output: &'a Output,
    pub seconds: f64,
    pub report: &'a Report,
}

impl Met<'_> {
    /// The requests that were lost without the row's permission.
    pub fn lost(&self) -> Option<String> {
        if self.report.failed == 0 || !self.row.may_lose.is_empty() {
            return None;
        }
        let errors = self.report.kinds.values().flat_map(|kind| &kind.errors);
        let errors: Vec<_> = errors.take(3).map(|e| format!("{} s: {}", e.at, e.error)).collect();
        Some(format!("{} of {} requests lost: {errors:?}", self.report.failed, self.report.total))
    }

    /// One line of a table; all details after a failure, or with ASTRA_FAULTS_SHOW.
    pub fn print(&self, faults: &[String]) {
        let Self { row, output, seconds, report } = self;
        let verdict = match (faults.is_empty(), report.failed) {
            (false, _) => "FAILED".to_owned(),
            (true, 0) => "ok".to_owned(),
            (true, _) => format!("ok: {}", row.may_lose),
        };
        let fault = rows::Row::Fault {
            id: row.id.into(),
            what: row.what.into(),
            outcome: outcome(output).into(),
            code: output.code(),
            seconds: *seconds,
            requests: report.total,
            lost: report.failed,
            verdict,
        };
        rows::record(&fault).unwrap();
        if faults.is_empty() && env::var_os("ASTRA_FAULTS_SHOW").is_none() {
            return;
        }
        for fault in faults {
            println!("      ! {}", fault.trim().replace('\n', "\n        "));
        }
        println!("      | {}", output.text().trim().replace('\n', "\n      | "));
    }
}

/// The outcome that the closing line shows (agent/converge/report.rs), or a replacement.
fn outcome(output: &Output) -> &'static str {
    let closings = [
        (" is live", "converged"),
        ("converged (", "converged"),
        ("up to date: ", "nothing to do"),
        ("nothing to do", "nothing to do"),
        (" was taken back; ", "undone"),
        ("undone (", "undone"),
        ("; nothing was changed", "failed"),
        ("incomplete", "incomplete"),
    ];
    // The last line decides: a row may have several commands.
    let outcome = |line: &str| closings.iter().find(|(part, _)| line.contains(part)).map(|(_, word)| *word);
    let closing = output.stdout.lines().filter(|line| !line.starts_with(' ')).filter_map(outcome).next_back();
    closing.unwrap_or(if output.stderr.contains("error:") { "refused" } else { "-" })
}
