//! Deploys the release of a request.

use super::{Event, Reconciler, Refused, Report, Snapshot, VerbRequest, refresh};
use crate::host::lock::Lock;
use crate::model::plan::Plan;
use crate::plan::accessories as plan_accessories;
use crate::plan::release::{self, Request};

impl Reconciler<'_> {
    /// Deploys the requested image, or with `refresh` new values of the sources for the images that serve. Whether
    /// it changed anything.
    pub(super) async fn release(
        &self,
        ask: &VerbRequest,
        refresh: bool,
        lock: &Lock,
        report: &mut Report,
    ) -> Result<bool, Refused> {
        let asked_at = refresh::now();
        let mut snapshot = self.snapshot(true).await?;
        let request = Request { refresh, ..self.request(ask, &snapshot).await? };
        self.ask_for(&request, &mut snapshot).await?;
        let mut plan = match self.release_plan(&snapshot, &request) {
            // The timer asks every few minutes: a held digest is not reported each time.
            Err(refused) if request.automatic && refused.is_held() => {
                if refresh {
                    self.note_asked(&snapshot, asked_at);
                }
                return Ok(false);
            }
            plan => plan?,
        };
        self.note_asked(&snapshot, asked_at);
        let new = plan_accessories::new(&self.inputs(&snapshot)).next().is_some();
        if new && !request.lenient && !request.restart && (ask.verb.is_new() || !plan.is_empty()) {
            let Some(after) = self.start_new_accessories(ask, snapshot, report).await? else {
                return Ok(false);
            };
            snapshot = after;
            plan = self.release_plan(&snapshot, &request)?;
        }
        report.first = snapshot.history.current().is_none();
        report.before = snapshot.history.current().map(|r| r.number);
        report.release = snapshot.history.current().map(|r| r.number);
        report.of(ask, &request);
        if plan.is_empty() {
            plan.warnings.iter().for_each(|warning| report.warn(warning));
            let choice = self.choice(ask, &snapshot).filter(|_| !refresh);
            let Some(choice) = choice else { return Ok(false) };
            (self.watch)(&Event::Note(choice));
        }
        report.release = plan.candidate.as_ref().map(|c| c.release.number);
        self.check_caddyfiles(&snapshot, &plan).await?;
        // If this fails, the run can still be asked to stop, and undoes the release.
        let _ = lock.hold();
        self.carry_out(ask, &snapshot, &plan, report).await?;
        Ok(true)
    }

    /// How a verb changes whether the tag is followed, if its release is serving already; `None`: not at all.
    pub fn choice(&self, ask: &VerbRequest, snapshot: &Snapshot) -> Option<&'static str> {
        let by_hand = ask.selector.by_hand();
        if ask.keeps_choice() || self.inputs(snapshot).is_chosen() == by_hand {
            return None;
        }
        Some(match by_hand {
            true => "it is serving already; from now on it is pinned, until a plain `deploy`",
            false => "it is serving already; from now on the tag is followed again",
        })
    }

    /// # Errors
    /// The refusal, with exit code 2 if the config or the env file has to change.
    pub fn release_plan(&self, snapshot: &Snapshot, request: &Request) -> Result<Plan, Refused> {
        release::plan(&self.inputs(snapshot), request)
            .map_err(|refusal| Refused::of(refusal.cause(), refusal))
    }
}
