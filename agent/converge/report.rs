//! The report of a run, for users and programs.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::{Selector, VerbRequest};
use crate::host::caddy::Metrics;
use crate::model::entry::{Entry, RunId, Verb};
use crate::model::image::PinnedImage;
use crate::model::instance::ServiceName;
use crate::model::outcome::{Blame, Outcome};
use crate::plan::release::{Only, Request};

/// The result of a run.
#[derive(Debug, Serialize)]
pub struct Report {
    /// How the last run ended.
    pub outcome: Outcome,
    /// The process exit code; it follows from `outcome`.
    pub exit_code: u8,
    /// The command.
    pub verb: Verb,
    /// The host already matched the request.
    pub nothing_to_do: bool,
    /// This host had no commit before.
    #[serde(skip)]
    pub first: bool,
    /// The last run was that of an accessory.
    #[serde(skip)]
    pub accessory: bool,
    /// Number of the run in the journal; the last one if there were several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<RunId>,
    /// The release committed before.
    #[serde(skip)]
    pub before: Option<u64>,
    /// The number of the committed or tried release; `None` if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub release: Option<u64>,
    /// The app's image in that release.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<PinnedImage>,
    /// The images of services that have their own.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub images: BTreeMap<ServiceName, PinnedImage>,
    /// The release and the services that the command asked for.
    #[serde(skip)]
    pub asked: Option<(Selector, Only)>,
    /// Why the run did not converge: the whole error chain, on one line or more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// All warnings, in order; plans and steps both give some.
    pub warnings: Vec<String>,
    /// Those of `warnings` that were shown with their step.
    #[serde(skip)]
    pub shown: Vec<String>,
    /// Connections still open when a drain timed out; the stop cut them.
    pub cut: u64,
    /// Seconds per phase, in the order of their first occurrence.
    pub phases: Vec<(&'static str, f64)>,
    /// From the start of the command to the report.
    pub seconds: f64,
    /// `None`: Caddy did not answer before or after the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests: Option<Requests>,
}

/// Caddy's counters for the duration of the run.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Requests {
    /// Requests with any answer.
    pub served: u64,
    /// Answers 502 to 504 that Caddy itself made because no instance answered.
    pub failed: u64,
    /// Upper bound, in seconds, of the 99th percentile of latency.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p99: Option<f64>,
}

/// Seconds per phase.
#[derive(Default)]
pub(super) struct PhaseTimes(std::cell::RefCell<(Vec<&'static str>, BTreeMap<&'static str, f64>)>);

impl PhaseTimes {
    pub(super) fn add(&self, phase: &'static str, elapsed: Duration) {
        let mut book = self.0.borrow_mut();
        if !book.0.contains(&phase) {
            book.0.push(phase);
        }
        *book.1.entry(phase).or_default() += elapsed.as_secs_f64();
    }

    pub(super) fn into_report(self, report: &mut Report) {
        let (order, seconds) = self.0.into_inner();
        for phase in order {
            let more = seconds.get(phase).copied().unwrap_or_default();
            match report.phases.iter_mut().find(|(name, _)| *name == phase) {
                Some((_, sum)) => *sum += more,
                None => report.phases.push((phase, more)),
            }
        }
    }
}

/// The first failure.
pub(super) fn reason(entries: &[Entry]) -> Option<String> {
    let undo = entries.iter().find_map(|e| match e {
        Entry::UndoFailed { error, .. } => Some(format!("; then, taking it back: {error}")),
        _ => None,
    });
    let first = entries.iter().find_map(|e| match e {
        Entry::Failed { error, .. } => Some(error.clone()),
        Entry::Interrupted { signal } => Some(format!("stopped by {signal}")),
        _ => None,
    })?;
    Some(first + &undo.unwrap_or_default())
}

impl Report {
    /// The report of a run that has done nothing yet.
    pub fn new(verb: Verb) -> Self {
        Self {
            outcome: Outcome::Converged,
            exit_code: 0,
            verb,
            nothing_to_do: true,
            first: false,
            accessory: false,
            run: None,
            before: None,
            release: None,
            image: None,
            images: BTreeMap::new(),
            asked: None,
            error: None,
            warnings: Vec::new(),
            shown: Vec::new(),
            cut: 0,
            phases: Vec::new(),
            seconds: 0.0,
            requests: None,
        }
    }

    /// The request, and its images.
    pub(super) fn of(&mut self, ask: &VerbRequest, request: &Request) {
        self.image = Some(request.image.clone());
        self.images.clone_from(&request.images);
        self.asked = Some((ask.selector.clone(), ask.only.clone()));
    }

    /// Collects what the steps reported for the summary.
    pub(super) fn note(&mut self, entries: &[Entry]) {
        for entry in entries {
            let (Entry::Done { told, .. } | Entry::UndoDone { told, .. }) = entry else { continue };
            self.cut += told.cut;
            if let Some(text) = told.text.as_ref().filter(|_| told.warning) {
                self.warn(text);
                self.shown.push(text.clone());
            }
        }
    }

    /// The outcome, and the state of the release.
    pub fn headline(&self) -> String {
        let Some(release) = self.release.map(|number| format!("release {number}")) else {
            return match self.outcome {
                Outcome::Converged if self.nothing_to_do => "nothing to do",
                Outcome::Converged => "converged",
                Outcome::Undone { .. } => "undone",
                Outcome::Failed { .. } => "failed; nothing was changed",
                Outcome::Incomplete => "incomplete",
            }
            .to_owned();
        };
        let before = match self.before.filter(|_| !self.first) {
            Some(number) => format!("release {number} serves as before"),
            None => "nothing is serving yet".to_owned(),
        };
        match self.outcome {
            Outcome::Converged if self.nothing_to_do => format!("up to date: {release}"),
            Outcome::Converged => format!("{release} is live"),
            Outcome::Undone { blame: Blame::Release } => {
                format!("{release} failed and was taken back; {before}")
            }
            Outcome::Undone { blame: Blame::Host } => format!("{release} was taken back; {before}"),
            Outcome::Failed { .. } => format!("{release} was not started; nothing was changed"),
            Outcome::Incomplete => format!("incomplete: {release}"),
        }
    }

    pub(super) fn warn(&mut self, text: &str) {
        self.warnings.push(text.to_owned());
    }
}

/// The smallest bucket bound that covers 99 % of the requests between two samples.
fn p99(before: &[(f64, u64)], after: &[(f64, u64)]) -> Option<f64> {
    let earlier =
        |bound: f64| before.iter().find(|(b, _)| b.total_cmp(&bound).is_eq()).map_or(0, |(_, n)| *n);
    let grown: Vec<_> = after.iter().map(|(bound, n)| (*bound, n.saturating_sub(earlier(*bound)))).collect();
    let (_, all) = grown.last().filter(|(_, n)| *n > 0)?;
    grown
        .iter()
        .find(|(_, n)| n.saturating_mul(100) >= all.saturating_mul(99))
        .map(|(bound, _)| *bound)
        .filter(|b| b.is_finite())
}

impl Requests {
    /// `None`: the counters were reset in between, as they are when Caddy starts or loads a config.
    pub(super) fn between(before: &Metrics, after: &Metrics) -> Option<Self> {
        Some(Self {
            served: after.requests_total().checked_sub(before.requests_total())?,
            failed: after.proxy_errors().checked_sub(before.proxy_errors())?,
            p99: p99(&before.durations(), &after.durations()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::step_note::StepNote;

    #[test]
    fn connections_cut_forward_and_by_undo_are_counted_and_warned_of_once() {
        let mut report = Report::new(Verb::Deploy);
        report.note(&[
            Entry::Done { step: 0, told: StepNote::note("ready after 1.2 s") },
            Entry::Done { step: 1, told: StepNote::cutting(5, "5 requests are cut") },
            Entry::UndoDone { step: 0, told: StepNote::cutting(2, "2 requests are cut") },
        ]);
        assert_eq!((report.cut, report.warnings.len()), (7, 2));
        assert_eq!(report.warnings, report.shown);
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["cut"], 7);
        assert_eq!(json["warnings"][0], "5 requests are cut");
    }
}
