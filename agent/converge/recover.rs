//! Closes a run that was cut off. One rule: astra.env is the truth. The containers' labels tell which
//! instance differs; the journal only tells what the run intended.

use anyhow::Result;

use super::{Event, Reconciler, Refused, Report, VerbRequest};
use crate::host::lock::Lock;
use crate::model::entry::{Entry, Verb};
use crate::model::history::RunRecord;
use crate::model::name::CADDY_ENV;
use crate::model::outcome::Outcome;
use crate::model::problem::Problem;
use crate::plan::keep::Named;
use crate::plan::{accessories, files, keep};

impl Reconciler<'_> {
    /// Restores the state that astra.env names, then closes the cut-off runs in the journal. Idempotent;
    /// needs no registry, and only the instance names from the config.
    pub(super) async fn close_open_runs(
        &self,
        ask: &VerbRequest,
        _: &Lock,
        report: &mut Report,
    ) -> Result<(), Refused> {
        let history = self.journal.history()?;
        let open: Vec<RunRecord> = history.open_runs().cloned().collect();
        if open.is_empty() {
            return Ok(());
        }
        (self.watch)(&Event::Note("closing a run that was cut off"));
        // The runs stay open until this was tried, so another cut here loses nothing.
        let as_recover = VerbRequest { verb: Verb::Recover, selector: super::Selector::Keep, ..ask.clone() };
        // First: an instance may need its database to become ready.
        let down = self.keep_accessories(&as_recover, false, report).await?;
        let snapshot = self.snapshot(false).await?;
        let plan = self.keep_plan(&snapshot, Verb::Recover);
        let mut repaired = if plan.is_empty() {
            Outcome::Converged
        } else {
            self.carry_out(&as_recover, &snapshot, &plan, &mut Report::new(Verb::Recover)).await?
        };
        if down.is_some() {
            repaired = Outcome::Incomplete;
        }
        let inputs = self.inputs(&snapshot);
        let named = Named {
            release: inputs.committed().map(|c| c.release),
            caddy: files::seen_text(&inputs, CADDY_ENV).unwrap_or_default(),
            pins: accessories::pin_lines(&inputs),
        };
        (report.nothing_to_do, report.release) = (false, named.release);
        for run in &open {
            self.close(run, &named, repaired)?;
        }
        if repaired == Outcome::Converged {
            return Ok(());
        }
        let what = "closing a run that was cut off: not every instance or accessory came back";
        if !matches!(ask.selector, super::Selector::Keep) {
            // The requested release may fix the problem.
            report.warn(what);
            return Ok(());
        }
        let fix = "`astra-agent status` shows which, `astra-agent recover` tries again";
        Err(Problem::unfinished("open_run", what, fix).into())
    }

    /// The journal records the killed runs. Their systemd units would stay failed, and the host `degraded`,
    /// until reset.
    pub(super) async fn forget_killed_units(&self) -> Result<()> {
        let systemd = &self.host.systemd;
        for unit in systemd.list(&["astra-agent-*-*.service"]).await? {
            systemd.reset_failed(&unit).await?;
        }
        Ok(())
    }

    fn close(&self, run: &RunRecord, named: &Named, repaired: Outcome) -> Result<(), Refused> {
        let mut file = self.journal.reopen(run.id)?;
        for entry in keep::last_lines(run, named, repaired) {
            file.append(&entry, true)?;
            if let Entry::Closed { outcome, .. } = entry {
                self.log_closed(run, outcome);
            }
        }
        Ok(())
    }
}
