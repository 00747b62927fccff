//! Keeps the committed release running in every instance: for recover after a cut-off run, and for reconcile
//! every few minutes. astra.env is the truth, the containers' labels tell which instance differs.

use crate::config::Service;
use crate::model::envfile::ManagedLines;
use crate::model::instance::InstanceName;
use crate::model::name::{EnvKey, TRIAL_ENV, WORKING};
use crate::model::observed::InstanceSeen;
use crate::model::step::Step;
use crate::model::unit::ActiveState;

use super::{Inputs, own_files};

/// The scope of the repair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RepairScope {
    /// Every instance is brought back to the committed release.
    All,
    /// The same before a deploy of the committed release: also instances that run another image under its
    /// number.
    Exactly,
    /// Before a release is rolled through the wanted instances: only what the roll does not touch.
    Leftovers,
}

/// Steps that restore the committed release in every instance, and remove leftovers of a cut-off run.
pub fn steps(inputs: &Inputs<'_>, scope: RepairScope) -> Vec<Step> {
    let mut steps = leftovers(inputs);
    if inputs.env_file().managed().is_err() || inputs.is_nameless() {
        // The committed release is unknown: whatever runs is left alone.
        return steps;
    }
    let observed = inputs.observed;
    let committed = inputs.committed();
    let mut wanted: Vec<InstanceName> = inputs.config.instances().collect();
    // A failed repair stops the plan: web services come before workers, and serving instances after those that do
    // not serve.
    let works = |id: &InstanceName| inputs.config.service(id.service).is_none_or(|of| of.web().is_none());
    wanted.sort_by_key(|id| (works(id), serves(inputs, *id)));
    for id in &wanted {
        let seen = observed.instances.get(id);
        match committed.as_ref().filter(|c| c.of(id.service).is_some()) {
            Some(committed) => {
                let kept = keep(inputs, *id, seen, committed, scope);
                after_another(inputs, &mut steps, *id, kept);
            }
            // Its service is not committed: an instance can only run leftovers of a cut-off deploy.
            None => steps.extend(drop_instance(inputs, *id, seen)),
        }
    }
    for (id, seen) in &observed.instances {
        // Keep the last serving instance of a web service, even if it is surplus: here no other instance is started
        // before the release does so.
        let served = || wanted.iter().any(|other| other.service == id.service && serves(inputs, *other));
        let web = |service: &Service| service.web().is_some() && service.instances > 0;
        let web = inputs.config.service(id.service).is_some_and(web);
        let last = scope == RepairScope::Leftovers && web && serves(inputs, *id) && !served();
        if !wanted.contains(id) && !last {
            let dropped = drop_instance(inputs, *id, Some(seen));
            after_another(inputs, &mut steps, *id, dropped);
        }
    }
    let stray =
        observed.markers.iter().filter(|id| !wanted.contains(id) && !observed.instances.contains_key(id));
    steps.extend(stray.map(|id| Step::RemoveFile { path: id.marker() }));
    if steps.iter().any(|step| matches!(step, Step::RestoreCommitted { .. })) {
        let mut lines = committed.iter().flat_map(|lines| lines.all());
        let network = lines.find_map(|(_, of)| inputs.make_network(&of.args));
        steps.splice(0..0, network);
    }
    steps
}

/// Moves the steps that stop the last serving instance behind the wait for another one: if that wait fails,
/// the plan stops there.
pub(super) fn after_another(inputs: &Inputs<'_>, steps: &mut Vec<Step>, id: InstanceName, new: Vec<Step>) {
    let leaves = |s: &Step| {
        matches!(s, Step::Drain { .. } | Step::RestoreCommitted { .. } | Step::StopInstance { .. })
    };
    let waited = steps
        .iter()
        .any(|s| matches!(s, Step::AwaitReady { instance, .. } if instance.id.service == id.service));
    let mut others = inputs.config.instances().filter(|other| *other != id && other.service == id.service);
    // With nothing committed no other instance ever becomes ready.
    let alone = inputs.committed().is_some()
        && serves(inputs, id)
        && !others.clone().any(|other| serves(inputs, other));
    if let Some(other) = others.next().filter(|_| alone && !waited && new.iter().any(leaves)) {
        steps.push(inputs.await_ready(inputs.target(other)));
    }
    steps.extend(new);
}

/// In rotation and ready, whatever release it runs.
pub(super) fn serves(inputs: &Inputs<'_>, id: InstanceName) -> bool {
    let ready = inputs.observed.instances.get(&id).is_some_and(|seen| seen.ready);
    ready && !inputs.observed.markers.contains(&id)
}

/// Trial files, staged values that are committed, and temporary files of interrupted writes.
fn leftovers(inputs: &Inputs<'_>) -> Vec<Step> {
    let observed = inputs.observed;
    let mut steps: Vec<Step> =
        observed.trials.iter().map(|id| Step::RemoveFile { path: id.trial_file() }).collect();
    if observed.trial_env {
        steps.push(Step::RemoveFile { path: TRIAL_ENV.into() });
    }
    if observed.working && observed.markers.is_empty() {
        steps.push(Step::RemoveFile { path: WORKING.into() });
    }
    let (staged, path) = (inputs.staged(), inputs.config.name.staged_env());
    let kept = inputs.env_file();
    let fixed = |key: &str| {
        let source = key.parse().ok().and_then(|key: EnvKey| inputs.config.env.get(&key));
        source.is_some_and(|source| !source.is_generated())
    };
    let done = |key: &String| kept.get(key) == staged.set.get(key) || fixed(key);
    let gone = |key: &EnvKey| kept.get(key.as_str()).is_none();
    if observed.files.contains_key(&path)
        && staged.set.keys().iter().all(done)
        && staged.unset.iter().all(gone)
    {
        // A run was cut off between its commit and this removal: the values must not return if set
        // differently later.
        steps.push(Step::RemoveFile { path });
    }
    steps.extend(observed.leftovers.iter().map(|path| Step::RemoveFile { path: path.clone() }));
    steps
}

fn keep(
    inputs: &Inputs<'_>,
    id: InstanceName,
    seen: Option<&InstanceSeen>,
    committed: &ManagedLines,
    scope: RepairScope,
) -> Vec<Step> {
    let instance = inputs.target(id);
    let drained = inputs.observed.markers.contains(&id);
    let on_trial = inputs.observed.trials.contains(&id);
    let runs = seen.and_then(|s| s.runs.as_ref()).map(|r| {
        Some(r.release) == committed.since(id.service)
            && (scope != RepairScope::Exactly
                || committed.of(id.service).is_some_and(|of| of.image == r.image))
    });
    let active = seen.is_some_and(|s| s.unit.is_active());
    // systemd is retrying the start: the agent only intervenes if it runs the wrong release.
    let retried = seen.is_some_and(|s| s.unit.active == ActiveState::Activating) && !drained && !on_trial;
    // If the engine does not answer, it is unknown what an instance runs, and serving instances are not
    // touched; but a trial file is proof.
    let unknown = active && runs.is_none() && inputs.observed.engine.is_none() && !on_trial;
    // astra.env of a backup without its files: what serves would not come back.
    let stays = active && !on_trial && own_files::lacks(inputs, committed, id.service);
    let ready = inputs.await_ready(instance.clone());
    if unknown || stays || (active && runs == Some(true)) || (retried && runs != Some(false)) {
        return match drained {
            true if scope != RepairScope::Leftovers => {
                [ready].into_iter().chain(inputs.undrain(instance)).collect()
            }
            _ => Vec::new(),
        };
    }
    if scope == RepairScope::Leftovers {
        return Vec::new();
    }
    let mut steps = Vec::new();
    if active {
        steps.extend(inputs.drain(instance.clone()));
    }
    steps.push(inputs.restore(instance.clone()));
    steps.push(ready);
    if active || drained {
        steps.extend(inputs.undrain(instance));
    }
    steps
}

/// Stops an instance that should not run: a spare, or one beyond the configured count.
fn drop_instance(inputs: &Inputs<'_>, id: InstanceName, seen: Option<&InstanceSeen>) -> Vec<Step> {
    let instance = inputs.target(id);
    let drained = inputs.observed.markers.contains(&id);
    let up = seen.is_some_and(|s| s.unit.is_up() || s.runs.is_some());
    let enabled = seen.is_some_and(|s| s.unit.is_enabled());
    // A failed unit stays failed, and the host degraded, until it is stopped for good.
    let failed = seen.is_some_and(|s| s.unit.active == ActiveState::Failed);
    let mut steps = Vec::new();
    // An instance that is not ready may still be answering requests.
    if up && !drained {
        steps.extend(inputs.drain(instance.clone()));
    }
    if up || failed {
        steps.push(inputs.stop(instance.clone()));
    }
    if enabled && !inputs.config.instances().any(|i| i == id) {
        steps.push(Step::DisableUnits { units: vec![instance.unit.clone()] });
    }
    if drained && !up && !failed {
        steps.push(Step::RemoveFile { path: id.marker() });
    }
    steps
}
