//! The decision to bring one image into service: the order of DESIGN.md, "A deploy, in order".

use std::collections::BTreeMap;

use crate::config::Strategy;
use crate::model::envfile::{EnvFile, MANAGED_KEYS, ManagedLines};
use crate::model::fingerprint::Fingerprint;
use crate::model::image::PinnedImage;
use crate::model::name::{EnvKey, InstanceId, TRIAL_ENV};
use crate::model::observed::{Running, UnitSeen};
use crate::model::plan::Plan;
use crate::model::release::{Candidate, Release};
use crate::model::secret::Secret;
use crate::model::step::{Content, Fallback, Step};

use super::migrations::{self, Wish};
use super::preflight::{self, Problem};
use super::{Inputs, env, instances, units};

/// What the command asks for.
#[derive(Clone, Debug)]
pub struct Request {
    pub image: PinnedImage,
    pub migrate: Wish,
    /// Try a held release again.
    pub force: bool,
    /// The timer asks, not a person: a digest is held whatever it ran with.
    pub automatic: bool,
    /// On the way back preflight warns where it otherwise refuses.
    pub lenient: bool,
}

/// Why no plan was made.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    #[error(
        "release {number} ({digest}) is held since run {run}: {reason}\n  hint: `--force` tries it again"
    )]
    Held { number: u64, digest: String, run: u64, reason: String },
    #[error("{}", list(.0))]
    Preflight(Vec<Problem>),
    #[error("making the environment: {0}")]
    Env(String),
}

fn list(problems: &[Problem]) -> String {
    let lines: Vec<_> = problems.iter().map(|p| format!("{}\n  hint: {}", p.what, p.hint)).collect();
    lines.join("\n")
}

/// The plan that brings `request.image` into service; empty when it is what serves.
pub fn plan(inputs: &Inputs<'_>, request: &Request) -> Result<Plan, Refusal> {
    let current = inputs.env_file();
    // The way back leaves what was set since alone: it may be why somebody goes back.
    let staged = if request.lenient { EnvFile::default() } else { inputs.staged() };
    let wanted = env::desired(inputs.config, &current, &staged, &inputs.observed.env_values)
        .map_err(|e| Refusal::Env(e.told(&inputs.observed.env_unread)))?;
    let candidate = candidate(inputs, request, &wanted)?;
    let problems = preflight::problems(inputs, &wanted, &request.image);
    // A config that asks for what is not there is not met, although the release it names serves.
    let unmet = !request.lenient && problems.iter().any(|p| p.config);
    // A migration that a person asks for is something to do.
    let migrates = request.migrate == Wish::Always && inputs.config.migrate.is_some();
    if serves(inputs, &candidate) && !unmet && !migrates {
        return Ok(Plan { candidate: Some(candidate), ..Plan::default() });
    }
    refuse_held(inputs, request, &candidate.release)?;
    let mut warnings: Vec<String> = inputs.config.notices.iter().map(ToString::to_string).collect();
    if !problems.is_empty() {
        if !request.lenient {
            return Err(Refusal::Preflight(problems));
        }
        warnings.extend(problems.into_iter().map(|p| p.what));
    }
    if inputs.config.deploy.strategy == Strategy::Rolling && inputs.config.app.instances == 1 {
        warnings.push("rolling with one instance: the site is down while it restarts".into());
    }
    Ok(build(inputs, request, &current, &wanted, candidate, warnings))
}

fn candidate(inputs: &Inputs<'_>, request: &Request, wanted: &EnvFile) -> Result<Candidate, Refusal> {
    let config = inputs.config;
    let args = units::app_args(config, inputs.engine);
    let (command, port) = (units::app_command(config), config.app.port);
    let fingerprint = fingerprint(inputs, wanted, &args, &command, port);
    let at_least = inputs.committed().map_or(0, |c| c.release);
    let number = inputs.history.number_for(&request.image.digest, &fingerprint, at_least);
    let release = Release { number, image: request.image.clone(), fingerprint };
    let lines = ManagedLines { image: request.image.clone(), release: number, args, command, port };
    wanted.with_managed(&lines).map_err(|e| Refusal::Env(e.to_string()))?;
    Ok(Candidate { release, lines })
}

/// Covers what changes the container: every variable it gets, its arguments, its command and its port.
fn fingerprint(
    inputs: &Inputs<'_>,
    wanted: &EnvFile,
    args: &[String],
    command: &[String],
    port: u16,
) -> Fingerprint {
    let mut parts: Vec<Vec<u8>> = Vec::new();
    for key in wanted.keys() {
        if MANAGED_KEYS.contains(&key.as_str()) {
            continue;
        }
        let value = wanted.get(&key).unwrap_or_default();
        parts.push(format!("{key}={}", value.reveal()).into_bytes());
    }
    parts.sort();
    parts.push(b"args".to_vec());
    parts.extend(args.iter().map(|a| a.clone().into_bytes()));
    parts.push(b"command".to_vec());
    parts.extend(command.iter().map(|a| a.clone().into_bytes()));
    parts.push(format!("port {port}").into_bytes());
    inputs.key.fingerprint(parts.iter().map(Vec::as_slice))
}

/// What a deploy would bring into service besides a new image: for `status`, which resolves no tag.
pub fn pending(inputs: &Inputs<'_>) -> Vec<String> {
    let Some(committed) = inputs.committed() else { return Vec::new() };
    let current = inputs.env_file();
    let Ok(wanted) = env::desired(inputs.config, &current, &inputs.staged(), &inputs.observed.env_values)
    else {
        return Vec::new();
    };
    let changed: Vec<_> = env::changed(&current, &wanted).iter().map(ToString::to_string).collect();
    let mut pending = Vec::new();
    if !changed.is_empty() {
        pending.push(format!("deploy would change the environment: {}", changed.join(", ")));
    }
    let args = units::app_args(inputs.config, inputs.engine);
    let app = &inputs.config.app;
    if args != committed.args
        || units::app_command(inputs.config) != committed.command
        || app.port != committed.port
    {
        pending.push("deploy would change the container's arguments, command or port".to_owned());
    }
    let known = inputs.history.releases.iter().find(|r| r.number == committed.release);
    let now = fingerprint(inputs, &current, &committed.args, &committed.command, committed.port);
    if known.is_some_and(|r| r.fingerprint != now) && pending.is_empty() {
        pending.push("astra.env was edited by hand: deploy brings that into service".to_owned());
    }
    for (id, seen) in &inputs.observed.instances {
        let other =
            seen.runs.as_ref().filter(|r| r.release == committed.release && r.image != committed.image);
        if let Some(runs) = other {
            pending.push(format!(
                "instance {id} runs {}, astra.env names another image: deploy mends that",
                runs.image
            ));
        }
    }
    pending.extend(super::moves::pending(inputs));
    pending.extend(super::files::pending(inputs));
    pending
}

/// The candidate is committed, and every instance runs it and is ready.
fn serves(inputs: &Inputs<'_>, candidate: &Candidate) -> bool {
    let committed = inputs.committed().is_some_and(|c| c == candidate.lines);
    let tidy = inputs.observed.trials.is_empty() && inputs.observed.markers.is_empty();
    committed
        && tidy
        && inputs.config.instances().all(|id| {
            let seen = inputs.observed.instances.get(&id);
            seen.is_some_and(|i| {
                let same =
                    |r: &Running| r.release == candidate.release.number && r.image == candidate.release.image;
                i.ready && i.runs.as_ref().is_some_and(same)
            })
        })
}

fn refuse_held(inputs: &Inputs<'_>, request: &Request, release: &Release) -> Result<(), Refusal> {
    let digest = &release.image.digest;
    let whatever = || inputs.history.held_digest(digest).filter(|_| request.automatic);
    match inputs.history.held_exactly(digest, &release.fingerprint).or_else(whatever) {
        Some(held) if !request.force => Err(Refusal::Held {
            number: held.release.number,
            digest: digest.short().to_owned(),
            run: held.run,
            reason: held.reason.lines().next().unwrap_or_default().to_owned(),
        }),
        _ => Ok(()),
    }
}

fn build(
    inputs: &Inputs<'_>,
    request: &Request,
    current: &EnvFile,
    wanted: &EnvFile,
    candidate: Candidate,
    warnings: Vec<String>,
) -> Plan {
    let mut steps = Vec::new();
    let image = &candidate.release.image;
    let committed_once = inputs.history.ever_committed.contains(&image.digest);
    // What was committed is on the disk; anything else may be a ruin.
    let whole = committed_once || !inputs.observed.store_suspect;
    let local = whole && inputs.observed.images.iter().any(|i| i.repo_digests.contains(image));
    // The way back does without an engine that answers nobody: systemd starts what is in the store, and a start
    // without its image is taken back like any other that fails.
    let blind = request.lenient && inputs.observed.engine.is_none();
    let pulls = !blind && (!local || unchecked(inputs, request));
    if pulls {
        steps.push(Step::Pull { image: image.clone() });
    }
    steps.push(Step::WriteTrialEnv { content: trial_env(current, wanted, &candidate) });
    steps.extend(migrations::step(inputs, &candidate.release, request.migrate));
    steps.extend(roll(inputs, &candidate));
    if pulls || !committed_once {
        steps.push(Step::FlushImages);
    }
    let commit = steps.len();
    steps.push(commit_step(inputs, current, wanted, &candidate));
    steps.extend(after(inputs, request));
    Plan { steps, commit: Some(commit), candidate: Some(candidate), warnings }
}

/// The image may have come before signatures were asked for: podman checks them at a pull, and only there. What serves
/// needs none; any other release does, or a tag that was moved back would bring an unsigned one into service.
fn unchecked(inputs: &Inputs<'_>, request: &Request) -> bool {
    let serves = inputs.committed().is_some_and(|c| c.image.digest == request.image.digest);
    inputs.config.verify.require_signature && !request.lenient && !serves
}

/// What astra.env becomes at the commit, under the name that the release on trial reads.
fn trial_env(current: &EnvFile, wanted: &EnvFile, candidate: &Candidate) -> Content {
    let file = wanted.with_managed(&candidate.lines).unwrap_or_else(|_| wanted.clone());
    Content::Secret { bytes: file.render(), changed: env::changed(current, &file) }
}

/// One instance after another, what does not serve before what does; with surge the spare first, and it leaves
/// last.
fn roll(inputs: &Inputs<'_>, candidate: &Candidate) -> Vec<Step> {
    let drains = inputs.config.app.instances > 1 || inputs.config.deploy.strategy == Strategy::Surge;
    let (soak, drain) = (inputs.config.deploy.soak, inputs.config.deploy.drain_timeout);
    let probe = inputs.probe();
    let mut order: Vec<InstanceId> =
        inputs.config.spare().into_iter().chain(inputs.config.instances()).collect();
    // One that is only slow to answer may still be the one that all rely on.
    let observed = inputs.observed;
    let up = |id: &InstanceId| observed.instances.get(id).is_some_and(|seen| seen.unit.is_active());
    let in_rotation = |id: &InstanceId| up(id) && !observed.markers.contains(id);
    order.sort_by_key(|id| (instances::serves(inputs, *id), in_rotation(id)));
    let mut steps = Vec::new();
    for (nth, id) in order.iter().enumerate() {
        let instance = inputs.target(*id);
        let fallback = fallback(inputs, *id);
        let runs = matches!(fallback, Fallback::Committed { .. }) || instances::serves(inputs, *id);
        if drains && runs {
            steps.push(Step::Drain { instance: instance.clone(), timeout: drain });
        } else if drains {
            // Nothing runs there yet: the marker alone keeps Caddy away until it has soaked.
            let (path, content) = (id.marker(), Content::Plain(Vec::new()));
            steps.push(Step::WriteFile { path, mode: 0o644, content });
        }
        steps.push(Step::Try {
            instance: instance.clone(),
            candidate: candidate.clone(),
            fallback,
            stop: inputs.config.app.stop_timeout,
            timeout: probe.timeout,
        });
        steps.push(Step::AwaitReady { instance: instance.clone(), probe: probe.clone() });
        if nth == 0 && drains && !soak.is_zero() {
            steps.push(Step::Soak { instances: vec![instance.clone()], time: soak, probe: probe.clone() });
        }
        if drains {
            steps.push(Step::Rejoin { instance, drain });
        }
    }
    if !soak.is_zero() {
        let instances = order.iter().map(|id| inputs.target(*id)).collect();
        steps.push(Step::Soak { instances, time: soak, probe });
    }
    steps
}

fn fallback(inputs: &Inputs<'_>, id: InstanceId) -> Fallback {
    if inputs.committed().is_none() || inputs.config.spare() == Some(id) {
        return Fallback::Stopped;
    }
    Fallback::Committed { probe: inputs.probe(), stop: inputs.config.app.stop_timeout }
}

fn commit_step(inputs: &Inputs<'_>, current: &EnvFile, wanted: &EnvFile, candidate: &Candidate) -> Step {
    let changed = env::changed(current, wanted);
    let env: BTreeMap<EnvKey, Secret> =
        changed.into_iter().filter_map(|key| wanted.get(key.as_str()).map(|value| (key, value))).collect();
    Step::Commit {
        file: inputs.config.app.name.env_file(),
        old: current.managed().ok().flatten(),
        candidate: candidate.clone(),
        env,
    }
}

/// Past the commit point: the trial's traces go, the spare, and what comes up at boot.
fn after(inputs: &Inputs<'_>, request: &Request) -> Vec<Step> {
    let mut steps = Vec::new();
    let staged = inputs.config.app.name.staged_env();
    if !request.lenient && inputs.observed.files.contains_key(&staged) {
        steps.push(Step::RemoveFile { path: staged });
    }
    let ids = || inputs.config.instances().chain(inputs.config.spare());
    steps.extend(ids().map(|id| Step::RemoveFile { path: id.trial_file() }));
    steps.push(Step::RemoveFile { path: TRIAL_ENV.into() });
    if let Some(spare) = inputs.config.spare() {
        let instance = inputs.target(spare);
        steps.push(Step::Drain { instance: instance.clone(), timeout: inputs.config.deploy.drain_timeout });
        steps.push(Step::StopInstance { instance });
    }
    let seen = |unit: &String| inputs.observed.units.get(unit).is_some_and(|u| u.enabled == "enabled");
    let wanted = units::enabled(inputs.config);
    let units: Vec<String> = wanted.iter().filter(|u| !seen(u)).cloned().collect();
    if !units.is_empty() {
        steps.push(Step::EnableUnits { units });
    }
    let active = |unit: &&String| inputs.observed.units.get(*unit).is_some_and(UnitSeen::is_active);
    let timers = wanted.iter().filter(|u| u.ends_with(".timer"));
    steps.extend(timers.filter(|t| !active(t)).map(|t| Step::StartUnit { unit: t.clone() }));
    steps
}
