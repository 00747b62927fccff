//! What of a run is about Caddy alone: its word on a Caddyfile before anything is touched.

use anyhow::anyhow;

use super::{Foreman, Refused};
use crate::host::caddy::is_refusal;
use crate::model::observed::CaddySeen;
use crate::model::plan::Plan;
use crate::model::step::Step;

impl Foreman<'_> {
    /// Every Caddyfile of the plan is one that Caddy reads; else nothing is touched. What a certificate or an
    /// address in it is worth shows only when it is loaded.
    pub(super) async fn check_caddyfiles(&self, plan: &Plan) -> Result<(), Refused> {
        for step in &plan.steps {
            let Step::LoadCaddy { content } = step else { continue };
            match self.host.caddy.adapt(content.bytes()).await {
                Err(error) if is_refusal(&error) => return Err(Refused::of(2, refused(&error))),
                // A Caddy that does not answer says so when the step comes.
                _ => {}
            }
        }
        Ok(())
    }
}

fn refused(error: &anyhow::Error) -> anyhow::Error {
    let (major, minor) = CaddySeen::OLDEST;
    anyhow!(
        "{error:#}\n  hint: the Caddyfile is made from [caddy] in agent.toml: look at `extra` there; nothing was \
         touched (Caddy must be {major}.{minor} or newer)"
    )
}
