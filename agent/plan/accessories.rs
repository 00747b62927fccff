//! Accessories: their start with another image or other settings, and their repair.
//!
//! An accessory changes like a release, with steps of the same kinds: its container starts from a trial file, and once
//! it is ready its own env file is renamed, which is its commit point. Until then the old one comes back at a failure,
//! a signal or a power cut. A pin is what that file names: image, arguments, command and secrets, numbered per
//! accessory.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::{Accessory, Service};
use crate::model::envfile::{EnvError, EnvFile, ManagedLines, ServiceLines, is_placeholder};
use crate::model::history::RunRecord;
use crate::model::image::PinnedImage;
use crate::model::instance::{InstanceName, ServiceName};
use crate::model::name::{EnvKey, TRIAL_ENV, unit_file};
use crate::model::observed::InstanceSeen;
use crate::model::plan::Plan;
use crate::model::problem::Problem;
use crate::model::release::{Candidate, Release};
use crate::model::secret::Secret;
use crate::model::step::{Check, Content, Fallback, Probe, Step};
use crate::model::unit::ActiveState;

use super::env::{self, Mute, Wanted};
use super::own_files::{self, OwnFiles};
use super::{Inputs, checks, files, release, units};

/// How long an accessory that went back to its pin must run.
const BACK: Duration = Duration::from_secs(2);

/// The pin of an accessory; `None`: it was never started here.
///
/// # Errors
///
/// Its env file was edited, and names no pin.
pub fn pinned(inputs: &Inputs<'_>, name: ServiceName) -> Result<Option<ManagedLines>, Problem> {
    let found = written(inputs, name)?;
    let runs = || (is_up(inputs, name) && !is_on_trial(inputs, name)).then(|| "it runs".to_owned());
    let known = || last_pin(inputs, name).map(|last| format!("its last run did: {last}")).or_else(runs);
    let Some(known) = known().filter(|_| found.is_none() && !clashes(inputs, name)) else { return Ok(found) };
    // A first start would stop what runs, and take the newest image for its data.
    let path = path(inputs, name);
    let what = format!("{}, the file of {name}, is lost; {known}", path.display());
    let fix = format!(
        "put the file back from a backup; or `astra-agent accessory upgrade {name}` pins the image of today"
    );
    Err(Problem::config("accessory", what, fix))
}

/// The pin in its file, which may be lost.
///
/// # Errors
///
/// Its env file was edited, and names no pin.
pub fn written(inputs: &Inputs<'_>, name: ServiceName) -> Result<Option<ManagedLines>, Problem> {
    let path = path(inputs, name);
    let unreadable = |error: &dyn std::fmt::Display| {
        let path = path.display();
        let fix = format!("fix {path}, or put the file back from a backup");
        Problem::config("accessory", format!("{path} names no image that can be read: {error}"), fix)
    };
    match inputs.observed.unreadable.get(&path) {
        Some(error) => Err(unreadable(error)),
        None => file(inputs, name).managed().map_err(|error| unreadable(&error)),
    }
}

/// Whether its unit is up.
pub fn is_up(inputs: &Inputs<'_>, name: ServiceName) -> bool {
    seen(inputs, name).unit.is_up()
}

fn is_on_trial(inputs: &Inputs<'_>, name: ServiceName) -> bool {
    inputs.observed.trials.contains(&InstanceName::single(name))
}

/// The step that pinned it last, according to the journal.
fn last_pin(inputs: &Inputs<'_>, name: ServiceName) -> Option<String> {
    let mut pins = inputs.history.runs.iter().rev().filter_map(RunRecord::pin);
    pins.find(|(accessory, _)| *accessory == name).map(|(_, step)| step.to_owned())
}

/// The committed release has a service of that name.
pub fn clashes(inputs: &Inputs<'_>, name: ServiceName) -> bool {
    inputs.committed().is_some_and(|lines| lines.of(name).is_some())
}

/// Whether this is an accessory, and no instance of a release.
pub fn is_one(inputs: &Inputs<'_>, id: InstanceName) -> bool {
    let known = inputs.config.accessories.contains_key(&id.service);
    known && id == InstanceName::single(id.service) && !clashes(inputs, id.service)
}

fn path(inputs: &Inputs<'_>, name: ServiceName) -> PathBuf {
    inputs.config.name.accessory_env(name)
}

fn file(inputs: &Inputs<'_>, name: ServiceName) -> EnvFile {
    let seen = inputs.observed.files.get(&path(inputs, name));
    seen.map(|seen| EnvFile::parse(&seen.bytes)).unwrap_or_default()
}

/// The accessories that a deploy starts first: they have no pin.
pub fn new<'a>(inputs: &Inputs<'a>) -> impl Iterator<Item = &'a Accessory> + use<'a> {
    let inputs = *inputs;
    let all = inputs.config.accessories.values();
    all.filter(move |accessory| matches!(pinned(&inputs, accessory.service.name), Ok(None)))
}

/// The plan that starts an accessory from `image`, with the settings of today.
///
/// # Errors
///
/// A secret has no value, the release has a service of that name, or its env file names no pin that can be read.
pub fn plan(inputs: &Inputs<'_>, accessory: &Accessory, image: &PinnedImage) -> Result<Plan, Problem> {
    let service = &accessory.service;
    let name = service.name;
    if let Some(problem) = refusal(inputs, service) {
        return Err(problem);
    }
    let before = written(inputs, name)?;
    let wanted = wanted_env(inputs)?;
    let with_secrets = file_with_secrets(accessory, &wanted)?;
    let runs = seen(inputs, name).runs.map(|runs| runs.release);
    let last = before.as_ref().map(|before| before.release).max(runs);
    let own = own_files::of(inputs, &wanted.file, Mute::Refuse, |of| of == name)?;
    let lines = lines(inputs, accessory, image, last.unwrap_or_default() + 1, &own);
    let told = |error: EnvError| {
        Problem::config("accessory", format!("the lines of {name}: {error}"), "change them")
    };
    let file = with_secrets.with_managed(&lines).map_err(told)?;
    let changed = env::changed(&self::file(inputs, name), &file);
    let content = Content::Secret { bytes: file.render(), changed };
    let instance = inputs.target(InstanceName::single(name));
    let probe = inputs.trial_probe(service);
    // The check in agent.toml may be what is wrong.
    let runs = Probe { check: Check::Settle(BACK), timeout: probe.timeout };
    let fallback = match before {
        Some(_) => Fallback::Committed { probe: runs, stop: service.stop_timeout },
        None => Fallback::Stopped,
    };
    let fingerprint = release::fingerprint(inputs, &with_secrets, &lines);
    let (number, images) = (lines.release, BTreeMap::new());
    let candidate =
        Candidate { release: Release { number, image: image.clone(), images, fingerprint }, lines };
    let mut steps = prepared(inputs, service);
    let there = inputs.observed.images.iter().any(|seen| seen.repo_digests.contains(image));
    let pulls = !there || inputs.observed.store_suspect;
    if let Some(problem) = checks::disk(inputs).filter(|_| pulls) {
        return Err(problem);
    }
    steps.extend(pulls.then(|| Step::Pull { image: image.clone() }));
    // Also for one that is there: a killed run may have pulled it.
    steps.push(Step::FlushImages);
    steps.extend(inputs.make_network(&candidate.lines.app.args));
    steps.extend(release::keep_made(inputs, &wanted));
    steps.extend(own.steps(inputs, &candidate.lines));
    steps.push(Step::WriteTrialEnv { content: content.clone() });
    steps.push(Step::StartTrial {
        instance: instance.clone(),
        candidate: candidate.clone(),
        fallback,
        stop: service.stop_timeout,
        timeout: probe.timeout,
    });
    steps.push(Step::AwaitReady { instance: instance.clone(), probe });
    let commit = steps.len();
    steps.push(pin_step(inputs, name, candidate.lines, content));
    steps.extend([instance.id.trial_file(), TRIAL_ENV.into()].map(|path| Step::RemoveFile { path }));
    if !seen(inputs, name).unit.is_enabled() {
        steps.push(Step::EnableUnits { units: vec![instance.unit] });
    }
    Ok(Plan { steps, commit: Some(commit), accessory: Some(name), ..Plan::default() })
}

/// Its unit, and the way to the services that it calls.
fn prepared(inputs: &Inputs<'_>, service: &Service) -> Vec<Step> {
    let mut steps = if service.calls.is_empty() { Vec::new() } else { files::names(inputs) };
    steps.extend(files::current_unit(inputs, &inputs.config.name.template(service.name)));
    steps
}

/// Why it cannot be started now.
fn refusal(inputs: &Inputs<'_>, service: &Service) -> Option<Problem> {
    let name = service.name;
    if clashes(inputs, name) {
        let what = format!("the release that serves has a service {name}: an accessory cannot have its name");
        let fix = format!("first deploy without [services.{name}], or give the accessory another name");
        return Some(Problem::config("accessory", what, fix));
    }
    checks::volume_of(inputs, service).or_else(|| checks::engine(inputs))
}

fn pin_step(inputs: &Inputs<'_>, accessory: ServiceName, lines: ManagedLines, content: Content) -> Step {
    Step::Pin { file: path(inputs, accessory), accessory, lines, content }
}

/// The steps that led to the pins of today, as journals have them.
pub fn pin_lines(inputs: &Inputs<'_>) -> Vec<String> {
    let line = |name: &ServiceName| {
        let pin = pinned(inputs, *name).ok().flatten()?;
        Some(pin_step(inputs, *name, pin, Content::Plain(Vec::new())).to_string())
    };
    inputs.config.accessories.keys().filter_map(line).collect()
}

/// The lines that define its container.
fn lines(
    inputs: &Inputs<'_>,
    accessory: &Accessory,
    image: &PinnedImage,
    pin: u64,
    own: &OwnFiles,
) -> ManagedLines {
    let app = ServiceLines {
        image: image.clone(),
        args: units::accessory_args(
            accessory,
            inputs.engine,
            &inputs.config.name,
            own.mounts_of(accessory.service.name),
        ),
        command: units::app_command(&accessory.service),
        port: None,
        since: None,
        env: None,
    };
    ManagedLines { release: pin, app, services: Default::default(), keys: Default::default() }
}

/// The environment of the site, from which the secrets come.
fn wanted_env(inputs: &Inputs<'_>) -> Result<Wanted, Problem> {
    let given = &inputs.observed.env;
    let wanted = env::desired(inputs.config, &inputs.env_file(), &inputs.staged(), given, Mute::Refuse);
    wanted.map_err(|error| {
        let what = format!("making the environment: {}", error.told(&given.unread));
        Problem::config("env", what, "`astra-agent check` names what is missing")
    })
}

/// Its future env file, before the agent's own lines.
fn file_with_secrets(accessory: &Accessory, wanted: &Wanted) -> Result<EnvFile, Problem> {
    let mut file = EnvFile::default();
    for (name, of) in &accessory.service.secrets {
        let real = |value: &Secret| !value.reveal().is_empty() && !is_placeholder(value.reveal());
        let Some(value) = wanted.file.get(of.as_str()).filter(real) else {
            return Err(without_value(accessory.service.name, of));
        };
        file.set(name.as_str(), &value).map_err(|error| {
            let what = format!("{name} of {}: {error}", accessory.service.name);
            Problem::config("accessory", what, format!("change the value of {of}"))
        })?;
    }
    Ok(file)
}

fn without_value(accessory: ServiceName, key: &EnvKey) -> Problem {
    let what = format!("{key}, a secret of the accessory {accessory}, has no value");
    Problem::config("accessory", what, format!("`astra-agent env set {key}`, or write it under [env]"))
}

fn seen(inputs: &Inputs<'_>, name: ServiceName) -> InstanceSeen {
    inputs.observed.accessories.get(&InstanceName::single(name)).cloned().unwrap_or_default()
}

/// Whether an accessory runs its pin; `None`: the engine was not asked, or gave no answer.
pub fn runs_pin(seen: &InstanceSeen, pin: &ManagedLines) -> Option<bool> {
    let runs = seen.runs.as_ref()?;
    Some(runs.release == pin.release)
}

/// Whether an accessory runs another image than its file names under the same number: the file was edited.
fn is_edited(inputs: &Inputs<'_>, name: ServiceName, pin: &ManagedLines) -> bool {
    let runs = seen(inputs, name).runs;
    runs.is_some_and(|runs| runs.release == pin.release && runs.image != pin.app.image)
}

/// Steps that bring an accessory back to its pin; empty if it runs it.
pub fn repairs(inputs: &Inputs<'_>, name: ServiceName) -> Vec<Step> {
    let instance = inputs.target(InstanceName::single(name));
    let seen = seen(inputs, name);
    let pin = match pinned(inputs, name) {
        Ok(Some(pin)) => pin,
        // A first start was cut off before its pin.
        Ok(None) if seen.unit.is_up() && !clashes(inputs, name) => return vec![inputs.stop(instance)],
        Ok(None) | Err(_) => return Vec::new(),
    };
    let on_trial = is_on_trial(inputs, name);
    let runs = runs_pin(&seen, &pin);
    // systemd is retrying the start, of the pin as far as it is known.
    let retried = seen.unit.active == ActiveState::Activating && !on_trial && runs != Some(false);
    let silent = runs.is_none() && inputs.observed.engine.is_none() && !on_trial;
    let keeps = retried || seen.unit.is_active() && (silent || runs == Some(true));
    // Its file of a backup without those that it names: what serves would not come back.
    let stays = seen.unit.is_active() && !on_trial && own_files::lacks(inputs, &pin, ServiceName::app());
    let mut steps = own_files::repairs_of(inputs, std::slice::from_ref(&pin));
    steps.extend(inputs.make_network(&pin.app.args));
    if !keeps && !stays {
        // Its table was out of the config, and its unit went with it.
        let template = inputs.config.name.template(name);
        if !inputs.observed.files.contains_key(&unit_file(&template)) {
            steps.extend(files::current_unit(inputs, &template));
        }
        steps.extend([inputs.restore(instance.clone()), inputs.await_ready(instance.clone())]);
    }
    if !seen.unit.is_enabled() {
        steps.push(Step::EnableUnits { units: vec![instance.unit] });
    }
    steps
}

/// Changes that wait for a verb: one line for each.
pub fn pending(inputs: &Inputs<'_>) -> Vec<String> {
    inputs.config.accessories.values().filter_map(|accessory| pending_of(inputs, accessory)).collect()
}

/// Whether a change of this accessory waits for a verb.
pub fn is_pending(inputs: &Inputs<'_>, name: ServiceName) -> bool {
    inputs.config.accessories.get(&name).is_some_and(|accessory| pending_of(inputs, accessory).is_some())
}

fn pending_of(inputs: &Inputs<'_>, accessory: &Accessory) -> Option<String> {
    let name = accessory.service.name;
    let pin = match pinned(inputs, name) {
        Err(problem) => return Some(problem.what),
        Ok(None) => return Some(format!("deploy would start the accessory {name}")),
        Ok(Some(pin)) => pin,
    };
    let restart = format!("`astra-agent accessory restart {name}` would change its");
    if is_edited(inputs, name, &pin) {
        return Some(format!("{restart} image: {} was edited by hand", path(inputs, name).display()));
    }
    let wanted = wanted_env(inputs).ok();
    let env = wanted.as_ref().map_or_else(|| inputs.env_file(), |wanted| wanted.file.clone());
    let own = match own_files::of(inputs, &env, Mute::Refuse, |of| of == name) {
        Ok(own) => own,
        // A template may need a variable that has no value yet.
        Err(_) if wanted.as_ref().is_some_and(|wanted| !wanted.without.is_empty()) => return None,
        Err(problem) => {
            let why = problem.what;
            return Some(format!("`astra-agent accessory restart {name}` would be refused: {why}"));
        }
    };
    if lines(inputs, accessory, &pin.app.image, pin.release, &own) != pin {
        return Some(format!("{restart} arguments, command or files"));
    }
    let future = file_with_secrets(accessory, &wanted?).ok()?.with_managed(&pin).ok()?;
    (!env::changed(&file(inputs, name), &future).is_empty()).then(|| format!("{restart} secrets"))
}
