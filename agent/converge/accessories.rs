//! The accessories' part of a run: each change of one is a run of its own, before the release.

use anyhow::anyhow;

use super::{Reconciler, Refused, Report, Selector, Snapshot, VerbRequest};
use crate::config::Accessory;
use crate::model::entry::Verb;
use crate::model::image::PinnedImage;
use crate::model::instance::ServiceName;
use crate::model::outcome::Outcome;
use crate::model::plan::Plan;
use crate::model::problem::Problem;
use crate::model::step::Step;
use crate::plan::accessories;

impl Reconciler<'_> {
    /// The verbs that change Caddy or an accessory. `false`: it did not work.
    pub(super) async fn change_beside(
        &self,
        ask: &VerbRequest,
        report: &mut Report,
    ) -> Result<bool, Refused> {
        match (ask.verb, &ask.selector) {
            (Verb::CaddyUpgrade, _) => self.upgrade_caddy(ask, report).await,
            (_, Selector::Accessory(name)) => self.change_accessory(ask, *name, report).await,
            _ => Ok(true),
        }
    }

    /// Carries out `accessory upgrade` or `accessory restart`. `false`: it did not work.
    pub(super) async fn change_accessory(
        &self,
        ask: &VerbRequest,
        name: ServiceName,
        report: &mut Report,
    ) -> Result<bool, Refused> {
        let accessory = self.accessory(name)?;
        let snapshot = self.snapshot(true).await?;
        let inputs = self.inputs(&snapshot);
        // An upgrade pins anew where the file was lost.
        let pin = match ask.verb {
            Verb::AccessoryUpgrade => accessories::written(&inputs, name)?,
            _ => accessories::pinned(&inputs, name)?,
        };
        let image = match (ask.verb, pin) {
            (Verb::AccessoryRestart, Some(pin)) => pin.app.image,
            (Verb::AccessoryRestart, None) => {
                let fix = "`astra-agent deploy` starts it";
                return Err(Problem::host("accessory", format!("{name} was never started here"), fix).into());
            }
            (_, pin) => {
                let image = self.newest(&accessory.image).await?;
                if pin.is_some_and(|pin| pin.app.image == image) && self.is_settled(&snapshot, name) {
                    report.image = Some(image);
                    return Ok(true);
                }
                image
            }
        };
        self.start_accessory(ask, &snapshot, accessory, image, report).await
    }

    fn accessory(&self, name: ServiceName) -> Result<&Accessory, Refused> {
        self.config.accessories.get(&name).ok_or_else(|| {
            let all: Vec<_> = self.config.accessories.keys().map(ToString::to_string).collect();
            let fix = match (self.config.service(name), all.is_empty()) {
                (Some(_), _) => {
                    "it belongs to the release: `astra-agent deploy --restart` restarts that".to_owned()
                }
                (None, true) => "agent.toml has none: [services.NAME] with `kind = \"accessory\"`".to_owned(),
                (None, false) => format!("agent.toml has: {}", all.join(", ")),
            };
            Problem::config("accessory", format!("`{name}` is no accessory"), fix).into()
        })
    }

    /// Nothing waits for a change of this accessory, and it runs its pin.
    fn is_settled(&self, snapshot: &Snapshot, name: ServiceName) -> bool {
        let inputs = self.inputs(snapshot);
        !accessories::is_pending(&inputs, name) && accessories::repairs(&inputs, name).is_empty()
    }

    async fn start_accessory(
        &self,
        ask: &VerbRequest,
        snapshot: &Snapshot,
        accessory: &Accessory,
        image: PinnedImage,
        report: &mut Report,
    ) -> Result<bool, Refused> {
        let plan = accessories::plan(&self.inputs(snapshot), accessory, &image)?;
        report.image = Some(image);
        Ok(self.carry_out(ask, snapshot, &plan, report).await? == Outcome::Converged)
    }

    /// Starts the accessories that agent.toml has and this host has not, before the release that uses them. `None`: one
    /// did not start; else the snapshot after it.
    pub(super) async fn start_new_accessories(
        &self,
        ask: &VerbRequest,
        mut snapshot: Snapshot,
        report: &mut Report,
    ) -> Result<Option<Snapshot>, Refused> {
        loop {
            let new = accessories::new(&self.inputs(&snapshot)).next();
            let Some(accessory) = new else { return Ok(Some(snapshot)) };
            let image = self.newest(&accessory.image).await?;
            if !self.start_accessory(ask, &snapshot, accessory, image, report).await? {
                return Ok(None);
            }
            report.image = None;
            // The sources outside the host were asked once for this run.
            let env = snapshot.observed.env;
            snapshot = self.snapshot(true).await?;
            snapshot.observed.env = env;
        }
    }

    /// The steps that bring all accessories back to their pins.
    pub fn accessory_repairs(&self, snapshot: &Snapshot) -> Vec<Step> {
        let inputs = self.inputs(snapshot);
        self.config.accessories.keys().flat_map(|name| accessories::repairs(&inputs, *name)).collect()
    }

    /// Brings each accessory back to its pin, in a run of its own. A failure is a warning, and the last one is returned:
    /// the rest of the host is still repaired. `pulls`: a lost image is fetched.
    pub(super) async fn keep_accessories(
        &self,
        ask: &VerbRequest,
        pulls: bool,
        report: &mut Report,
    ) -> Result<Option<String>, Refused> {
        let mut down = None;
        if self.config.accessories.is_empty() {
            return Ok(down);
        }
        let mut snapshot = self.snapshot(false).await?;
        for name in self.config.accessories.keys() {
            let inputs = self.inputs(&snapshot);
            let pinned = accessories::pinned(&inputs, *name);
            if let Err(problem) = &pinned
                && !accessories::is_up(&inputs, *name)
            {
                report.warn(&problem.to_string());
                down = Some(problem.what.clone());
            }
            let steps = accessories::repairs(&inputs, *name);
            if steps.is_empty() {
                continue;
            }
            if let Ok(Some(pin)) = pinned
                && pulls
                && let Err(refused) = self.have_image_unless_stopped(&pin.app.image).await
            {
                report.warn(&format!("fetching the image of {name}: {refused}"));
            }
            let mut repairs = Report::new(ask.verb);
            let ask = VerbRequest { selector: Selector::Keep, ..ask.clone() };
            let plan = Plan { accessory: Some(*name), ..Plan::forward(steps, Vec::new()) };
            let outcome = self.carry_out(&ask, &snapshot, &plan, &mut repairs).await?;
            report.warnings.append(&mut repairs.warnings);
            (report.nothing_to_do, report.run) = (false, repairs.run);
            if outcome != Outcome::Converged {
                let why = repairs.error.unwrap_or_else(|| "stopped".to_owned());
                let why = format!("the accessory {name} did not come back: {why}");
                report.warn(&why);
                down = Some(why);
            }
            snapshot = self.snapshot(false).await?;
        }
        Ok(down)
    }

    async fn have_image_unless_stopped(&self, image: &PinnedImage) -> Result<(), Refused> {
        tokio::select! {
            had = self.have_image(image) => had,
            signal = self.host.signals.wait() => Err(anyhow!("stopped by {signal}").into()),
        }
    }
}
