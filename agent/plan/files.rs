//! The files of the host as the config wants them, and the steps from what is there to them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::model::name::{
    CADDY_ENV, CADDY_SOCKET_DIR, CADDY_UNIT, CADDYFILE, DRAIN_DIR, RECOVER_UNIT, UNIT_DIR,
};
use crate::model::observed::UnitSeen;
use crate::model::step::{Content, Step};

use super::{Inputs, caddy, units};

/// The word in the first line of every file that the agent writes: without it a file is hand-made.
pub const HEADER: &str = "astra-agent";
const MODE: u32 = 0o644;

/// A file as it should be: path and bytes. All are world-readable; secrets live in env files alone.
pub type Desired = BTreeMap<PathBuf, Vec<u8>>;

/// Every file that the config determines.
pub fn desired(inputs: &Inputs<'_>) -> Desired {
    let mut files: Desired = units::render(inputs.config, inputs.engine, inputs.agent)
        .into_iter()
        .map(|(path, text)| (path, text.into_bytes()))
        .collect();
    files.insert(CADDYFILE.into(), caddy::caddyfile(inputs.config, caddy_version(inputs)).into_bytes());
    let caddy_env = seen_text(inputs, CADDY_ENV);
    match (caddy_env, inputs.caddy_image) {
        // The image that Caddy runs is changed by nobody but a person.
        (Some(text), _) => files.insert(CADDY_ENV.into(), text.into_bytes()),
        (None, Some(image)) => files.insert(CADDY_ENV.into(), caddy::env(image).into_bytes()),
        (None, None) => None,
    };
    files
}

/// Steps to the desired files, and what has to hear of a change. Empty when nothing differs.
pub fn steps(inputs: &Inputs<'_>) -> Vec<Step> {
    let desired = desired(inputs);
    let observed = inputs.observed;
    let mut steps = Vec::new();
    for (dir, mode) in [(DRAIN_DIR, 0o755), (CADDY_SOCKET_DIR, 0o700)] {
        if !observed.dirs.contains(Path::new(dir)) {
            steps.push(Step::MakeDir { path: dir.into(), mode });
        }
    }
    let stale = stale(inputs, &desired);
    steps.extend(stop_stale(inputs, &stale));
    let mut changed = BTreeSet::new();
    for (path, bytes) in &desired {
        let seen = observed.files.get(path);
        if seen.is_some_and(|f| f.bytes == *bytes && f.mode == MODE) {
            continue;
        }
        if seen.is_some_and(|f| is_hand_made(&f.bytes)) {
            steps.push(Step::KeepBefore { path: path.clone() });
        }
        changed.insert(path.clone());
        let content = Content::Plain(bytes.clone());
        steps.push(Step::WriteFile { path: path.clone(), mode: MODE, content });
    }
    let unit_changed = |path: &Path| path.starts_with(UNIT_DIR);
    let reload = changed.iter().chain(&stale).any(|p| unit_changed(p))
        || observed.units.values().any(|u| u.need_reload);
    steps.extend(stale.into_iter().map(|path| Step::RemoveFile { path }));
    if reload {
        steps.push(Step::ReloadUnits);
    }
    if changed.contains(Path::new(CADDYFILE)) && observed.caddy.is_some() {
        steps.push(Step::LoadCaddy);
    }
    let timers = changed.iter().filter_map(|p| p.file_name()?.to_str()).filter(|n| n.ends_with(".timer"));
    let running = |unit: &str| observed.units.get(unit).is_some_and(|u| u.active == "active");
    steps.extend(timers.filter(|t| running(t)).map(|t| Step::RestartUnit { unit: t.to_owned() }));
    steps
}

/// Caddy and the timers are started. The app's instances are not started here.
pub fn activation(inputs: &Inputs<'_>) -> Vec<Step> {
    let active = |unit: &str| inputs.observed.units.get(unit).is_some_and(|u| u.active == "active");
    let timers = units::enabled(inputs.config).into_iter().filter(|u| u.ends_with(".timer"));
    let committed = inputs.committed().is_some();
    let units = std::iter::once(CADDY_UNIT.to_owned()).chain(timers.filter(|_| committed));
    units.filter(|u| !active(u)).map(|unit| Step::StartUnit { unit }).collect()
}

/// What must come up at boot and does not yet: the unit that closes a cut-off run always, everything else once
/// a release is committed.
pub fn enabling(inputs: &Inputs<'_>) -> Vec<Step> {
    let seen = |unit: &str| inputs.observed.units.get(unit).or_else(|| instance_unit(inputs, unit));
    let committed = inputs.committed().is_some();
    let wanted = units::enabled(inputs.config).into_iter().filter(|u| committed || u == RECOVER_UNIT);
    let units: Vec<String> = wanted.filter(|u| !seen(u).is_some_and(|s| s.enabled == "enabled")).collect();
    if units.is_empty() { Vec::new() } else { vec![Step::EnableUnits { units }] }
}

fn instance_unit<'a>(inputs: &'a Inputs<'_>, name: &str) -> Option<&'a UnitSeen> {
    let (_, seen) =
        inputs.observed.instances.iter().find(|(id, _)| inputs.config.app.name.unit(**id) == name)?;
    Some(&seen.unit)
}

fn caddy_version(inputs: &Inputs<'_>) -> (u32, u32) {
    let running = inputs.observed.caddy.as_ref().map(|c| c.version);
    let written = || caddy::written_for(&seen_text(inputs, CADDYFILE)?);
    running.or_else(written).unwrap_or(caddy::OLDEST)
}

fn seen_text(inputs: &Inputs<'_>, path: &str) -> Option<String> {
    let seen = inputs.observed.files.get(Path::new(path))?;
    String::from_utf8(seen.bytes.clone()).ok()
}

fn is_hand_made(bytes: &[u8]) -> bool {
    let first = bytes.split(|b| *b == b'\n').next().unwrap_or_default();
    !String::from_utf8_lossy(first).contains(HEADER)
}

/// Files of ours that nothing wants any more: a removed cron job's units, a surplus instance's drop-in.
fn stale(inputs: &Inputs<'_>, desired: &Desired) -> Vec<PathBuf> {
    let ours = |path: &Path| {
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        let dir = path.parent().and_then(|d| d.file_name()).and_then(|n| n.to_str()).unwrap_or_default();
        let app = format!("{}-app@", inputs.config.app.name);
        path.starts_with(UNIT_DIR)
            && (name.starts_with("astra-cron-") || (dir.starts_with(&app) && dir.ends_with(".service.d")))
    };
    let seen = inputs.observed.files.iter();
    seen.filter(|(path, file)| ours(path) && !desired.contains_key(*path) && !is_hand_made(&file.bytes))
        .map(|(path, _)| path.clone())
        .collect()
}

fn stop_stale(inputs: &Inputs<'_>, stale: &[PathBuf]) -> Vec<Step> {
    let names = stale.iter().filter_map(|p| p.file_name()?.to_str());
    let timers: Vec<String> = names.filter(|n| n.ends_with(".timer")).map(str::to_owned).collect();
    if timers.is_empty() {
        return Vec::new();
    }
    let observed = &inputs.observed.units;
    let active = timers.iter().filter(|t| observed.get(*t).is_some_and(|u| u.active == "active"));
    let mut steps: Vec<_> = active.map(|t| Step::StopUnit { unit: t.clone() }).collect();
    steps.push(Step::DisableUnits { units: timers });
    steps
}
