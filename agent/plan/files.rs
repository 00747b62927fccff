//! The desired files of the host, and the steps to them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::model::fingerprint::sha256;
use crate::model::instance::{InstanceName, ServiceName};
use crate::model::name::{
    CADDY_ENV, CADDY_SOCKET_DIR, CADDY_UNIT, CADDYFILE, CRON_PREFIX, DRAIN_DIR, NAMES_UNIT, RECOVER_UNIT,
    UNIT_DIR, unit_file,
};
use crate::model::observed::{InstanceSeen, service_section};
use crate::model::step::{Content, Step};
use crate::model::unit::{ActiveState, UnitSeen};

use super::calls;
use super::{Inputs, accessories, caddy, caddy_trial, units};
use crate::config::{OwnImage, Service};

mod proxy;

pub(super) use proxy::names;
use proxy::{caddyfile, caddyfile_steps, missing_addresses};
pub use proxy::{caddyfile_step, new_routes};

/// Part of the first line of every file that the agent writes: without it a file counts as hand-made.
pub const HEADER: &str = "astra-agent";
/// Permission bits of all desired files.
pub const MODE: u32 = 0o644;

/// Desired files: path and content. All are world-readable; secrets are only in env files.
pub type Desired = BTreeMap<PathBuf, Vec<u8>>;

/// The port of each instance of a web service.
pub type Listens = BTreeMap<InstanceName, u16>;

/// Every file that the config determines. The instances' ports stay as they are: moves.rs changes them.
pub fn desired(inputs: &Inputs<'_>) -> Desired {
    let called = calls::called(inputs);
    let port = |id| inputs.port(id);
    let mut files: Desired = units::render(inputs.config, inputs.engine, inputs.agent, &called, port)
        .into_iter()
        .map(|(path, text)| (path, text.into_bytes()))
        .collect();
    for name in inputs.config.accessories.keys().filter(|name| accessories::clashes(inputs, **name)) {
        // The committed release still needs the template of its service.
        let path = unit_file(&inputs.config.name.template(*name));
        files.extend(inputs.observed.files.get(&path).map(|seen| (path, seen.bytes.clone())));
    }
    files.insert(CADDYFILE.into(), caddyfile(inputs, &listens(inputs), &called));
    let caddy_env = seen_text(inputs, CADDY_ENV);
    match (caddy_env, inputs.caddy_image) {
        // Only an operator changes Caddy's image.
        (Some(text), _) => files.insert(CADDY_ENV.into(), text.into_bytes()),
        (None, Some(image)) => files.insert(CADDY_ENV.into(), caddy::env(image).into_bytes()),
        (None, None) => None,
    };
    files
}

/// Steps to the desired files, and the reloads that they require. Empty if nothing differs.
pub fn steps(inputs: &Inputs<'_>) -> Vec<Step> {
    let desired = desired(inputs);
    let observed = inputs.observed;
    let mut steps = Vec::new();
    for (dir, mode) in [(DRAIN_DIR, 0o755), (CADDY_SOCKET_DIR, 0o700)] {
        if !observed.dirs.contains(Path::new(dir)) {
            steps.push(Step::MakeDir { path: dir.into(), mode });
        }
    }
    // First: if Caddy refuses it, nothing was changed.
    steps.extend(caddyfile_steps(inputs, &listens(inputs)));
    let stale = stale(inputs, &desired);
    steps.extend(stop_stale(inputs, &stale));
    let written: BTreeSet<PathBuf> = steps
        .iter()
        .filter_map(|step| match step {
            Step::WriteFile { path, .. } => Some(path.clone()),
            _ => None,
        })
        .collect();
    let mut changed = BTreeSet::new();
    for (path, bytes) in &desired {
        if path == Path::new(CADDYFILE) || written.contains(path) || is_as(inputs, path, bytes) {
            continue;
        }
        steps.extend(backup_file(inputs, path));
        changed.insert(path.clone());
        let content = Content::Plain(bytes.clone());
        steps.push(Step::WriteFile { path: path.clone(), mode: MODE, content });
    }
    let unit_changed = |path: &Path| path.starts_with(UNIT_DIR);
    let reload = changed.iter().chain(&stale).any(|p| unit_changed(p))
        || observed.units.values().any(|u| u.need_reload);
    steps.extend(stale.into_iter().map(|path| Step::RemoveFile { path }));
    if reload {
        steps.push(Step::DaemonReload);
    }
    let timers = changed.iter().filter_map(|p| p.file_name()?.to_str()).filter(|n| n.ends_with(".timer"));
    let running = |unit: &str| observed.units.get(unit).is_some_and(UnitSeen::is_active);
    steps.extend(timers.filter(|t| running(t)).map(|t| Step::RestartUnit { unit: t.to_owned() }));
    steps
}

/// After a cut-off move: makes the drop-ins and the Caddyfile match the instances' ports again.
pub fn routes(inputs: &Inputs<'_>) -> Vec<Step> {
    let mut steps = Vec::new();
    if inputs.committed().is_none() {
        return steps;
    }
    let routed = inputs.config.services().filter(|service| inputs.is_routed(service));
    let instances: Vec<_> = routed.flat_map(Service::instances).collect();
    for (id, port) in instances.iter().filter_map(|id| Some((*id, inputs.port(*id)?))) {
        let (path, text) = (units::drop_in(inputs.config, id), units::instance(id, port));
        if !is_as(inputs, &path, text.as_bytes()) {
            steps.push(Step::WriteFile { path, mode: MODE, content: Content::Plain(text.into_bytes()) });
        }
    }
    if !steps.is_empty() {
        steps.push(Step::DaemonReload);
    }
    let written = seen_text(inputs, CADDYFILE).unwrap_or_default();
    let known = |id| routes_to(inputs, &written, id);
    let loaded = inputs.observed.caddy.as_ref().and_then(|c| c.runs.as_ref());
    let cut_off = loaded.is_some_and(|runs| runs.caddyfile.as_deref() != Some(&sha256(written.as_bytes())));
    if cut_off || !instances.into_iter().all(known) {
        steps.extend(caddyfile_steps(inputs, &listens(inputs)));
    } else {
        steps.extend(missing_addresses(inputs));
    }
    steps
}

/// Whether `caddyfile` sends requests to the port on which the instance listens.
fn routes_to(inputs: &Inputs<'_>, caddyfile: &str, id: InstanceName) -> bool {
    let Some(upstream) = inputs.target(id).upstream.map(|at| at.to_string()) else { return true };
    caddyfile.split_whitespace().any(|word| word == upstream)
}

/// Whether Caddy sends no requests to the port on which the instance listens: a move was cut off after the
/// instance's restart. `false` if it is unknown which Caddyfile Caddy runs.
pub fn is_unrouted(inputs: &Inputs<'_>, id: InstanceName) -> bool {
    let routed = inputs.config.service(id.service).is_some_and(|of| inputs.is_routed(of));
    let Some(written) = seen_text(inputs, CADDYFILE).filter(|_| routed) else { return false };
    let loaded =
        inputs.observed.caddy.as_ref().and_then(|c| c.runs.as_ref()).and_then(|r| r.caddyfile.clone());
    loaded == Some(sha256(written.as_bytes())) && !routes_to(inputs, &written, id)
}

/// After the surplus instances were stopped: removes their drop-ins, and their routes in Caddy.
pub fn remove_surplus(inputs: &Inputs<'_>) -> Vec<Step> {
    let lasting = lasting(inputs);
    if lasting == listens(inputs) {
        return Vec::new();
    }
    let gone = listens(inputs).into_keys().filter(|id| !lasting.contains_key(id));
    let drop_ins = gone.map(|id| units::drop_in(inputs.config, id));
    let written = drop_ins.filter(|path| inputs.observed.files.contains_key(path));
    let mut steps: Vec<Step> = written.map(|path| Step::RemoveFile { path }).collect();
    steps.push(Step::DaemonReload);
    steps.push(caddyfile_step(inputs, &lasting));
    steps
}

/// The configured Caddy image, if it differs from caddy.env: only a pinned one can be compared without
/// resolving it.
fn other_image(inputs: &Inputs<'_>) -> Option<String> {
    let OwnImage::Pinned(wanted) = &inputs.config.caddy.image else { return None };
    let named = caddy::image(&seen_text(inputs, CADDY_ENV)?)?;
    (named != *wanted).then(|| format!("`astra-agent caddy-upgrade` would run Caddy from {wanted}"))
}

/// Changes on disk that wait for a restart of Caddy, which only an operator starts: it takes a second without
/// answers.
pub fn pending(inputs: &Inputs<'_>) -> Vec<String> {
    let mut pending: Vec<String> = other_image(inputs).into_iter().collect();
    let Some(runs) = inputs.observed.caddy.as_ref().and_then(|c| c.runs.as_ref()) else { return pending };
    let desired = desired(inputs);
    let text =
        |path: &Path| desired.get(path).map(|bytes| String::from_utf8_lossy(bytes)).unwrap_or_default();
    let unit = service_section(&text(&unit_file(CADDY_UNIT))) != runs.service;
    let env = text(Path::new(CADDY_ENV)) != runs.env;
    let changed = [(unit, CADDY_UNIT), (env, "caddy.env")].into_iter().filter(|(changed, _)| *changed);
    let what: Vec<_> = changed.map(|(_, name)| name).collect();
    if !what.is_empty() {
        let what = what.join(" and ");
        pending.push(format!("{what} changed: takes effect at `systemctl restart astra-caddy`"));
    }
    pending
}

/// The ports of all instances that Caddy must know: the wanted ones, the spares, and surplus ones that still
/// run.
fn listens(inputs: &Inputs<'_>) -> Listens {
    let surplus = inputs.observed.instances.iter().filter(|(_, seen)| seen.unit.is_up()).map(|(id, _)| *id);
    let routed = |id: &InstanceName| inputs.config.service(id.service).is_none_or(|of| inputs.is_routed(of));
    let mut listens = lasting(inputs);
    listens.extend(surplus.filter(routed).filter_map(|id| Some((id, inputs.port(id)?))));
    listens
}

/// The same without the surplus ones.
pub fn lasting(inputs: &Inputs<'_>) -> Listens {
    lasting_of(inputs, |service| inputs.is_routed(service))
}

/// The ports of the wanted instances and spares of the services that are `routed`.
fn lasting_of(inputs: &Inputs<'_>, routed: impl Fn(&Service) -> bool) -> Listens {
    let services = inputs.config.services().filter(|service| routed(service));
    let wanted = services.flat_map(|service| service.instances().chain(service.spare()));
    wanted.filter_map(|id| Some((id, inputs.port(id)?))).collect()
}

fn is_as(inputs: &Inputs<'_>, path: &Path, bytes: &[u8]) -> bool {
    inputs.observed.files.get(path).is_some_and(|f| f.bytes == bytes && f.mode == MODE)
}

fn backup_file(inputs: &Inputs<'_>, path: &Path) -> Option<Step> {
    let hand_made = inputs.observed.files.get(path).is_some_and(|f| is_hand_made(&f.bytes));
    hand_made.then(|| Step::BackupFile { path: path.to_owned() })
}

/// Writes the file of a unit, if it is not current.
pub(super) fn current_unit(inputs: &Inputs<'_>, unit: &str) -> Vec<Step> {
    current_units(inputs, &[unit])
}

fn current_units(inputs: &Inputs<'_>, units: &[&str]) -> Vec<Step> {
    let mut desired = desired(inputs);
    let mut steps = Vec::new();
    for path in units.iter().map(|unit| unit_file(unit)) {
        let Some(bytes) = desired.remove(&path) else { continue };
        if inputs.observed.files.get(&path).is_some_and(|seen| seen.bytes == bytes) {
            continue;
        }
        steps.extend(backup_file(inputs, &path));
        steps.push(Step::WriteFile { path, mode: MODE, content: Content::Plain(bytes) });
    }
    if !steps.is_empty() {
        steps.push(Step::DaemonReload);
    }
    steps
}

/// Starts Caddy and the timers. The app's instances are not started here.
pub fn activation(inputs: &Inputs<'_>) -> Vec<Step> {
    let active = |unit: &str| inputs.observed.units.get(unit).is_some_and(UnitSeen::is_active);
    let timers = units::enabled(inputs.config).into_iter().filter(|u| u.ends_with(".timer"));
    let committed = inputs.committed().is_some();
    let units = std::iter::once(CADDY_UNIT.to_owned()).chain(timers.filter(|_| committed));
    // caddy_trial.rs handles a Caddy with a trial file.
    let on_trial = |unit: &str| unit == CADDY_UNIT && caddy_trial::is_left(inputs);
    units.filter(|u| !active(u) && !on_trial(u)).map(|unit| Step::StartUnit { unit }).collect()
}

/// The units to enable: recover's always, everything else once a release is committed.
pub fn enabling(inputs: &Inputs<'_>) -> Vec<Step> {
    let seen = |unit: &str| inputs.observed.units.get(unit).or_else(|| instance_unit(inputs, unit));
    // A service that was added to the config begins with its first deploy.
    let wanted = match inputs.committed() {
        Some(lines) => units::enabled_in(inputs.config, &lines),
        None => vec![RECOVER_UNIT.to_owned()],
    };
    let units: Vec<String> = wanted.into_iter().filter(|u| seen(u).is_none_or(|s| !s.is_enabled())).collect();
    if units.is_empty() { Vec::new() } else { vec![Step::EnableUnits { units }] }
}

fn instance_unit<'a>(inputs: &'a Inputs<'_>, name: &str) -> Option<&'a UnitSeen> {
    Some(&inputs.observed.instances.get(&inputs.config.name.instance(name)?)?.unit)
}

/// The file as text; `None` if it does not exist, was not observed, or is not UTF-8.
pub fn seen_text(inputs: &Inputs<'_>, path: &str) -> Option<String> {
    let seen = inputs.observed.files.get(Path::new(path))?;
    String::from_utf8(seen.bytes.clone()).ok()
}

fn is_hand_made(bytes: &[u8]) -> bool {
    let first = bytes.split(|b| *b == b'\n').next().unwrap_or_default();
    !String::from_utf8_lossy(first).contains(HEADER)
}

/// Files of the agent that are no longer wanted: units of a removed cron job or migration, a surplus
/// instance's drop-in.
fn stale(inputs: &Inputs<'_>, desired: &Desired) -> Vec<PathBuf> {
    // The template of a removed service goes once its instances are stopped and disabled.
    let runs = |service: ServiceName| {
        let there = |seen: &InstanceSeen| seen.unit.is_up() || seen.unit.is_enabled();
        inputs.observed.instances.iter().any(|(id, seen)| id.service == service && there(seen))
    };
    // Beside a template that an operator made, the drop-ins are the operator's as well.
    let is_known = |service: ServiceName| {
        inputs.config.service(service).is_some() || is_own_template(inputs, service) != Some(false)
    };
    let ours =
        |path: &Path| {
            let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
            let dir = path.parent().and_then(|d| d.file_name()).and_then(|n| n.to_str()).unwrap_or_default();
            let of = |unit: &str| inputs.config.name.instance(unit);
            path.starts_with(UNIT_DIR)
                && (name.starts_with(CRON_PREFIX)
                    || name == NAMES_UNIT
                    || inputs.config.name.migration(name).is_some()
                    || inputs.config.name.service(name).is_some_and(|service| {
                        !runs(service) && is_own_template(inputs, service) == Some(true)
                    })
                    || dir.strip_suffix(".d").and_then(of).is_some_and(|id| is_known(id.service)))
        };
    // A running instance keeps its drop-in until it is stopped (`remove_surplus`).
    let kept: BTreeSet<_> = listens(inputs).into_keys().map(|id| units::drop_in(inputs.config, id)).collect();
    let ours = |path: &Path| ours(path) && !kept.contains(path);
    let seen = inputs.observed.files.iter();
    seen.filter(|(path, file)| ours(path) && !desired.contains_key(*path) && !is_hand_made(&file.bytes))
        .map(|(path, _)| path.clone())
        .collect()
}

/// Whether the template of a service is the agent's; `None`: there is none.
fn is_own_template(inputs: &Inputs<'_>, service: ServiceName) -> Option<bool> {
    let seen = inputs.observed.files.get(&unit_file(&inputs.config.name.template(service)))?;
    Some(units::is_own(&seen.bytes, service))
}

/// A removed job's timer is stopped before its file is removed: systemd would keep it running and fail when
/// it elapses. Its service, or a removed migration, is only stopped if it failed, to reset that; a run under way
/// ends by itself.
fn stop_stale(inputs: &Inputs<'_>, stale: &[PathBuf]) -> Vec<Step> {
    let wanted = |unit: &str| {
        inputs.config.cron_jobs.iter().any(|j| unit == j.name.timer() || unit == j.name.service())
    };
    let over = |unit: &str, seen: &UnitSeen| {
        seen.active == ActiveState::Failed || (seen.is_active() && unit.ends_with(".timer"))
    };
    let name = &inputs.config.name;
    let migrates =
        |unit: &str| inputs.config.migrations().any(|(of, _)| unit == name.migration_unit(of.name));
    let by_hand = |unit: &str| {
        inputs.observed.files.get(&unit_file(unit)).is_some_and(|seen| is_hand_made(&seen.bytes))
    };
    let ours =
        |unit: &str| unit.starts_with(CRON_PREFIX) || (name.migration(unit).is_some() && !by_hand(unit));
    let jobs =
        inputs.observed.units.iter().filter(|(unit, _)| ours(unit) && !wanted(unit) && !migrates(unit));
    let mut steps: Vec<_> = jobs
        .filter(|(unit, seen)| over(unit, seen))
        .map(|(unit, _)| Step::StopUnit { unit: unit.clone() })
        .collect();
    let names = stale.iter().filter_map(|p| p.file_name()?.to_str());
    let timers: Vec<String> = names.filter(|n| n.ends_with(".timer")).map(str::to_owned).collect();
    if !timers.is_empty() {
        steps.push(Step::DisableUnits { units: timers });
    }
    steps
}
