//! The data of `status`, made from one snapshot of the host, its history and the lock.

use std::collections::BTreeMap;

use serde::Serialize;

use super::under_way::{UnderWay, under_way};
use crate::cli::out;
use crate::cli::session::Session;
use crate::config::{Config, Tls};
use crate::converge::{Reconciler, Snapshot};
use crate::host::lock::Held as Holder;
use crate::host::timer::JobSeen;
use crate::model::entry::Verb;
use crate::model::history::{History, RunRecord};
use crate::model::image::PinnedImage;
use crate::model::instance::{InstanceName, ServiceName};
use crate::model::observed::InstanceSeen;
use crate::model::outcome::Outcome;
use crate::model::problem::Cause;
use crate::model::release::Release;
use crate::model::unit::{ActiveState, ServiceResult};
use crate::plan::{Inputs, accessories, files};

/// The JSON of `status --json`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Status {
    pub release: Option<u64>,
    pub image: Option<String>,
    /// The images of services that have their own.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub images: BTreeMap<ServiceName, PinnedImage>,
    /// When this release was committed.
    pub live_since: Option<String>,
    pub rollback_to: Option<String>,
    pub rollback_release: Option<u64>,
    /// The images in that release of services that have their own.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub rollback_images: BTreeMap<ServiceName, PinnedImage>,
    /// The digests of that release, for the text.
    #[serde(skip)]
    pub rollback_digests: String,
    /// The run since which that release is held; a plain `rollback` then refuses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollback_held: Option<u64>,
    pub pinned: bool,
    /// Why agent.toml is invalid. Then the last valid one says what is wanted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub config_errors: Vec<String>,
    /// Why the committed release cannot be read from astra.env, and the fix.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost_release: Option<String>,
    pub urls: Vec<String>,
    /// podman or docker, and the reason.
    pub engine: String,
    pub instances: Vec<Instance>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub accessories: Vec<AccessorySeen>,
    /// Services without an instance: agent.toml or `pause` says so.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub paused: Vec<String>,
    pub caddy: Option<String>,
    pub held: Vec<Held>,
    /// The steps of `reconcile`; empty during a run, whose trial is not drift.
    pub drift: Vec<String>,
    /// Changes that wait for `deploy`; empty during a run.
    pub pending: Vec<String>,
    pub cron_jobs: Vec<Job>,
    pub under_way: Option<UnderWay>,
    /// A run without an end whose process is gone.
    pub cut_off_run: Option<u64>,
    pub journal_damaged: Option<String>,
    pub last_run: Option<Run>,
    /// The last run that deployed or rolled back.
    pub last_deploy: Option<Run>,
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct Instance {
    /// `app`, or the name of another service.
    pub service: String,
    /// Its number within the service.
    pub instance: u16,
    pub unit: String,
    /// `None`: a worker.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    pub state: String,
    pub release: Option<u64>,
    pub ready: bool,
    pub drained: bool,
    /// Caddy sends it no requests: a move to this port was cut off.
    pub unrouted: bool,
    pub restarts: u32,
    /// agent.toml asks for it.
    #[serde(skip)]
    pub wanted: bool,
    /// It runs what the committed release says.
    #[serde(skip)]
    pub current: bool,
}

impl AccessorySeen {
    /// It runs, or no deploy has started it yet.
    fn is_well(&self) -> bool {
        self.up || self.image.is_none() && self.unreadable.is_none()
    }
}

/// A service that belongs to no release.
#[derive(Clone, Debug, Default, Serialize)]
pub struct AccessorySeen {
    pub name: String,
    pub unit: String,
    /// `None`: no deploy has started it yet, or it cannot be read.
    pub image: Option<String>,
    /// Why its image cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unreadable: Option<String>,
    pub state: String,
    /// It runs from that image.
    pub up: bool,
    pub restarts: u32,
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct Held {
    pub release: u64,
    pub digest: String,
    /// The images of services that have their own.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub images: BTreeMap<ServiceName, PinnedImage>,
    /// The digests of all images, for the text.
    #[serde(skip)]
    pub digests: String,
    /// The image itself has served; only the environment it was tried with is held.
    pub only_environment: bool,
    pub run: u64,
    pub reason: String,
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct Job {
    pub name: String,
    pub running: bool,
    pub last: Option<String>,
    /// Result of the last run: `success`, `exit-code`, `timeout`, …
    pub result: Option<ServiceResult>,
    pub next: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Run {
    pub run: u64,
    pub verb: Verb,
    pub actor: String,
    pub at: String,
    pub release: Option<u64>,
    pub outcome: Option<Outcome>,
    pub reason: Option<String>,
    pub seconds: Option<f64>,
}

impl Instance {
    /// Ready, and Caddy sends it requests.
    pub(super) fn serves(&self) -> bool {
        self.ready && !self.drained && !self.unrouted
    }
}

impl Job {
    pub fn failed(&self) -> bool {
        self.result.as_ref().is_some_and(|result| *result != ServiceResult::Success)
    }
}

impl Status {
    /// 0: every instance is ready on the committed release, Caddy answers and the journal can be read; else
    /// 4. 2: that holds, and agent.toml is invalid. During a run, which drains one instance at a time, one serving
    /// instance is enough.
    pub fn exit_code(&self) -> u8 {
        let mut wanted = self.instances.iter().filter(|i| i.wanted).peekable();
        let ready = match self.under_way {
            Some(_) => {
                !self.paused.is_empty() || self.instances.iter().any(|i| i.port.is_some() && i.serves())
            }
            None => {
                let any = wanted.peek().is_some() || !self.paused.is_empty();
                any && wanted.all(|i| i.serves() && i.current)
            }
        };
        let up = self.under_way.is_some() || self.accessories.iter().all(AccessorySeen::is_well);
        let well = ready && up && self.caddy.is_some() && self.journal_damaged.is_none();
        match well {
            false => Outcome::Incomplete.exit_code(),
            true if self.config_errors.is_empty() => 0,
            true => Cause::Config.exit_code(),
        }
    }
}

/// The cron jobs as systemd reports them. Jobs that cannot be read are left out; `cron list` gives the
/// reason.
pub async fn jobs(session: &Session) -> Vec<Job> {
    let mut jobs = Vec::new();
    for job in &session.config.cron_jobs {
        let Ok(JobSeen { running, last, result, next, .. }) = session.host.systemd.job_seen(&job.name).await
        else {
            continue;
        };
        let (last, next) = (last.map(out::time), next.map(out::time));
        jobs.push(Job { name: job.name.to_string(), running, last, result, next });
    }
    jobs
}

pub fn status(
    session: &Session,
    reconciler: &Reconciler<'_>,
    snapshot: &Snapshot,
    holder: Option<Holder>,
    cron_jobs: Vec<Job>,
) -> Status {
    let inputs = reconciler.inputs(snapshot);
    let committed = inputs.committed();
    let history = &snapshot.history;
    let open = history.open_runs().last();
    let under_way = holder.map(|holder| under_way(&holder, open));
    let quiet = under_way.is_none();
    let drift = || {
        let accessories = reconciler.accessory_repairs(snapshot).into_iter();
        let steps = accessories.chain(reconciler.keep_plan(snapshot, Verb::Reconcile).steps);
        steps.map(|step| step.to_string()).collect()
    };
    let target = history.rollback_target();
    // A run under way has a row of its own.
    let ended = || history.runs.iter().rev().filter(|r| quiet || r.closed().is_some());
    let deploys = |r: &&RunRecord| r.opened().is_some_and(|o| o.new.is_some() && o.verb.deploys());
    Status {
        engine: session.engine.to_string(),
        release: committed.as_ref().map(|c| c.release),
        image: committed.as_ref().map(|c| c.app.image.to_string()),
        images: committed.as_ref().map(|c| reconciler.config.own_images(c)).unwrap_or_default(),
        live_since: committed.as_ref().and_then(|c| live_since(history, c.release)).map(out::time),
        rollback_to: target.map(|r| r.image.to_string()),
        rollback_release: target.map(|r| r.number),
        rollback_images: target.map(|r| r.images.clone()).unwrap_or_default(),
        rollback_digests: target.map(Release::short).unwrap_or_default(),
        rollback_held: history.way_back_held().map(|(held, _)| held.run),
        pinned: inputs.is_chosen(),
        config_errors: Vec::new(),
        lost_release: lost_release(&inputs),
        urls: urls(reconciler.config),
        instances: instances(reconciler, snapshot),
        accessories: accessories(reconciler, snapshot),
        paused: reconciler.config.paused().map(|service| service.name.to_string()).collect(),
        caddy: snapshot
            .observed
            .caddy
            .as_ref()
            .map(|c| c.version.map_or("no version".to_owned(), |(major, minor)| format!("{major}.{minor}"))),
        held: history.held.iter().map(held).collect(),
        drift: if quiet { drift() } else { Vec::new() },
        pending: if quiet { crate::plan::release::pending(&inputs) } else { Vec::new() },
        cron_jobs,
        cut_off_run: open.filter(|_| quiet).map(|r| r.id),
        under_way,
        journal_damaged: history.damaged.clone(),
        last_run: ended().next().and_then(run),
        last_deploy: ended().find(deploys).and_then(run),
    }
}

/// Why astra.env names no release, although one was committed.
fn lost_release(inputs: &Inputs<'_>) -> Option<String> {
    match inputs.env_file().managed() {
        Ok(None) if inputs.is_nameless() => Some(format!("astra.env names none: {}", inputs.name_again())),
        Ok(_) => None,
        Err(error) => {
            Some(format!("astra.env cannot be read: {error}; `astra-agent doctor` says what to do"))
        }
    }
}

/// When the release was committed last, in milliseconds since 1970.
fn live_since(history: &History, release: u64) -> Option<u64> {
    let mut commits = history.runs.iter().rev().filter(|r| r.committed().is_some());
    let newest = commits.next().filter(|r| r.committed().is_some_and(|c| c.number == release))?;
    newest
        .entries
        .iter()
        .find(|s| matches!(s.entry, crate::model::entry::Entry::Committed { .. }))
        .map(|s| s.at)
}

fn urls(config: &Config) -> Vec<String> {
    let scheme = if config.caddy.tls == Tls::Off { "http" } else { "https" };
    config.caddy.hosts.iter().map(|host| format!("{scheme}://{host}")).collect()
}

fn instances(reconciler: &Reconciler<'_>, snapshot: &Snapshot) -> Vec<Instance> {
    let inputs = reconciler.inputs(snapshot);
    let observed = &snapshot.observed;
    let committed = inputs.committed();
    // A service that waits for its first deploy has no instances yet.
    let waits = |id: &InstanceName| inputs.waits(id.service);
    let wanted = |id: &InstanceName| reconciler.config.instances().any(|wanted| wanted == *id) && !waits(id);
    let there = observed
        .instances
        .iter()
        .filter(|(id, seen)| wanted(id) || seen.unit.active != ActiveState::Inactive);
    let instance = |(id, seen): (&InstanceName, &InstanceSeen)| {
        let runs = seen.runs.as_ref().map(|r| r.release);
        let since = committed.as_ref().and_then(|lines| lines.since(id.service));
        let current = runs.is_some() && runs == since;
        Instance {
            service: id.service.to_string(),
            instance: id.number.get(),
            unit: reconciler.config.name.unit(*id),
            port: inputs.port(*id),
            state: format!("{} ({})", seen.unit.active, seen.unit.sub),
            // A container that several releases have in common runs the newest.
            release: if current { committed.as_ref().map(|lines| lines.release) } else { runs },
            ready: seen.ready,
            drained: observed.markers.contains(id),
            unrouted: files::is_unrouted(&inputs, *id),
            restarts: seen.unit.restarts,
            wanted: wanted(id),
            current,
        }
    };
    there.map(instance).collect()
}

fn accessories(reconciler: &Reconciler<'_>, snapshot: &Snapshot) -> Vec<AccessorySeen> {
    let inputs = reconciler.inputs(snapshot);
    let one = |name: &ServiceName| {
        let pinned = accessories::pinned(&inputs, *name);
        let unreadable = pinned.as_ref().err().map(|problem| problem.what.clone());
        let pin = pinned.ok().flatten();
        let id = InstanceName::single(*name);
        let seen = snapshot.observed.accessories.get(&id).cloned().unwrap_or_default();
        let runs = pin.as_ref().and_then(|pin| accessories::runs_pin(&seen, pin));
        AccessorySeen {
            name: name.to_string(),
            unit: reconciler.config.name.unit(id),
            unreadable,
            image: pin.map(|pin| pin.app.image.to_string()),
            state: format!("{} ({})", seen.unit.active, seen.unit.sub),
            up: seen.unit.is_active() && runs != Some(false),
            restarts: seen.unit.restarts,
        }
    };
    reconciler.config.accessories.keys().map(one).collect()
}

fn held(held: &crate::model::history::Held) -> Held {
    Held {
        release: held.release.number,
        digest: held.release.image.digest.to_string(),
        images: held.release.images.clone(),
        digests: held.short(),
        only_environment: held.why == crate::model::history::HeldFor::Environment,
        run: held.run,
        reason: out::first_line(&held.reason).to_owned(),
    }
}

fn run(record: &RunRecord) -> Option<Run> {
    let opened = record.opened()?;
    let closed = record.closed();
    Some(Run {
        run: record.id,
        verb: opened.verb,
        actor: opened.actor.to_owned(),
        at: out::time(opened.at),
        release: opened.new.map(|r| r.number),
        outcome: closed.map(|(outcome, ..)| outcome),
        reason: closed.and_then(|(_, reason, _)| reason.map(out::first_line).map(str::to_owned)),
        seconds: closed
            .map(|(.., at)| std::time::Duration::from_millis(at.saturating_sub(opened.at)).as_secs_f64()),
    })
}
