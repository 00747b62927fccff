//! Caddy's part of a run: validates a Caddyfile before the run changes anything, and upgrades Caddy's image.

use std::path::Path;

use super::{Reconciler, Refused, Report, Snapshot, VerbRequest};
use crate::host::caddy::is_refusal;
use crate::model::instance::InstanceName;
use crate::model::name::CADDY_ENV;
use crate::model::observed::CaddySeen;
use crate::model::outcome::Outcome;
use crate::model::plan::Plan;
use crate::model::problem::{Cause, Problem};
use crate::model::step::Step;

impl Reconciler<'_> {
    /// Refuses a plan with a Caddyfile that Caddy cannot parse. Problems with a certificate or an address
    /// only show when it is loaded. Also refuses a readiness path that no serving instance answers: it would
    /// take all of them out of rotation.
    ///
    /// # Errors
    ///
    /// Caddy refuses a Caddyfile of the plan, or no serving instance answers the new readiness path.
    pub async fn check_caddyfiles(&self, snapshot: &Snapshot, plan: &Plan) -> Result<(), Refused> {
        for step in &plan.steps {
            let Step::LoadCaddy { content, .. } = step else { continue };
            match self.host.caddy.adapt(content.bytes()).await {
                Err(error) if is_refusal(&error) => {
                    return Err(refused(&error, content.bytes()).into());
                }
                // A Caddy that does not answer is reported by the step itself.
                _ => {}
            }
        }
        if plan.steps.iter().any(|step| matches!(step, Step::LoadCaddy { .. })) {
            let inputs = self.inputs(snapshot);
            let routed =
                |id: &InstanceName| self.config.service(id.service).is_some_and(|of| inputs.is_routed(of));
            let up = snapshot.observed.instances.iter();
            let up = up.filter(|(id, seen)| seen.unit.is_active() && routed(id));
            let targets: Vec<_> = up.map(|(id, _)| (inputs.target(*id), inputs.probe(id.service))).collect();
            let kept = self.host.keep_rotation(&targets).await;
            kept.map_err(|error| Refused::of(Cause::Config, error))?;
        }
        Ok(())
    }
}

impl Reconciler<'_> {
    /// Runs Caddy from the current image of `[caddy] image`, and goes back to the former one if the new one
    /// does not answer. `false`: it did not work.
    pub(super) async fn upgrade_caddy(
        &self,
        ask: &VerbRequest,
        report: &mut Report,
    ) -> Result<bool, Refused> {
        let snapshot = self.snapshot(false).await?;
        let written = snapshot.observed.files.get(Path::new(CADDY_ENV));
        let Some(before) = written.and_then(|f| String::from_utf8(f.bytes.clone()).ok()) else {
            let fix = "`astra-agent install` begins";
            return Err(Problem::host("installed", "there is no Caddy to upgrade", fix).into());
        };
        let image = self.fetch_caddy_image().await?;
        let runs = snapshot.observed.caddy.as_ref().and_then(|c| c.runs.as_ref());
        let env = crate::plan::caddy::env(&image);
        if env == before && runs.is_none_or(|runs| runs.env == env) {
            return Ok(true);
        }
        let before = runs.map_or(before, |runs| runs.env.clone());
        let mut steps = crate::plan::caddy_trial::unit(&self.inputs(&snapshot));
        let commit = Some(steps.len());
        steps.push(Step::SwitchCaddyImage { env, before });
        let plan = Plan { steps, commit, ..Plan::default() };
        Ok(self.carry_out(ask, &snapshot, &plan, report).await? == Outcome::Converged)
    }
}

/// Caddy's error, with the line that it names: the file is not on the disk.
fn refused(error: &anyhow::Error, caddyfile: &[u8]) -> Problem {
    let (major, minor) = CaddySeen::OLDEST;
    let error = format!("{error:#}");
    let named = error.split("Caddyfile:").skip(1).find_map(|rest| {
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        let number: usize = digits.parse().ok()?;
        let text = String::from_utf8_lossy(caddyfile);
        let line = text.lines().nth(number.checked_sub(1)?)?;
        Some(format!("\n  line {number}: {}", line.trim()))
    });
    let line = named.unwrap_or_default();
    let fix = format!(
        "the Caddyfile is made from [caddy] in agent.toml: look at `extra` there; nothing was touched (Caddy must be \
         {major}.{minor} or newer)"
    );
    Problem::config("caddyfile", format!("{error}{line}"), fix)
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn the_line_that_caddy_names_is_shown() {
        let error =
            anyhow!("checking the Caddyfile: Caddy says: Caddyfile:2: unrecognized directive: nonsense");
        let told = refused(&error, b":80 {\n\tnonsense yes\n}\n").to_string();
        assert!(told.contains("directive: nonsense\n  line 2: nonsense yes\n  hint: "), "{told}");
        let told = refused(&anyhow!("Caddy says: no"), b"").to_string();
        assert!(told.starts_with("Caddy says: no\n  hint: "), "{told}");
    }
}
