//! The plan that keeps the committed state, and the lines that close a run which was cut off. Called by converge.rs and
//! converge/recover.rs, which look at the host and carry it out.

use super::instances;
use super::policy::VerbPolicy;
use super::{Inputs, caddy_trial, files, own_files};
use crate::model::entry::{Entry, Verb};
use crate::model::history::RunRecord;
use crate::model::outcome::{Blame, Outcome};
use crate::model::plan::Plan;
use crate::model::step::Step;

/// All that differs from the committed state, or after a cut only what a cut leaves.
pub fn plan(inputs: &Inputs<'_>, verb: Verb) -> Plan {
    let policy = VerbPolicy::of(verb);
    let mut steps = Vec::new();
    if policy.repairs_drift {
        steps.extend(files::steps(inputs));
        steps.extend(files::activation(inputs));
    } else {
        steps.extend(files::routes(inputs));
    }
    if policy.repairs_drift {
        // Before the instances that need them.
        steps.extend(own_files::repairs(inputs));
    }
    steps.extend(instances::steps(inputs, policy.repairs));
    if policy.repairs_drift && !keeps_surplus(inputs, &steps) {
        steps.extend(files::remove_surplus(inputs));
    }
    // Whatever was cut off: what is committed comes back at the next boot.
    steps.extend(files::enabling(inputs));
    // Last: the instances come back even where Caddy does not start.
    steps.extend(caddy_trial::settle(inputs));
    if !policy.repairs_drift {
        steps.extend(caddy_trial::start(inputs));
    }
    let warnings = if steps.is_empty() { Vec::new() } else { files::pending(inputs) };
    Plan::forward(steps, warnings)
}

/// An instance beyond the configured count goes on running, because it alone serves: Caddy must not forget it.
fn keeps_surplus(inputs: &Inputs<'_>, steps: &[Step]) -> bool {
    let wanted = |id| inputs.config.instances().chain(inputs.config.spares()).any(|wanted| wanted == id);
    let stops =
        |id| steps.iter().any(|s| matches!(s, Step::StopInstance { instance, .. } if instance.id == id));
    let mut up = inputs.observed.instances.iter().filter(|(_, seen)| seen.unit.is_up());
    up.any(|(id, _)| !wanted(*id) && !stops(*id))
}

/// The release, Caddy's image and the pins according to the files of the host.
#[derive(Clone, Debug, Default)]
pub struct Named {
    /// The release in astra.env.
    pub release: Option<u64>,
    /// The text of caddy.env.
    pub caddy: String,
    /// For each accessory, the step that pinned what its file names.
    pub pins: Vec<String>,
}

/// The lines that close `run`, which was cut off. `repaired` is how bringing the host to what is `named` ended.
pub fn last_lines(run: &RunRecord, named: &Named, repaired: Outcome) -> Vec<Entry> {
    let upgraded = || {
        let step = Step::SwitchCaddyImage { env: named.caddy.clone(), before: String::new() }.to_string();
        run.entries.iter().any(|stamped| match &stamped.entry {
            Entry::Opened { verb: Verb::CaddyUpgrade, plan, .. } => plan.contains(&step),
            Entry::Opened { accessory: Some(_), plan, .. } => named.pins.iter().any(|pin| plan.contains(pin)),
            _ => false,
        })
    };
    let took_effect = (run.intended().is_some() && run.intended() == named.release) || upgraded();
    let new = run.opened().and_then(|opened| opened.new.cloned());
    let mut lines = Vec::new();
    if let (true, None, Some(release)) = (took_effect, run.committed(), new) {
        lines.push(Entry::Committed { release });
    }
    let outcome = match (repaired, took_effect || run.committed().is_some()) {
        (Outcome::Converged, true) => Outcome::Converged,
        (Outcome::Converged, false) => Outcome::Undone { blame: Blame::Host },
        _ => Outcome::Incomplete,
    };
    let reason = Some("the run was cut off".to_owned());
    lines.push(Entry::Closed { outcome, reason, recovered: true });
    lines
}
