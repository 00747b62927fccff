//! Units and their files: masked, edited, disabled, crash-looping.

use std::path::Path;

use super::Inputs;
use crate::model::checkup::Checkup;
use crate::model::name::{CADDY_UNIT, RECONCILE_TIMER, RECONCILE_UNIT, RECOVER_UNIT, UNIT_DIR};
use crate::model::problem::Problem;
use crate::model::unit::{SubState, UnitSeen};
use crate::plan::{accessories, checks, files, units};

/// This many restarts since a unit was started are a crash loop.
const LOOPS: u32 = 3;

pub(super) fn findings(inputs: &Inputs<'_>, checkup: &Checkup) -> Vec<Problem> {
    if inputs.committed().is_none() && inputs.history.commits.is_empty() {
        // Not installed yet.
        return Vec::new();
    }
    let mut found = written(inputs);
    found.extend(drop_ins(inputs, checkup));
    found.extend(states(inputs));
    if checkup.running.is_none() {
        found.extend(instances(inputs));
        found.extend(accessories(inputs));
    }
    found
}

/// Accessories that this host has started once.
fn accessories(inputs: &Inputs<'_>) -> Vec<Problem> {
    let mut found = Vec::new();
    for (id, seen) in &inputs.observed.accessories {
        let name = inputs.config.name.unit(*id);
        let pin = match accessories::pinned(inputs, id.service) {
            Ok(None) => continue,
            Ok(Some(pin)) => pin,
            Err(problem) => {
                found.push(problem);
                continue;
            }
        };
        let unit = &seen.unit;
        let restarts = matches!(unit.sub, SubState::AutoRestart | SubState::AutoRestartQueued);
        if unit.is_masked() {
            let fix = format!("`systemctl unmask {name}`, then `astra-agent reconcile`");
            found.push(Problem::host("masked", format!("{name} is masked: it never starts"), fix));
        } else if restarts || unit.restarts >= LOOPS {
            found.push(crash_loop(&name, unit.restarts, ""));
        } else if !unit.is_active() {
            let what = format!("{name} is {}", state_label(unit.active.word()));
            let fix = format!("`journalctl -u {name} -n 50`, then `astra-agent reconcile`");
            found.push(Problem::host("accessory", what, fix));
        } else if accessories::runs_pin(seen, &pin) == Some(false) {
            let what = format!("{name} does not run what {} names", pin.app.image);
            found.push(Problem::host("accessory", what, "`astra-agent reconcile`"));
        } else if !unit.is_enabled() {
            let what = format!("{name} is {}: it does not come up at boot", state_label(unit.enabled.word()));
            found.push(Problem::host("enabled", what, "`astra-agent reconcile`"));
        }
    }
    found
}

fn crash_loop(name: &str, restarts: u32, also: &str) -> Problem {
    let what = format!("{name} keeps ending: systemd restarted it {restarts} times");
    let fix = format!(
        "`journalctl -u {name} -n 50` says why; {also}`systemctl restart {name}` begins the count anew"
    );
    Problem::host("crash_loop", what, fix)
}

fn written(inputs: &Inputs<'_>) -> Vec<Problem> {
    let mut found = Vec::new();
    for (path, bytes) in files::desired(inputs) {
        let shown = path.display();
        // A mask is a symlink, and reported as a mask.
        if is_masked(inputs, &path) {
            continue;
        }
        match inputs.observed.files.get(&path) {
            None => {
                found.push(Problem::host("files", format!("{shown} is missing"), "`astra-agent reconcile`"));
            }
            Some(seen) if seen.bytes != bytes => {
                let what = format!(
                    "{shown} is not what agent.toml makes of it: edited by hand, or written by another version of the agent"
                );
                let fix = "`astra-agent plan --reconcile` shows the difference, `astra-agent reconcile` takes it back";
                found.push(Problem::host("files", what, fix));
            }
            Some(seen) if seen.mode & 0o022 != 0 => {
                let what =
                    format!("{shown} has mode {:04o}: users other than root may have written it", seen.mode);
                found.push(Problem::host("files", what, "`astra-agent reconcile`"));
            }
            Some(_) => {}
        }
    }
    for odd in &inputs.observed.odd {
        found.push(Problem::host(
            "files",
            odd.clone(),
            "look at it with `ls -l`; the agent follows no symlink",
        ));
    }
    found
}

fn is_masked(inputs: &Inputs<'_>, path: &Path) -> bool {
    let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    inputs.observed.units.get(name).is_some_and(UnitSeen::is_masked)
}

/// A drop-in that the agent did not write. For Caddy it is the documented place for own settings.
fn drop_ins(inputs: &Inputs<'_>, checkup: &Checkup) -> Vec<Problem> {
    let ours = files::desired(inputs);
    let mut found = Vec::new();
    for (unit, paths) in &checkup.drop_ins {
        for path in paths.iter().filter(|p| !ours.contains_key(*p)) {
            let what = format!("{} changes {unit}, and is not the agent's", path.display());
            let fix = format!(
                "look with `systemctl cat {unit}`; what it says belongs into agent.toml, then `rm {} && systemctl \
                 daemon-reload`",
                path.display()
            );
            let again = found.iter().any(|f: &Problem| f.what.starts_with(&path.display().to_string()));
            match unit == CADDY_UNIT {
                _ if again => {}
                true => found.push(Problem::note("drop_in", what, fix)),
                false => found.push(Problem::host("drop_in", what, fix)),
            }
        }
    }
    found
}

/// Every unit that starts at boot, and the others that the agent needs.
fn states(inputs: &Inputs<'_>) -> Vec<Problem> {
    let mut found = Vec::new();
    for (name, unit) in &inputs.observed.units {
        if unit.is_masked() {
            let fix = format!("`systemctl unmask {name}`, then `astra-agent reconcile`");
            found.push(Problem::host("masked", format!("{name} is masked: it never starts"), fix));
        } else if unit.need_reload {
            let what = format!("systemd runs an older {name} than the one on the disk");
            found.push(Problem::host("reload", what, "`systemctl daemon-reload`"));
        }
    }
    for name in [RECOVER_UNIT, RECONCILE_UNIT] {
        if inputs.observed.units.get(name).is_some_and(|unit| unit.skipped) {
            let what = format!(
                "systemd did not run {name} when it last started it: the binary that it names was not there"
            );
            let fix = format!(
                "`astra-agent reconcile` writes where the binary is, `systemctl start {name}` tries it"
            );
            found.push(Problem::host("own_units", what, fix));
        }
    }
    let enabled = match inputs.committed() {
        Some(lines) => units::enabled_in(inputs.config, &lines),
        None => units::enabled(inputs.config),
    };
    for name in enabled {
        let Some(unit) = inputs.observed.units.get(&name).filter(|u| !u.is_masked()) else { continue };
        let check = match name.as_str() {
            RECOVER_UNIT | RECONCILE_TIMER => "own_units",
            _ => "enabled",
        };
        if !unit.is_enabled() {
            let what = format!("{name} is {}: it does not come up at boot", state_label(unit.enabled.word()));
            found.push(Problem::host(
                check,
                what,
                format!("`systemctl enable {name}`, or `astra-agent reconcile`"),
            ));
        }
        if name.ends_with(".timer") && !unit.is_active() {
            let what =
                format!("{name} is {}: nothing is done when its time comes", state_label(unit.active.word()));
            found.push(Problem::host(check, what, format!("`systemctl start {name}`")));
        }
    }
    found
}

fn state_label(state: &str) -> &str {
    if state.is_empty() { "missing" } else { state }
}

fn instances(inputs: &Inputs<'_>) -> Vec<Problem> {
    let observed = inputs.observed;
    let committed = inputs.committed();
    let wanted: Vec<_> = inputs.config.instances().filter(|id| !inputs.waits(id.service)).collect();
    let mut found = Vec::new();
    for (id, seen) in &observed.instances {
        let name = inputs.config.name.unit(*id);
        let unit = &seen.unit;
        let up = unit.is_up();
        if !wanted.contains(id) {
            if up {
                let count = wanted.iter().filter(|other| other.service == id.service).count();
                let what = format!("{name} runs, and agent.toml wants {count} instances");
                found.push(Problem::host("spare", what, "`astra-agent reconcile` drains and stops it"));
            }
            continue;
        }
        if unit.is_masked() {
            continue;
        }
        let restarts = matches!(unit.sub, SubState::AutoRestart | SubState::AutoRestartQueued);
        if let Some(taken) = checks::port(inputs, *id) {
            found.push(taken);
        } else if restarts || unit.restarts >= LOOPS {
            let rollback = "`astra-agent rollback` when the release is to blame; ";
            found.push(crash_loop(&name, unit.restarts, rollback));
        } else if !seen.ready {
            let what = format!("{name} is {} and not ready", state_label(unit.active.word()));
            let fix = format!("`journalctl -u {name} -n 50`, then `astra-agent reconcile`");
            found.push(Problem::host("not_ready", what, fix));
        } else if files::is_unrouted(inputs, *id) {
            let what = format!(
                "{name} is ready on port {}, and Caddy sends it no requests",
                inputs.port(*id).unwrap_or_default()
            );
            found.push(Problem::host("unrouted", what, "`astra-agent reconcile` loads its port into Caddy"));
        } else if let (Some(runs), Some(since)) =
            (&seen.runs, committed.as_ref().and_then(|lines| lines.since(id.service)))
            && runs.release != since
        {
            let what = format!("{name} runs release {}, committed is {since}", runs.release);
            found.push(Problem::host("other_release", what, "`astra-agent reconcile`"));
        }
    }
    let foreign = wanted.iter().filter(|id| !observed.instances.contains_key(id));
    found.extend(foreign.map(|id| {
        let name = inputs.config.name.unit(*id);
        Problem::host("not_ready", format!("{name} does not exist in {UNIT_DIR}"), "`astra-agent reconcile`")
    }));
    found
}
