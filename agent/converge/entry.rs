//! The entry that a run leaves in the systemd journal: its fields and its priority. docs/using/operations.md
//! documents them, and packaging/astra-agent.catalog explains the message.

use super::{Reconciler, Refused, Report, VerbRequest};
use crate::model::entry::Verb;
use crate::model::history::RunRecord;
use crate::model::outcome::{Blame, Outcome};
use crate::model::problem::Cause;

/// The same for every entry of this kind on every host (`journalctl MESSAGE_ID=…`).
pub const MESSAGE_ID: &str = "8b8827d277894539aaa6453c2d387272";

/// Priorities of syslog(3).
const ERROR: u8 = 3;
const WARNING: u8 = 4;
const NOTICE: u8 = 5;

type Fields = Vec<(&'static str, String)>;

impl Reconciler<'_> {
    /// Logs the end of `ask` to the systemd journal. A timer's run that found nothing to do is not logged.
    pub fn log_end(&self, ask: &VerbRequest, ended: &Result<Report, Refused>) {
        if ask.automatic() && matches!(ended, Ok(report) if report.nothing_to_do) {
            return;
        }
        let fields = match ended {
            Ok(report) => of_report(&ask.actor, report),
            Err(refused) => of_refusal(ask, refused),
        };
        // The run is over: a failure to log does not change its outcome.
        let _ = self.host.journald.send(&fields);
    }

    /// Logs a cut-off run, once recover has closed it.
    pub(super) fn log_closed(&self, run: &RunRecord, outcome: Outcome) {
        if let Some(fields) = of_cut_run(run, outcome) {
            let _ = self.host.journald.send(&fields);
        }
    }
}

fn of_report(actor: &str, report: &Report) -> Fields {
    let mut message = format!("{} by {actor}: {}", report.verb.as_str(), report.headline());
    if let Some(error) = &report.error {
        message = format!("{message}: {}", first_line(error));
    }
    let priority = match report.outcome {
        Outcome::Converged => NOTICE,
        Outcome::Undone { blame: Blame::Host } => WARNING,
        _ => ERROR,
    };
    let mut fields =
        common(priority, message, report.verb, actor, outcome_label(report.outcome), report.exit_code);
    fields.push(("ASTRA_SECONDS", format!("{:.1}", report.seconds)));
    let mut add = |name, value: Option<String>| fields.extend(value.map(|value| (name, value)));
    add("ASTRA_RUN", report.run.map(|run| run.to_string()));
    add("ASTRA_RELEASE", report.release.map(|number| number.to_string()));
    add("ASTRA_DIGEST", report.image.as_ref().map(|image| image.digest.to_string()));
    add("ASTRA_BLAME", blame(report.outcome).map(str::to_owned));
    add("ASTRA_REQUESTS_SERVED", report.requests.map(|requests| requests.served.to_string()));
    add("ASTRA_REQUESTS_FAILED", report.requests.map(|requests| requests.failed.to_string()));
    add("ASTRA_CONNECTIONS_CUT", Some(report.cut.to_string()));
    fields
}

fn of_refusal(ask: &VerbRequest, refused: &Refused) -> Fields {
    let verb = ask.verb;
    let message =
        format!("{} by {}: refused: {}", verb.as_str(), ask.actor, first_line(&refused.to_string()));
    // Exit code 4: not only refused, something needs repair.
    let priority = if refused.cause == Cause::Unfinished { ERROR } else { WARNING };
    common(priority, message, verb, &ask.actor, "refused", refused.exit_code())
}

fn of_cut_run(run: &RunRecord, outcome: Outcome) -> Option<Fields> {
    let opened = run.opened()?;
    let (verb, actor) = (opened.verb, opened.actor);
    let ended = outcome_label(outcome);
    let message =
        format!("{} by {actor} (run {}) was cut off, and closed by recover: {ended}", verb.as_str(), run.id);
    let priority = if outcome == Outcome::Incomplete { ERROR } else { WARNING };
    let mut fields = common(priority, message, verb, actor, ended, outcome.exit_code());
    fields.push(("ASTRA_RUN", run.id.to_string()));
    fields.push(("ASTRA_RECOVERED", "1".to_owned()));
    if let Some(release) = opened.new {
        fields.push(("ASTRA_RELEASE", release.number.to_string()));
        fields.push(("ASTRA_DIGEST", release.image.digest.to_string()));
    }
    Some(fields)
}

fn common(priority: u8, message: String, verb: Verb, actor: &str, outcome: &str, exit_code: u8) -> Fields {
    vec![
        ("MESSAGE", message),
        ("MESSAGE_ID", MESSAGE_ID.to_owned()),
        ("PRIORITY", priority.to_string()),
        ("SYSLOG_IDENTIFIER", "astra-agent".to_owned()),
        ("ASTRA_VERB", verb.as_str().to_owned()),
        ("ASTRA_ACTOR", actor.to_owned()),
        ("ASTRA_OUTCOME", outcome.to_owned()),
        ("ASTRA_EXIT_CODE", exit_code.to_string()),
    ]
}

fn outcome_label(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Converged => "converged",
        Outcome::Undone { .. } => "undone",
        Outcome::Failed { .. } => "failed",
        Outcome::Incomplete => "incomplete",
    }
}

fn blame(outcome: Outcome) -> Option<&'static str> {
    match outcome {
        Outcome::Undone { blame } | Outcome::Failed { blame } => Some(match blame {
            Blame::Release => "release",
            Blame::Host => "host",
        }),
        Outcome::Converged | Outcome::Incomplete => None,
    }
}

/// The summary line of an error; the lines below it are logs of the app, which may hold anything.
fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get<'a>(fields: &'a Fields, name: &str) -> &'a str {
        fields.iter().find(|(key, _)| *key == name).map_or("", |(_, value)| value.as_str())
    }

    fn report(outcome: Outcome) -> Report {
        let mut report = Report::new(Verb::Deploy);
        report.nothing_to_do = false;
        report.outcome = outcome;
        report.exit_code = outcome.exit_code();
        (report.run, report.release, report.before) = (Some(12), Some(7), Some(6));
        report.image = format!("ghcr.io/a/b@sha256:{}", "ab".repeat(32)).parse().ok();
        report
    }

    #[test]
    fn a_run_that_converged_is_a_notice_and_a_failed_release_an_error() {
        let good = of_report("ada", &report(Outcome::Converged));
        assert_eq!(get(&good, "MESSAGE"), "deploy by ada: release 7 is live");
        assert_eq!((get(&good, "PRIORITY"), get(&good, "ASTRA_OUTCOME")), ("5", "converged"));
        assert_eq!((get(&good, "ASTRA_RUN"), get(&good, "ASTRA_RELEASE")), ("12", "7"));
        assert_eq!(get(&good, "ASTRA_DIGEST"), format!("sha256:{}", "ab".repeat(32)));
        assert_eq!(get(&good, "ASTRA_EXIT_CODE"), "0");

        let mut failed = report(Outcome::Undone { blame: Blame::Release });
        failed.error = Some("migrating: exit code 1\n  its last log lines:\n    PASSWORD=hunter2".to_owned());
        let bad = of_report("ada", &failed);
        let message = "deploy by ada: release 7 failed and was taken back; release 6 serves as before: migrating: exit code 1";
        assert_eq!(get(&bad, "MESSAGE"), message);
        assert_eq!((get(&bad, "PRIORITY"), get(&bad, "ASTRA_BLAME")), ("3", "release"));
        assert!(!format!("{bad:?}").contains("hunter2"), "log lines of the app are none of its fields");

        let interrupted = of_report("ada", &report(Outcome::Undone { blame: Blame::Host }));
        assert_eq!(get(&interrupted, "PRIORITY"), "4");
        assert_eq!(get(&of_report("ada", &report(Outcome::Incomplete)), "PRIORITY"), "3");
    }

    #[test]
    fn the_catalog_and_operations_md_have_the_message_id() {
        assert!(include_str!("../../packaging/astra-agent.catalog").contains(&format!("-- {MESSAGE_ID}\n")));
        assert!(include_str!("../../docs/using/operations.md").contains(MESSAGE_ID));
    }
}
