//! The closing words of a run.

use std::io::IsTerminal;

use serde_json::json;

use super::out::{self, BOLD, GREEN, RED, YELLOW, paint};
use crate::converge::{Foreman, Look, Refused, Report};
use crate::model::outcome::{Blame, Outcome};

/// Release, digest, seconds per phase, requests: on standard output.
pub fn show(report: &Report, as_json: bool) {
    if as_json {
        return out::json(report);
    }
    let styled = std::io::stdout().is_terminal();
    for warning in report.warnings.iter().filter(|w| !report.shown.contains(w)) {
        out::warning(warning);
    }
    let style = if report.outcome == Outcome::Converged { GREEN } else { RED };
    let head = format!("{} in {:.1} s", headline(report), report.seconds);
    out::line(&paint(style, &head, styled));
    let row = |name: &str, what: &str| {
        out::line(&format!("  {} {what}", paint(BOLD, &format!("{name:<9}"), styled)))
    };
    if let Some(image) = &report.image {
        row("image", &image.to_string());
    }
    // The rest is told by --json.
    let phases = report.phases.iter().filter(|(_, seconds)| *seconds >= 0.05);
    let phases: Vec<_> = phases.map(|(name, seconds)| format!("{name} {seconds:.1} s")).collect();
    if !phases.is_empty() {
        row("phases", &phases.join(", "));
    }
    if let Some(requests) = report.requests.filter(|_| !report.nothing_to_do) {
        let p99 = requests.p99.map(|s| format!("; 99 of 100 within {s} s")).unwrap_or_default();
        row(
            "requests",
            &format!("{} served, {} failed (502 to 504 of Caddy){p99}", requests.served, requests.failed),
        );
    }
    if report.cut > 0 {
        let cut = format!("{} connections outlasted the drain and were cut", report.cut);
        row("cut", &paint(YELLOW, &cut, styled));
    }
    if let Some(error) = &report.error {
        // Its log lines stand below the step that failed.
        row("because", out::first_line(error));
    }
    if let Some(next) = next(report) {
        row("next", next);
    }
}

/// The outcome, and what it means for the release.
fn headline(report: &Report) -> String {
    let release = report.release.map(|number| format!("release {number}"));
    let Some(release) = release else {
        return match report.outcome {
            Outcome::Converged if report.nothing_to_do => "nothing to do",
            Outcome::Converged => "converged",
            Outcome::Undone { .. } => "undone",
            Outcome::Failed { .. } => "failed",
            Outcome::Incomplete => "incomplete",
        }
        .to_owned();
    };
    match report.outcome {
        Outcome::Converged if report.nothing_to_do => format!("nothing to do: {release} serves"),
        Outcome::Converged => format!("converged: {release} serves"),
        Outcome::Undone { .. } if report.first => {
            format!("undone: {release} was taken back, and nothing serves")
        }
        Outcome::Undone { .. } => format!("undone: {release} was taken back, what served before it serves"),
        Outcome::Failed { .. } => {
            format!("failed: {release} was not started, nothing that serves was touched")
        }
        Outcome::Incomplete => format!("incomplete: {release}"),
    }
}

/// What a person can do now.
fn next(report: &Report) -> Option<&'static str> {
    Some(match report.outcome {
        Outcome::Converged => return None,
        Outcome::Undone { .. } | Outcome::Failed { .. } if report.first => {
            "mend the cause and run it again: the first release of a host is never held"
        }
        Outcome::Undone { blame: Blame::Release } | Outcome::Failed { blame: Blame::Release } => {
            "mend the image, or the environment, and deploy again. A release that failed is held: the same one needs `--force`"
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

/// A refusal, on standard error or as JSON. Whoever reads it learns what to do.
pub fn refusal(refused: &Refused, as_json: bool) {
    let mut error = refused.to_string();
    if refused.exit_code == 1 && !error.contains("hint:") {
        error.push_str(
            "\n  hint: `astra-agent doctor` looks for what is wrong with this host; then try again",
        );
    }
    if as_json {
        return out::json(&json!({ "outcome": "refused", "exit_code": refused.exit_code, "error": error }));
    }
    out::error(&error);
}
