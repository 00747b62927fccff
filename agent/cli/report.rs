//! The closing summary of a run.

use std::io::IsTerminal;

use serde_json::json;

use super::out::{self, BOLD, GREEN, RED, YELLOW, paint};
use crate::converge::{Reconciler, Refused, Report, Requests, Selector, Snapshot};
use crate::model::entry::Verb;
use crate::model::outcome::{Blame, Outcome};
use crate::model::problem::{Cause, Problem};
use crate::plan::release::Refusal;

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
    let head = format!("{} ({:.1} s)", report.headline(), report.seconds);
    out::line(&paint(style, &head, styled));
    let row = |name: &str, what: &str| {
        out::line(&format!("  {} {what}", paint(BOLD, &format!("{name:<9}"), styled)))
    };
    if let Some(image) = &report.image {
        row("image", &image.to_string());
    }
    for (service, image) in &report.images {
        row(service.as_str(), &image.to_string());
    }
    // `--json` shows the rest.
    let phases = report.phases.iter().filter(|(_, seconds)| *seconds >= 0.05);
    let phases: Vec<_> = phases.map(|(name, seconds)| format!("{name} {seconds:.1} s")).collect();
    if !phases.is_empty() {
        row("phases", &phases.join(", "));
    }
    let some = |requests: &Requests| !report.nothing_to_do && requests.served + requests.failed > 0;
    if let Some(requests) = report.requests.filter(some) {
        let p99 = requests.p99.map(|s| format!(", p99 <= {s} s")).unwrap_or_default();
        let counted =
            format!("{} served, {} failed (502-504 from Caddy){p99}", requests.served, requests.failed);
        row("requests", &counted);
    }
    if report.cut > 0 {
        let cut = format!("{} connections outlasted the drain and were cut", report.cut);
        row("cut", &paint(YELLOW, &cut, styled));
    }
    if let Some(error) = &report.error {
        // The log lines were printed below the failed step.
        row("because", out::first_line(error));
    }
    if let Some(next) = next(report) {
        row("next", &next);
    }
}

/// The recommended next command.
fn next(report: &Report) -> Option<String> {
    Some(match report.outcome {
        Outcome::Converged => return None,
        Outcome::Undone { .. } | Outcome::Failed { .. } if report.first => {
            "fix the cause and run it again: the first release of a host is never held".to_owned()
        }
        Outcome::Undone { .. } | Outcome::Failed { .. } if report.accessory => {
            "fix the cause and run it again: nothing is held".to_owned()
        }
        Outcome::Undone { blame: Blame::Release } | Outcome::Failed { blame: Blame::Release } => {
            format!(
                "fix the image or the environment and deploy again; to retry this one: `{}`",
                retry(report)
            )
        }
        Outcome::Undone { .. } | Outcome::Failed { .. } => {
            "nothing is held; the same command can be tried again".to_owned()
        }
        Outcome::Incomplete => {
            "look at `astra-agent status`; `astra-agent recover` tries to bring it back".to_owned()
        }
    })
}

/// The command that tries a failed release again.
fn retry(report: &Report) -> String {
    match (report.verb, report.release, &report.image, &report.asked) {
        (Verb::Rollback, Some(number), ..) => format!("astra-agent rollback --to {number} --force"),
        (Verb::Reconcile, .., Some((Selector::Committed, _))) => {
            "astra-agent deploy --keep-image --force".to_owned()
        }
        (Verb::DeploySha, _, Some(image), _) => format!("astra-agent deploy-sha {} --force", image.digest),
        (Verb::Deploy, _, Some(app), Some((selector, only))) => {
            let mut words = vec!["astra-agent deploy".to_owned()];
            words.extend(only.0.iter().map(ToString::to_string));
            match selector {
                Selector::Restart => words.push("--restart".to_owned()),
                Selector::Committed => words.push("--keep-image".to_owned()),
                Selector::Chosen(chosen) => words.extend(chosen.keys().map(|name| {
                    let own = report.images.get(name).map(|image| format!("--image {name}={image}"));
                    own.unwrap_or_else(|| format!("--image {app}"))
                })),
                _ => {}
            }
            // Nothing is held by a restart.
            if *selector != Selector::Restart {
                words.push("--force".to_owned());
            }
            words.join(" ")
        }
        // The timer's verb and `install` deploy what `deploy` does, and have no such option.
        _ => "astra-agent deploy --force".to_owned(),
    }
}

/// Nothing to do: reports what only a deploy would change.
pub fn nothing_to_do(reconciler: &Reconciler<'_>, snapshot: &Snapshot, as_json: bool) {
    let current = snapshot.history.current();
    let pending = crate::plan::release::pending(&reconciler.inputs(snapshot));
    if as_json {
        let release = current.map(|r| r.number);
        return out::json(&json!({
            "outcome": "converged", "exit_code": 0, "nothing_to_do": true, "release": release, "pending": pending,
        }));
    }
    out::line(&current.map_or_else(
        || "nothing to do".to_owned(),
        |release| format!("up to date: release {} ({})", release.number, release.image),
    ));
    for pending in &pending {
        out::warning(pending);
    }
}

/// A refusal with its hint, on standard error or as JSON.
pub fn refusal(refused: &Refused, as_json: bool) {
    let mut error = refused.to_string();
    let refusal = refused.error.downcast_ref::<Refusal>().and_then(Refusal::problem);
    let problem = refusal.or_else(|| refused.error.chain().find_map(|cause| cause.downcast_ref::<Problem>()));
    if problem.is_none() && refused.cause == Cause::Host && is_of_the_host(&refused.error) {
        error.push_str(
            "\n  hint: `astra-agent doctor` looks for what is wrong with this host; then try again",
        );
    }
    if as_json {
        return out::json(&json!({
            "outcome": "refused", "exit_code": refused.exit_code(), "error": error,
            "check": problem.map(|p| p.check), "fix": problem.map(|p| p.fix.as_str()),
        }));
    }
    out::error(&error);
}

/// Whether `doctor`, which examines the host, may find the cause: a failed bus, disk or socket.
fn is_of_the_host(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| cause.is::<zbus::Error>() || cause.is::<std::io::Error>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::help::parses;
    use crate::config::OwnImage;
    use crate::converge::Choice;
    use crate::model::image::PinnedImage;
    use crate::model::instance::ServiceName;
    use crate::plan::release::Only;

    #[test]
    fn the_command_that_tries_a_release_again_exists_for_every_verb() {
        let image: PinnedImage = format!("a.example/b@sha256:{}", "0".repeat(64)).parse().unwrap();
        let front: ServiceName = "front".parse().unwrap();
        let mut report = Report::new(Verb::Deploy);
        (report.release, report.image) = (Some(3), Some(image.clone()));
        for verb in [Verb::Install, Verb::Deploy, Verb::DeploySha, Verb::Rollback, Verb::Reconcile] {
            report.verb = verb;
            let command = retry(&report);
            assert!(parses(&command) && command.ends_with(" --force"), "{verb:?}: {command}");
        }
        report.verb = Verb::Deploy;
        report.images.insert(front, image.clone());
        let chosen = Choice::from(OwnImage::Pinned(image.clone()));
        let chosen = Selector::Chosen([(front, chosen)].into());
        let one = Only([front].into());
        for (selector, only, expected) in [
            (Selector::Tracked, one.clone(), "astra-agent deploy front --force".to_owned()),
            (Selector::Restart, one, "astra-agent deploy front --restart".to_owned()),
            (Selector::Committed, Only::default(), "astra-agent deploy --keep-image --force".to_owned()),
            (chosen, Only::default(), format!("astra-agent deploy --image front={image} --force")),
        ] {
            report.asked = Some((selector, only));
            assert_eq!(retry(&report), expected);
            assert!(parses(&expected), "{expected}");
        }
    }
}
