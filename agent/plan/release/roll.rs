//! The steps of a release other than the committed one: pull, migration, one instance after another, commit,
//! cleanup. Called by release.rs.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::config::{Service, Strategy};
use crate::model::answers::AnswerLimits;
use crate::model::envfile::EnvFile;
use crate::model::image::PinnedImage;
use crate::model::instance::{InstanceName, ServiceName};
use crate::model::name::{EnvKey, TRIAL_ENV};
use crate::model::plan::Plan;
use crate::model::release::Candidate;
use crate::model::secret::Secret;
use crate::model::step::{Content, Fallback, Probe, Step};
use crate::model::unit::UnitSeen;

use super::Request;
use super::candidate::Trial;
use crate::plan::env::Wanted;
use crate::plan::{Inputs, env, files, instances, migrations, own_files, units};

/// All steps from the pull to the cleanup after the commit.
pub(super) fn plan(
    inputs: &Inputs<'_>,
    request: &Request,
    current: &EnvFile,
    wanted: &Wanted,
    Trial { candidate, touched, own }: Trial,
    warnings: Vec<String>,
) -> Plan {
    // A rollback needs no image of a service that it leaves alone.
    let needed = candidate.lines.all().filter(|(name, _)| !request.lenient || touched.contains(name));
    let images: BTreeSet<&PinnedImage> = needed.map(|(_, of)| &of.image).collect();
    let missing = images.into_iter().filter(|image| !request.restart && pulls(inputs, request, image));
    let mut steps: Vec<_> = missing.map(|image| Step::Pull { image: image.clone() }).collect();
    let pulls = !steps.is_empty();
    let mut touched_lines = touched.iter().filter_map(|name| candidate.lines.of(*name));
    steps.extend(touched_lines.find_map(|of| inputs.make_network(&of.args)));
    steps.extend(keep_made(inputs, wanted));
    steps.extend(own.steps(inputs, &candidate.lines));
    steps.push(Step::WriteTrialEnv { content: trial_env(current, &wanted.file, &candidate) });
    if !request.restart {
        steps.extend(migrations::steps(inputs, request, &candidate.lines));
    }
    let soak = if request.soak { inputs.config.deploy.soak } else { Duration::ZERO };
    let probe = |of: &Service| if request.restart { inputs.probe(of.name) } else { inputs.trial_probe(of) };
    // Neither the way to what served nor an operator who insists is judged.
    let relaxed = request.lenient || request.restart || request.force;
    steps.extend(roll(inputs, &candidate, &touched, (soak, relaxed), &probe));
    if pulls || !is_blind(inputs, request) {
        // Also for an image that was committed earlier: it may have been pruned, and pulled again by hand.
        steps.push(Step::FlushImages);
    }
    let commit = steps.len();
    let tried = tried(&steps);
    steps.push(commit_step(inputs, current, &wanted.file, &candidate));
    steps.extend(files::new_routes(inputs, &candidate.lines));
    steps.extend(after(inputs, request, wanted, &candidate, &tried));
    Plan { steps, commit: Some(commit), candidate: Some(candidate), warnings, ..Plan::default() }
}

/// The instances with a trial file.
fn tried(steps: &[Step]) -> Vec<InstanceName> {
    let tried = |step: &Step| match step {
        Step::StartTrial { instance, .. } => Some(instance.id),
        _ => None,
    };
    let mut tried: Vec<_> = steps.iter().filter_map(tried).collect();
    tried.sort();
    tried
}

/// Whether the image has to be pulled first.
fn pulls(inputs: &Inputs<'_>, request: &Request, image: &PinnedImage) -> bool {
    let observed = inputs.observed;
    let once = inputs.history.knows(&image.digest);
    // An image that a power cut may have damaged counts as missing.
    let suspect = observed.store_suspect && (!once || observed.unflushed.contains(image));
    let listed = observed.images.iter().any(|i| i.repo_digests.contains(image));
    // A start without its image is undone like any failure, so a rollback does not need the list of images.
    let taken_for_there = request.lenient && observed.images_unknown;
    let local = !suspect && (listed || taken_for_there);
    !is_blind(inputs, request) && (!local || unchecked(inputs, request, image))
}

/// A rollback goes on without an answering engine: systemd can start images of the local store.
fn is_blind(inputs: &Inputs<'_>, request: &Request) -> bool {
    request.lenient && inputs.observed.engine.is_none()
}

/// Generated values are on disk before their first use: the next attempt of an undone or cut-off run finds
/// them, and can read the data written with them.
pub(in crate::plan) fn keep_made(inputs: &Inputs<'_>, wanted: &Wanted) -> Option<Step> {
    let mut staged = inputs.staged();
    for (key, value) in &wanted.made {
        // Cannot fail: generated characters need no quoting.
        let _ = staged.set.set(key.as_str(), value);
        staged.unset.remove(key);
    }
    let content = Content::Secret { bytes: staged.render(), changed: wanted.made.keys().cloned().collect() };
    let path = inputs.config.name.staged_env();
    (!wanted.made.is_empty()).then_some(Step::WriteFile { path, mode: 0o600, content })
}

/// The image may have been pulled before signatures were required: podman checks them only at a pull. The
/// serving release needs no check; any other does, or a tag that was moved back would deploy an unsigned
/// image.
fn unchecked(inputs: &Inputs<'_>, request: &Request, image: &PinnedImage) -> bool {
    let serves = inputs.committed().is_some_and(|c| c.all().any(|(_, of)| of.image.digest == image.digest));
    inputs.config.verify.require_signature && !request.lenient && !serves
}

/// The future astra.env, under the name that the release on trial reads.
fn trial_env(current: &EnvFile, wanted: &EnvFile, candidate: &Candidate) -> Content {
    let file = wanted.with_managed(&candidate.lines).unwrap_or_else(|_| wanted.clone());
    Content::Secret { bytes: file.render(), changed: env::changed(current, &file) }
}

/// One service after another, and in each one instance after another: those that do not serve first, with
/// surge the spare before all others. A service whose containers stay the same is left alone.
fn roll(
    inputs: &Inputs<'_>,
    candidate: &Candidate,
    touched: &BTreeSet<ServiceName>,
    (soak, relaxed): (Duration, bool),
    probe: &dyn Fn(&Service) -> Probe,
) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut changed = Vec::new();
    for service in inputs.config.services().filter(|service| touched.contains(&service.name)) {
        if candidate.lines.of(service.name).is_some_and(|of| of.env.is_some()) {
            // An older one would give the container the environment of the application.
            steps.extend(files::current_unit(inputs, &inputs.config.name.template(service.name)));
        }
        let order = order(inputs, service);
        // The first instance of the site is the gatekeeper.
        let gate = if changed.is_empty() { soak } else { Duration::ZERO };
        steps.extend(roll_service(inputs, service, &order, candidate, (gate, probe(service))));
        changed.extend(order.into_iter().map(|id| (inputs.target(id), probe(service))));
    }
    if !soak.is_zero() && !changed.is_empty() {
        let limits = if relaxed { AnswerLimits::default() } else { answer_limits(inputs, touched) };
        steps.push(Step::Soak { instances: changed, time: soak, limits });
    }
    steps
}

/// Answers tell nothing of a release of workers. Nor are they the release's own if it restarted the only instance of a
/// service, or if one is paused: Caddy made those.
fn answer_limits(inputs: &Inputs<'_>, touched: &BTreeSet<ServiceName>) -> AnswerLimits {
    let mut web = inputs.config.services().filter(|of| of.web().is_some());
    let mut changed = web.clone().filter(|of| touched.contains(&of.name)).peekable();
    let judged =
        changed.peek().is_some() && changed.all(|of| of.most() > 1) && web.all(|of| of.instances > 0);
    if judged { inputs.config.deploy.answers } else { AnswerLimits::default() }
}

/// The instances of a service in the order in which they change.
fn order(inputs: &Inputs<'_>, service: &Service) -> Vec<InstanceName> {
    // Before the first commit of a service no request needs its spare.
    let committed = inputs.committed().is_some_and(|lines| lines.of(service.name).is_some());
    // One that serves already, because an instance does not, goes on until the commit: undo needs it as it is.
    let tried = |id: &InstanceName| committed && inputs.is_routed(service) && !instances::serves(inputs, *id);
    let spare = service.spare().filter(tried);
    let mut order: Vec<InstanceName> = spare.into_iter().chain(service.instances()).collect();
    // A slow instance may still be the only one that serves.
    order.sort_by_key(|id| (instances::serves(inputs, *id), in_rotation(inputs, *id)));
    order
}

fn in_rotation(inputs: &Inputs<'_>, id: InstanceName) -> bool {
    let up = inputs.observed.instances.get(&id).is_some_and(|seen| seen.unit.is_active());
    up && !inputs.observed.markers.contains(&id)
}

fn roll_service(
    inputs: &Inputs<'_>,
    service: &Service,
    order: &[InstanceName],
    candidate: &Candidate,
    (gate, probe): (Duration, Probe),
) -> Vec<Step> {
    let drains = service.instances > 1 || service.strategy == Strategy::Surge;
    let mut steps = Vec::new();
    for (nth, id) in order.iter().enumerate() {
        let instance = inputs.target(*id);
        let fallback = fallback(inputs, *id);
        // A marker left by a cut-off run would keep the only instance out of rotation.
        let drains = inputs.is_routed(service) && (drains || inputs.observed.markers.contains(id));
        let runs = matches!(fallback, Fallback::Committed { .. }) || in_rotation(inputs, *id);
        if drains && runs {
            steps.extend(inputs.drain(instance.clone()));
        } else if drains {
            // A stopped instance: only the marker is set, to keep requests away until it has soaked.
            steps.extend(inputs.set_aside(*id));
        }
        steps.push(Step::StartTrial {
            instance: instance.clone(),
            candidate: candidate.clone(),
            fallback,
            stop: service.stop_timeout,
            timeout: probe.timeout,
        });
        steps.push(Step::AwaitReady { instance: instance.clone(), probe: probe.clone() });
        if nth == 0 && drains && !gate.is_zero() {
            let limits = AnswerLimits::default();
            steps.push(Step::Soak { instances: vec![(instance.clone(), probe.clone())], time: gate, limits });
        }
        if drains {
            steps.extend(inputs.undrain(instance));
        }
    }
    steps
}

fn fallback(inputs: &Inputs<'_>, id: InstanceName) -> Fallback {
    let committed = inputs.committed().is_some_and(|committed| committed.of(id.service).is_some());
    if !committed || inputs.config.is_spare(id) {
        return Fallback::Stopped;
    }
    let stop = inputs.config.service(id.service).map_or(Duration::ZERO, |service| service.stop_timeout);
    Fallback::Committed { probe: inputs.probe(id.service), stop }
}

/// The commit: the changed variables and the managed lines.
pub(super) fn commit_step(
    inputs: &Inputs<'_>,
    current: &EnvFile,
    wanted: &EnvFile,
    candidate: &Candidate,
) -> Step {
    let changed = env::changed(current, wanted).into_iter();
    let env: BTreeMap<EnvKey, Option<Secret>> = changed
        .map(|key| {
            let value = wanted.get(key.as_str());
            (key, value)
        })
        .collect();
    Step::Commit {
        file: inputs.config.name.env_file(),
        old: current.managed().ok().flatten(),
        candidate: candidate.clone(),
        env,
    }
}

/// After the commit point: removes the trial's files and the spare, and enables units.
fn after(
    inputs: &Inputs<'_>,
    request: &Request,
    wanted: &Wanted,
    candidate: &Candidate,
    tried: &[InstanceName],
) -> Vec<Step> {
    let mut steps = Vec::new();
    let path = inputs.config.name.staged_env();
    let there = inputs.observed.files.contains_key(&path) || !wanted.made.is_empty();
    // A rollback keeps the staged changes, unless it has applied all of them.
    if there && !request.restart && (!request.lenient || inputs.staged().is_in(&wanted.file)) {
        steps.push(Step::RemoveFile { path });
    }
    steps.extend(tried.iter().map(|id| Step::RemoveFile { path: id.trial_file() }));
    steps.push(Step::RemoveFile { path: TRIAL_ENV.into() });
    steps.extend(own_files::unused(inputs, &candidate.lines));
    let up = |id: &InstanceName| inputs.observed.instances.get(id).is_some_and(|seen| seen.unit.is_up());
    let changed = inputs.config.services().filter(|of| tried.iter().any(|id| id.service == of.name));
    for spare in changed.filter_map(Service::spare).filter(|id| tried.contains(id) || up(id)) {
        let instance = inputs.target(spare);
        steps.extend(inputs.drain(instance.clone()));
        steps.push(inputs.stop(instance));
    }
    let seen = |unit: &String| inputs.observed.units.get(unit).is_some_and(|u| u.is_enabled());
    let wanted = units::enabled_in(inputs.config, &candidate.lines);
    let units: Vec<String> = wanted.iter().filter(|u| !seen(u)).cloned().collect();
    if !units.is_empty() {
        steps.push(Step::EnableUnits { units });
    }
    let active = |unit: &&String| inputs.observed.units.get(*unit).is_some_and(UnitSeen::is_active);
    let timers = wanted.iter().filter(|u| u.ends_with(".timer"));
    steps.extend(timers.filter(|t| !active(t)).map(|t| Step::StartUnit { unit: t.clone() }));
    steps
}
