//! Runs a plan: each step is journalled, performed, and journalled again. Also the housekeeping after every
//! run.

use std::path::Path;
use std::time::{Duration, Instant};

use super::report::{self, PhaseTimes};
use super::{Event, Reconciler, Refused, Report, Selector, Snapshot, VerbRequest};
use crate::host::{failpoint, perform};
use crate::journal::RunFile;
use crate::model::entry::{Entry, Verb};
use crate::model::history::History;
use crate::model::instance::ServiceName;
use crate::model::name::LAST_APP_IMAGE;
use crate::model::outcome::Outcome;
use crate::model::plan::Plan;
use crate::model::release::Release;
use crate::model::step::Step;
use crate::model::step_note::StepNote;
use crate::plan::policy::{Housekeeping, VerbPolicy};
use crate::plan::prune;
use crate::run::{self, Performed};

/// The agent cannot undo database changes.
const HALF_DONE: &str = "half-way: its changes to the database remain";

/// The service during whose migration a signal came.
fn cut_migration(plan: &Plan, entries: &[Entry]) -> Option<ServiceName> {
    let last = entries.iter().take_while(|e| !matches!(e, Entry::Interrupted { .. })).last();
    let cut = entries.iter().any(|e| matches!(e, Entry::Interrupted { .. }));
    let Some(Entry::Started { step }) = last.filter(|_| cut) else { return None };
    match plan.steps.get(*step)? {
        Step::Migrate { service, .. } => Some(*service),
        _ => None,
    }
}

/// A release that serves, but is not in the journal: astra.env was edited by hand, or the commit not recorded.
fn served_already(plan: &Plan, snapshot: &Snapshot) -> Option<Release> {
    let release = &plan.candidate.as_ref().filter(|_| plan.commit.is_none())?.release;
    (snapshot.history.current() != Some(release)).then(|| release.clone())
}

/// Writes the last entries. A run whose commit was not journalled must not be closed: recover then finds it open,
/// and the release in astra.env.
fn close<'e>(file: &mut RunFile, last: impl Iterator<Item = &'e Entry>, report: &mut Report) {
    failpoint::reach("before", 0, "close");
    for entry in last {
        if let Err(error) = file.append(entry, true) {
            report.warn(&format!("{error:#}"));
            break;
        }
    }
    failpoint::reach("after", 0, "close");
}

impl Reconciler<'_> {
    /// Journals, performs and journals each step of one run of `plan`.
    pub(super) async fn carry_out(
        &self,
        ask: &VerbRequest,
        snapshot: &Snapshot,
        plan: &Plan,
        report: &mut Report,
    ) -> Result<Outcome, Refused> {
        let mut file = self.journal.open()?;
        failpoint::reach("before", 0, "open");
        file.append(&self.opening(ask, snapshot, plan), true)?;
        failpoint::reach("after", 0, "open");
        for warning in &plan.warnings {
            report.warn(warning);
        }
        let book = PhaseTimes::default();
        let mut committed = false;
        let mut number = 0;
        let perform = async |step: &Step, undoing: bool| {
            number += 1;
            let text = step.to_string();
            (self.watch)(&Event::Step { number, of: plan.steps.len(), text: &text, undoing });
            failpoint::reach("before", number, &text);
            let begun = Instant::now();
            let performed = self.perform(ask.verb, plan, number - 1, step, undoing || committed).await;
            failpoint::reach("after", number, &text);
            let done = !undoing && matches!(performed, Performed::Done(_));
            committed |= done && plan.commit == Some(number - 1);
            let elapsed = begun.elapsed();
            book.add(if undoing { "undo" } else { step.handling().phase }, elapsed);
            self.tell(step, &performed, elapsed);
            performed
        };
        if let Some(release) = served_already(plan, snapshot) {
            file.append(&Entry::Committed { release }, true)?;
        }
        let mut untold = None;
        let (outcome, entries) = run::run(plan, perform, |entry, durable| {
            let written = file.append(entry, durable);
            if written.is_err() && matches!(entry, Entry::Committed { .. }) {
                untold = Some(entry.clone());
            }
            written
        })
        .await;
        (self.watch)(&Event::Ended);
        book.into_report(report);
        report.note(&entries);
        let mut reason = report::reason(&entries);
        if let (Some(reason), Some(service)) = (&mut reason, cut_migration(plan, &entries)) {
            reason.push_str(&format!(" in the migration{}, {HALF_DONE}", service.named(" of ")));
        }
        let closed = Entry::Closed { outcome, reason: reason.clone(), recovered: false };
        close(&mut file, untold.iter().chain([&closed]), report);
        report.run = Some(file.id);
        report.accessory = plan.accessory.is_some();
        report.outcome = outcome;
        report.error = reason;
        report.nothing_to_do = false;
        Ok(outcome)
    }

    /// Performs the step of `plan` with this index. A signal stops it where step and plan allow it: before the
    /// commit point, and not during undo.
    async fn perform(
        &self,
        verb: Verb,
        plan: &Plan,
        index: usize,
        step: &Step,
        forward_only: bool,
    ) -> Performed {
        let signals = &self.host.signals;
        if let Some(signal) = signals.asked().filter(|_| !forward_only && plan.may_stop_before(index)) {
            return Performed::Interrupted(signal.to_owned());
        }
        let done = if forward_only || !step.handling().abandonable || !plan.may_stop_at(index) {
            self.host.perform(step).await
        } else {
            tokio::select! {
                done = self.host.perform(step) => done,
                signal = signals.wait() => return Performed::Interrupted(signal.to_owned()),
            }
        };
        let restores = plan.commit.is_none() || verb == Verb::Rollback;
        match done {
            Ok(told) => Performed::Done(told),
            // Going on is safe here: nothing is served through Caddy, and restoring the committed release
            // must not fail on it.
            Err(error) if (forward_only || restores) && error.error.is::<perform::CaddyHangs>() => {
                Performed::Done(StepNote::warning(format!("{error}: continuing")))
            }
            Err(error) => match signals.asked() {
                Some(signal) if !forward_only => Performed::Interrupted(signal.to_owned()),
                _ => Performed::Failed(error),
            },
        }
    }

    fn tell(&self, step: &Step, performed: &Performed, elapsed: Duration) {
        match performed {
            Performed::Done(told) => (self.watch)(&Event::Done { told, elapsed }),
            Performed::Failed(failure) => {
                (self.watch)(&Event::Failed { error: &failure.to_string(), elapsed });
            }
            Performed::Interrupted(signal) => {
                let told = match step {
                    Step::Migrate { .. } => format!("interrupted by {signal}, {HALF_DONE}; undoing the rest"),
                    _ => format!("interrupted by {signal}; undoing"),
                };
                (self.watch)(&Event::Stopped { told: &told, elapsed });
            }
        }
    }

    fn opening(&self, ask: &VerbRequest, snapshot: &Snapshot, plan: &Plan) -> Entry {
        Entry::Opened {
            verb: ask.verb,
            actor: ask.actor.clone(),
            agent: env!("CARGO_PKG_VERSION").to_owned(),
            plan: plan.steps.iter().map(ToString::to_string).collect(),
            old: snapshot.history.current().cloned(),
            new: plan.candidate.as_ref().map(|c| c.release.clone()),
            pins: match ask.selector {
                _ if ask.keeps_choice() => self.inputs(snapshot).is_chosen(),
                Selector::Restart => snapshot.history.pinned,
                _ => ask.selector.by_hand(),
            },
            accessory: plan.accessory,
        }
    }

    /// Whether a run that changed nothing does the housekeeping, too.
    pub(super) fn housekeeping_is_due(&self, verb: Verb, history: &History) -> bool {
        match VerbPolicy::of(verb).housekeeping {
            Housekeeping::Always => true,
            Housekeeping::IfDue => {
                self.host.way_back_is_due().unwrap_or(true) || self.pointer_is_wrong(history)
            }
            Housekeeping::IfChanged => false,
        }
    }

    /// Whether last_app_image names another image than a rollback would go to. One that cannot be read is not
    /// wrong: doctor reports it.
    pub fn pointer_is_wrong(&self, history: &History) -> bool {
        self.host.files.read(Path::new(LAST_APP_IMAGE)).is_ok_and(|seen| {
            prune::pointer(history, seen.as_ref().map(|file| file.bytes.as_slice())).is_some()
        })
    }

    /// Updates last_app_image and prunes images, whatever the outcome. Each failure is a warning and does not
    /// stop the others; the next run tries again.
    pub(super) async fn housekeeping(&self, report: &mut Report) {
        let warn =
            |report: &mut Report, error: anyhow::Error| report.warn(&format!("housekeeping: {error:#}"));
        // Without the flush, an ordinary reboot would look like a power cut during a pull.
        if let Err(error) = self.flush_pulled().await {
            warn(report, error);
        }
        let snapshot = match self.snapshot(true).await {
            Ok(snapshot) => snapshot,
            Err(error) => return warn(report, error),
        };
        let inputs = self.inputs(&snapshot);
        let mut lost = prune::lost_way_back(&inputs).len();
        for step in prune::housekeeping(&inputs, report.verb) {
            let pulls = matches!(step, Step::Pull { .. } | Step::FlushImages);
            let text = step.to_string();
            failpoint::reach("before", 0, &text);
            let done = tokio::select! {
                done = self.host.perform(&step) => done,
                signal = self.host.signals.wait(), if pulls => Err(anyhow::anyhow!("interrupted by {signal}").into()),
            };
            match (done, &step) {
                (Ok(_), Step::Pull { .. }) => {
                    lost = lost.saturating_sub(1);
                    (self.watch)(&Event::Note("the image that a rollback goes to was gone: pulled it again"));
                }
                (Ok(_), Step::WriteFile { path, .. } | Step::RemoveFile { path })
                    if report.nothing_to_do && path == Path::new(LAST_APP_IMAGE) =>
                {
                    (self.watch)(&Event::Note("corrected last_app_image"));
                }
                (Ok(_), _) => {}
                (Err(error), _) => warn(report, anyhow::anyhow!("{text}: {error}")),
            }
            failpoint::reach("after", 0, &text);
        }
        if lost == 0
            && let Err(error) = self.host.note_way_back()
        {
            warn(report, error);
        }
    }

    async fn flush_pulled(&self) -> anyhow::Result<()> {
        if self.host.has_unflushed_pull()? {
            self.host
                .perform(&Step::FlushImages)
                .await
                .map_err(|error| error.context("flushing what was pulled"))?;
        }
        Ok(())
    }
}
