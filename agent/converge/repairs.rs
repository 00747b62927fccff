//! Repairs after the release of a run. Called by converge.rs.

use super::{Reconciler, Refused, Report, VerbRequest};
use crate::model::outcome::Outcome;
use crate::model::plan::Plan;
use crate::plan::instances::{self, RepairScope};

impl Reconciler<'_> {
    /// A release leaves the services alone that stay the same: instances of these that do not run it are restored
    /// afterwards, in a run of its own.
    pub(super) async fn restore_others(&self, ask: &VerbRequest, report: &mut Report) -> Result<(), Refused> {
        if self.config.others.is_empty() || report.nothing_to_do || report.outcome != Outcome::Converged {
            return Ok(());
        }
        let snapshot = self.snapshot(false).await?;
        let steps = instances::steps(&self.inputs(&snapshot), RepairScope::All);
        if !steps.is_empty() {
            self.carry_out(ask, &snapshot, &Plan::forward(steps, Vec::new()), report).await?;
        }
        Ok(())
    }

    /// A rollback goes on although repairs failed before it, since the old release may have been the cause.
    /// If they fail again, the run is incomplete: a release that Caddy does not reach is not serving.
    pub(super) async fn repair_again(&self, ask: &VerbRequest, report: &mut Report) {
        if report.outcome != Outcome::Converged {
            return;
        }
        let mut repairs = Report::new(ask.verb);
        let why = match self.keep(ask, &mut repairs).await {
            Ok(true) => return,
            Ok(false) => repairs.error.unwrap_or_else(|| "repairs failed".to_owned()),
            Err(refused) => refused.to_string(),
        };
        report.warnings.append(&mut repairs.warnings);
        report.outcome = Outcome::Incomplete;
        report.nothing_to_do = false;
        report.error = Some(why);
    }
}
