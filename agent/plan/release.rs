//! The decision to deploy the images of a release, in this order: held?, preflight, pull, migrate, roll, commit.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::{Config, Service, Strategy};
use crate::model::envfile::{EnvFile, ManagedLines};
use crate::model::history::Held;
use crate::model::image::PinnedImage;
use crate::model::instance::ServiceName;
use crate::model::plan::Plan;
use crate::model::problem::{Cause, Problem};
use crate::model::release::{Candidate, Release};
use crate::model::staged::Staged;

use super::env::{Mute, Wanted};
use super::instances::RepairScope;
use super::migrations::MigratePolicy;
use super::preflight;
use super::{Inputs, env, instances, own_files};

mod candidate;
mod only;
mod pending;
mod refresh;
mod roll;

pub(super) use candidate::fingerprint;
use candidate::{Trial, release_of, trial};

pub use pending::pending;
pub(super) use roll::keep_made;

/// The request of the command.
#[derive(Clone, Debug)]
pub struct Request {
    /// The image of the app, and of all services without one of their own.
    pub image: PinnedImage,
    /// The images of services that have their own. A service without one here keeps its own, or stays out.
    pub images: BTreeMap<ServiceName, PinnedImage>,
    /// The services that it may change.
    pub only: Only,
    /// When the migration runs.
    pub migrate: MigratePolicy,
    /// Try a held release again.
    pub force: bool,
    /// Requested by the timer: deploys only another digest, and never a held one.
    pub automatic: bool,
    /// Requested by the timer: deploys also new values of the sources outside the host.
    pub refresh: bool,
    /// For a rollback: preflight warns instead of refusing.
    pub lenient: bool,
    /// The committed release, unchanged, in new containers: no migration, no other environment.
    pub restart: bool,
    /// Soak the release before it is committed, as the config says.
    pub soak: bool,
}

/// The services that a command names; none: all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Only(pub BTreeSet<ServiceName>);

impl Only {
    /// Whether `service` is one of them. The app stands for all services of its image, which change together.
    pub fn includes(&self, service: &Service) -> bool {
        let by_app = service.image.is_none() && self.0.contains(&ServiceName::app());
        self.0.is_empty() || self.0.contains(&service.name) || by_app
    }
}

impl Request {
    /// The image of `service`; `None`: the request has none for it.
    fn image_of(&self, service: &Service) -> Option<&PinnedImage> {
        match service.image {
            None => Some(&self.image),
            Some(_) => self.images.get(&service.name),
        }
    }

    /// Whether the services of `lines` run these images already.
    fn serves(&self, config: &Config, lines: &ManagedLines) -> bool {
        let same = |service: &Service| {
            let wanted = self.image_of(service);
            let runs = lines.of(service.name).map(|of| &of.image.digest);
            wanted.zip(runs).is_none_or(|(wanted, runs)| wanted.digest == *runs)
        };
        config.services().all(same)
    }
}

/// Why no plan was made.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The command names some services, and more than those would change.
    #[error("{0}")]
    Only(Problem),
    /// The release is held, and `--force` was not given.
    #[error("{problem}")]
    Held {
        /// The number of the release.
        number: u64,
        /// The run that held it, and how it is tried again.
        problem: Problem,
    },
    /// The problems that preflight found; never empty.
    #[error("{}", list(.0))]
    Preflight(Vec<Problem>),
    /// Why there is no desired env file, in one line.
    #[error("making the environment: {0}")]
    Env(String),
}

impl Refusal {
    /// The config or the env file, if one of them has to change.
    pub fn cause(&self) -> Cause {
        match self {
            Self::Preflight(problems) if problems.iter().any(|p| p.cause == Cause::Config) => Cause::Config,
            Self::Env(_) => Cause::Config,
            Self::Preflight(_) | Self::Held { .. } | Self::Only(_) => Cause::Host,
        }
    }

    /// A refusal because of this hold.
    pub fn held(held: &Held) -> Self {
        let (number, digests) = (held.release.number, held.short());
        let reason = held.reason.lines().next().unwrap_or_default();
        let what = format!("release {number} ({digests}) is held since run {}: {reason}", held.run);
        let fix = "`--force` tries it again; `astra-agent deploy --keep-image` brings a changed environment or changed \
                   arguments to the images that serve";
        Self::Held { number, problem: Problem::host("held", what, fix) }
    }

    /// The problem to fix first, if it is one that has a fix.
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            Self::Held { problem, .. } | Self::Only(problem) => Some(problem),
            Self::Preflight(problems) => problems.first(),
            Self::Env(_) => None,
        }
    }
}

fn list(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// Whether the timer asks for images that serve already.
fn is_served(inputs: &Inputs<'_>, request: &Request) -> bool {
    request.automatic
        && !request.refresh
        && inputs.committed().is_some_and(|c| request.serves(inputs.config, &c))
}

/// Whether services outside the host are to be asked for their values before the plan. A rollback and a deploy of some
/// services keep the committed ones, and so do new containers of the committed release.
pub fn asks_sources(inputs: &Inputs<'_>, request: &Request) -> bool {
    let keeps = request.lenient || request.restart || !request.only.0.is_empty();
    !keeps && !is_served(inputs, request)
}

/// Values that are not as `[env]` would have them.
fn source_warnings(inputs: &Inputs<'_>, current: &EnvFile, wanted: &Wanted) -> Vec<String> {
    let given = &inputs.observed.env;
    let kept = wanted.kept.iter().map(|key| {
        let why = given.unread.get(key).map_or("no value", String::as_str);
        format!("{key} keeps its committed value, its source gave none: {why}")
    });
    let without = wanted.without.iter().map(|key| format!("{key} gets its value with the next `deploy`"));
    let changed = env::changed(current, &wanted.file);
    let lacks = given.lacks.iter().filter(|(key, _)| changed.contains(key) && !wanted.kept.contains(key));
    kept.chain(without).chain(lacks.map(|(key, why)| format!("{key}: {why}"))).collect()
}

/// The plan that deploys the images of `request`; empty if they are serving already.
///
/// # Errors
///
/// The release is held, preflight found a problem, there is no desired env file, or services change that the request
/// does not name.
pub fn plan(inputs: &Inputs<'_>, request: &Request) -> Result<Plan, Refusal> {
    let committed = inputs.committed();
    if is_served(inputs, request) {
        // A changed environment waits for an operator, and a restart does not help an instance that is not
        // ready.
        return Ok(Plan::default());
    }
    let current = inputs.env_file();
    if request.restart {
        return restart(inputs, request, &current);
    }
    let staged = staged(inputs, request, &current);
    let mute = if request.lenient { Mute::Keep } else { Mute::Refuse };
    let wanted = env::desired(inputs.config, &current, &staged, &inputs.observed.env, mute)
        .map_err(|e| Refusal::Env(e.told(&inputs.observed.env.unread)))?;
    if request.refresh
        && let Some(nothing) = refresh::nothing(inputs, request, &current, &wanted)
    {
        return Ok(nothing);
    }
    only::check(inputs, request, committed.as_ref(), &current, &wanted.file)?;
    let trial = trial(inputs, request, &current, &wanted.file)?;
    let lines = &trial.candidate.lines;
    let problems = preflight::problems(inputs, &wanted.file, lines);
    // A config that requires something missing is an error, even if its release is serving.
    let unmet = !request.lenient && problems.iter().any(|p| p.cause == Cause::Config);
    // A requested migration is a change.
    let migrates = request.migrate == MigratePolicy::Always
        && inputs.config.migrations().any(|(of, _)| request.only.includes(of));
    // A manual line is in any instance that was restarted since.
    let edited = !env::changed(&current, &wanted.file).is_empty();
    let same = committed.filter(|c| c.runs_as(lines) && !edited);
    let of_sources = source_warnings(inputs, &current, &wanted);
    if let Some(committed) = same.filter(|_| !unmet && !migrates && is_known(inputs)) {
        let kept = keep(inputs, &current, &wanted, &committed, trial.candidate);
        return Ok(Plan { warnings: of_sources, ..kept });
    }
    refuse_held(inputs, request, &trial.candidate.release)?;
    let mut warnings: Vec<String> = inputs.config.notices.iter().map(ToString::to_string).collect();
    if !problems.is_empty() {
        if !request.lenient {
            return Err(Refusal::Preflight(problems));
        }
        warnings.extend(problems.into_iter().map(|p| p.what));
    }
    warnings.extend(of_sources);
    warnings.extend(trial.own.kept.iter().cloned());
    let alone = |of: &Service| of.web().is_some() && of.strategy == Strategy::Rolling && of.instances == 1;
    for of in inputs.config.services().filter(|of| alone(of) && trial.touched.contains(&of.name)) {
        let down = if of.name.is_app() { "the site".to_owned() } else { of.name.to_string() };
        warnings.push(format!("rolling with one instance: {down} is down while it restarts"));
    }
    for of in inputs.config.paused().filter(|of| trial.touched.contains(&of.name)) {
        warnings.push(format!("{} is paused: the release is committed without a trial of it", of.name));
    }
    Ok(roll::plan(inputs, request, &current, &wanted, trial, warnings))
}

/// The staged changes. A rollback ignores them, since they may be its reason; but a value generated for a
/// variable without one is kept as its value from then on.
fn staged(inputs: &Inputs<'_>, request: &Request, current: &EnvFile) -> Staged {
    let all = inputs.staged();
    if !request.lenient {
        return all;
    }
    let mut made = Staged::default();
    for (key, _) in inputs.config.env.iter().filter(|(_, source)| source.is_generated()) {
        let value = all.set.get(key.as_str()).filter(|_| current.get(key.as_str()).is_none());
        if let Some(value) = value {
            // Cannot fail: it was read from a file of the same grammar.
            let _ = made.set.set(key.as_str(), &value);
        }
    }
    made
}

/// Whether it is known what runs in every wanted instance.
fn is_known(inputs: &Inputs<'_>) -> bool {
    let observed = inputs.observed;
    let runs = |id| observed.instances.get(&id).is_some_and(|seen| seen.runs.is_some());
    let mut known = inputs.config.instances().filter(|id| !inputs.waits(id.service));
    observed.engine.is_some() || known.all(runs)
}

/// The release is committed: starts it in instances that do not run it, and touches no other. Readiness is
/// ignored: restarting an instance with the right release does not fix it.
fn keep(
    inputs: &Inputs<'_>,
    current: &EnvFile,
    wanted: &Wanted,
    committed: &ManagedLines,
    candidate: Candidate,
) -> Plan {
    let steps = instances::steps(inputs, RepairScope::Exactly);
    if steps.is_empty() && *committed != candidate.lines {
        // The container is the same: only the list of keys from [env] has to be written.
        let steps = vec![roll::commit_step(inputs, current, &wanted.file, &candidate)];
        return Plan { steps, commit: Some(0), candidate: Some(candidate), ..Plan::default() };
    }
    Plan { candidate: Some(candidate), ..Plan::forward(steps, Vec::new()) }
}

/// The plan that replaces the containers of the committed release: in the order of a deploy, with the same
/// undo.
fn restart(inputs: &Inputs<'_>, request: &Request, current: &EnvFile) -> Result<Plan, Refusal> {
    let Some(lines) = inputs.committed() else { return Ok(Plan::default()) };
    let mut problems = preflight::problems(inputs, current, &lines);
    let included = |name: &ServiceName| {
        inputs.config.service(*name).is_none_or(|service| request.only.includes(service))
    };
    let lacking = lines.all().any(|(name, _)| included(&name) && own_files::lacks(inputs, &lines, name));
    // A container that serves would not come back.
    problems.extend(own_files::lost(inputs).into_iter().filter(|_| lacking));
    if !problems.is_empty() {
        return Err(Refusal::Preflight(problems));
    }
    let recorded = inputs.history.current().filter(|r| r.number == lines.release && r.is_of(&lines));
    let release = recorded.cloned().unwrap_or_else(|| release_of(inputs, current, &lines));
    let wanted =
        Wanted { file: current.clone(), made: BTreeMap::new(), kept: Vec::new(), without: Vec::new() };
    let touched = lines.all().map(|(name, _)| name).filter(included).collect();
    let own = own_files::of(inputs, current, Mute::Keep, |name| inputs.config.is_of_release(name))
        .unwrap_or_default();
    let trial = Trial { candidate: Candidate { release, lines }, touched, own };
    Ok(roll::plan(inputs, request, current, &wanted, trial, Vec::new()))
}

fn refuse_held(inputs: &Inputs<'_>, request: &Request, release: &Release) -> Result<(), Refusal> {
    // In a refresh the images serve: only this environment of theirs can be held.
    let held = match request.automatic && !request.refresh {
        true => inputs.history.held_for_timer(release),
        false => inputs.history.held_for_person(release),
    };
    match held.filter(|_| !request.force) {
        Some(held) => Err(Refusal::held(held)),
        None => Ok(()),
    }
}
