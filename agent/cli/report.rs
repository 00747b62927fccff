//! The closing words of a run.

use std::io::IsTerminal;

use serde_json::json;

use super::out::{self, BOLD, GREEN, RED, paint};
use crate::converge::{Foreman, Look, Refused, Report};
use crate::model::outcome::{Blame, Outcome};

/// Release, digest, seconds per phase, requests: on standard output.
pub fn show(report: &Report, as_json: bool) {
    if as_json {
        return out::json(report);
    }
    let styled = std::io::stdout().is_terminal();
    for warning in &report.warnings {
        out::warning(warning);
    }
    let (style, word) = match report.outcome {
        Outcome::Converged if report.nothing_to_do => (GREEN, "nothing to do"),
        Outcome::Converged => (GREEN, "converged"),
        Outcome::Undone { .. } => (RED, "undone"),
        Outcome::Failed { .. } => (RED, "failed"),
        Outcome::Incomplete => (RED, "incomplete"),
    };
    let what = match (&report.release, &report.image) {
        (Some(number), Some(image)) => format!(": release {number} ({image})"),
        _ => String::new(),
    };
    out::line(&format!("{}{what}, {:.1} s", paint(style, word, styled), report.seconds));
    if !report.phases.is_empty() {
        let phases: Vec<_> = report.phases.iter().map(|(name, s)| format!("{name} {s:.2} s")).collect();
        out::line(&format!("  {}  {}", paint(BOLD, "phases", styled), phases.join(", ")));
    }
    if let Some(requests) = report.requests.filter(|_| !report.nothing_to_do) {
        let p99 = requests.p99.map(|s| format!(", p99 at most {s} s")).unwrap_or_default();
        let bold = paint(BOLD, "requests", styled);
        out::line(&format!("  {bold}  {} served, {} failed in Caddy{p99}", requests.served, requests.failed));
    }
    // The whole of it, with the app's last words, stands above, at the step that failed.
    if let Some(error) = report.error.as_ref().and_then(|e| e.lines().next()) {
        out::line(&format!("  {}  {error}", paint(BOLD, "because", styled)));
    }
    if let Some(next) = next(report) {
        out::line(&format!("  {}  {next}", paint(BOLD, "next", styled)));
    }
}

/// What a person can do now.
fn next(report: &Report) -> Option<&'static str> {
    Some(match report.outcome {
        Outcome::Converged => return None,
        Outcome::Undone { blame: Blame::Release } | Outcome::Failed { blame: Blame::Release } => {
            "mend the image and deploy again. A release that failed is held: the same one needs `--force`"
        }
        Outcome::Undone { .. } | Outcome::Failed { .. } => {
            "nothing is held; the same command can be tried again"
        }
        Outcome::Incomplete => "look at `astra-agent status`; `astra-agent recover` tries to bring it back",
    })
}

/// The host is what it should be; what only a deploy would change is told, not done.
pub fn nothing_to_do(foreman: &Foreman<'_>, look: &Look, as_json: bool) {
    let current = look.history.current();
    let pending = crate::plan::release::pending(&foreman.inputs(look));
    if as_json {
        let release = current.map(|r| r.number);
        return out::json(&json!({
            "outcome": "converged", "exit_code": 0, "nothing_to_do": true, "release": release, "pending": pending,
        }));
    }
    let what = current.map(|r| format!(": release {} ({})", r.number, r.image)).unwrap_or_default();
    out::line(&format!("nothing to do{what}"));
    for pending in &pending {
        out::warning(pending);
    }
}

/// A refusal, for `--json`.
pub fn refusal(refused: &Refused) {
    out::json(&json!({ "outcome": "refused", "exit_code": refused.exit_code, "error": refused.to_string() }));
}
