//! The service manager: unit states, jobs, unit files. units.rs has what the units do.

use std::collections::HashMap;
use std::future::pending;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::PathBuf;

use zbus::{Message, OwnedObjectPath, OwnedVariant, Variant};

use crate::state::{How, Shared, State, Unit};
use crate::{bus, units};

pub const PATH: &str = "/org/freedesktop/systemd1";
pub const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const UNIT: &str = "org.freedesktop.systemd1.Unit";
const UNIT_DIR: &str = "etc/systemd/system";

type Listed = (String, String, String, String, String, String, OwnedObjectPath, u32, String, OwnedObjectPath);

pub enum Reply {
    Nothing,
    Job(OwnedObjectPath),
    Units(Vec<Listed>),
    Files(Vec<(String, String)>),
    Enabled,
    Disabled,
    Error(&'static str),
}

/// A call of the manager.
pub fn call(shared: &Shared, member: &str, message: &Message) -> zbus::Result<Reply> {
    let body = message.body();
    Ok(match member {
        "StartUnit" | "StopUnit" | "RestartUnit" => {
            let (unit, _): (String, String) = body.deserialize()?;
            begin(shared, member, &unit)
        }
        "StartTransientUnit" => {
            type Properties = Vec<(String, OwnedVariant)>;
            let (unit, _, properties, _): (String, String, Properties, Vec<(String, Properties)>) =
                body.deserialize()?;
            print_log(shared, properties);
            let mut state = shared.lock();
            state.unit(&unit).main = (1, 0);
            Reply::Job(announce(shared, &mut state, &unit))
        }
        "ResetFailedUnit" => {
            let (unit,): (String,) = body.deserialize()?;
            let mut state = shared.lock();
            let unit = state.unit(&unit);
            if unit.active == "failed" {
                (unit.active, unit.sub) = ("inactive", "dead");
            }
            (unit.result, unit.restarts) = ("success", 0);
            Reply::Nothing
        }
        "ListUnitsByPatterns" => {
            let (_, patterns): (Vec<String>, Vec<String>) = body.deserialize()?;
            let state = shared.lock();
            let fitting = |name: &&String| patterns.iter().any(|pattern| fits(pattern, name));
            Reply::Units(state.units.keys().filter(fitting).map(|name| listed(&state, name)).collect())
        }
        "ListUnitFilesByPatterns" => {
            let (_, patterns): (Vec<String>, Vec<String>) = body.deserialize()?;
            let files = files(&shared.lock()).into_iter().filter_map(|path| {
                let name = path.file_name()?.to_str()?.to_owned();
                let fitting = patterns.iter().any(|pattern| fits(pattern, &name));
                fitting.then(|| (format!("/{UNIT_DIR}/{name}"), "static".to_owned()))
            });
            Reply::Files(files.collect())
        }
        "EnableUnitFiles" => {
            let (units, _, _): (Vec<String>, bool, bool) = body.deserialize()?;
            let mut state = shared.lock();
            state.note(format!("enable {}", units.join(" ")));
            state.enabled.extend(units);
            Reply::Enabled
        }
        "DisableUnitFiles" => {
            let (units, _): (Vec<String>, bool) = body.deserialize()?;
            let mut state = shared.lock();
            state.note(format!("disable {}", units.join(" ")));
            state.enabled.retain(|unit| !units.contains(unit));
            Reply::Disabled
        }
        "Reload" => {
            let mut state = shared.lock();
            state.note("reload".to_owned());
            state.loaded = read_files(&state);
            state.enabled_at_reload = state.enabled.clone();
            Reply::Nothing
        }
        "KillUnit" | "UnrefUnit" | "RefUnit" => Reply::Nothing,
        _ => Reply::Error("org.freedesktop.DBus.Error.UnknownMethod"),
    })
}

/// Makes a job, as `systemctl start`, `stop` or `restart` of an administrator does.
pub fn begin(shared: &Shared, verb: &str, name: &str) -> Reply {
    let call = format!("{verb} {name}");
    let mut state = shared.lock();
    state.note(call.clone());
    let fault = state.fault(&call);
    if let Some(How::Refused(error)) = fault {
        return Reply::Error(error);
    }
    if !is_loaded(&state, name) {
        return Reply::Error("org.freedesktop.systemd1.NoSuchUnit");
    }
    if let Some((id, _)) = state.unit(name).job.clone().filter(|(_, under_way)| under_way == verb) {
        return Reply::Job(job_path(id));
    }
    let replaced = state.unit(name).job.take();
    state.last_job += 1;
    let id = state.last_job;
    let unit = state.unit(name);
    unit.job = Some((id, verb.to_owned()));
    unit.life += 1;
    let life = unit.life;
    if verb == "StartUnit" {
        match fault {
            Some(How::EndsLate(..) | How::Late(_) | How::Hangs) => {
                (unit.active, unit.sub) = ("activating", "start")
            }
            Some(How::Ends("failed")) => unit.fail("exit-code", (1, 1)),
            Some(How::TimesOut) => unit.fail("timeout", (2, 15)),
            _ => {}
        }
    }
    drop(state);
    let (shared, verb, name) = (shared.clone(), verb.to_owned(), name.to_owned());
    tokio::spawn(async move {
        if let Some((replaced, _)) = replaced {
            bus::job_removed(&shared, replaced, &name, "canceled").await;
        }
        let result = match fault {
            Some(How::Ends(result)) => result,
            Some(How::TimesOut) => "failed",
            Some(How::EndsLate(after, result)) => {
                tokio::time::sleep(after).await;
                result
            }
            Some(How::Late(time)) => {
                tokio::time::sleep(time).await;
                perform(&shared, &verb, &name, life).await
            }
            Some(_) => pending().await,
            None => perform(&shared, &verb, &name, life).await,
        };
        if shared.lock().unit(&name).job.take_if(|(current, _)| *current == id).is_some() {
            bus::job_removed(&shared, id, &name, result).await;
        }
    });
    Reply::Job(job_path(id))
}

async fn perform(shared: &Shared, verb: &str, name: &str, life: u32) -> &'static str {
    if verb != "StartUnit" {
        units::stop(shared, name, life).await;
    }
    match verb {
        "StopUnit" => "done",
        _ => units::start(shared, name, life).await,
    }
}

/// Ends a job that was just made.
fn announce(shared: &Shared, state: &mut State, name: &str) -> OwnedObjectPath {
    state.last_job += 1;
    let (id, shared, name) = (state.last_job, shared.clone(), name.to_owned());
    tokio::spawn(async move { bus::job_removed(&shared, id, &name, "done").await });
    job_path(id)
}

/// `journalctl` as a transient unit: prints the lines of the unit that its arguments name.
fn print_log(shared: &Shared, properties: Vec<(String, OwnedVariant)>) {
    let all: HashMap<String, OwnedVariant> = properties.into_iter().collect();
    let command = format!("{:?}", all["ExecStart"]);
    let unit = command.split("_SYSTEMD_UNIT=").nth(1).and_then(|rest| rest.split('"').next());
    let lines = shared.lock().said.get(unit.unwrap_or_default()).cloned().unwrap_or_default();
    let Variant::Fd(stdout) = &*all["StandardOutputFileDescriptor"] else { panic!("no descriptor") };
    let mut stdout = std::fs::File::from(stdout.as_fd().try_clone_to_owned().unwrap());
    stdout.write_all(lines.join("\n").as_bytes()).unwrap();
}

/// All properties of one interface of a unit.
pub fn properties(shared: &Shared, path: &str, interface: &str) -> HashMap<&'static str, Variant<'static>> {
    let mut state = shared.lock();
    let name = unescaped(path.rsplit('/').next().unwrap_or_default());
    let file = state.root.join(UNIT_DIR).join(&name);
    let is_stale = state.loaded.get(&file).is_some_and(|old| std::fs::read(&file).ok().as_ref() != Some(old));
    let (loaded, enabled) = (is_loaded(&state, &name), state.enabled_at_reload.contains(&name));
    let Unit { active, sub, result, restarts, invocation, main, job, .. } = state.unit(&name).clone();
    if interface == UNIT {
        let id = if active == "inactive" { Vec::new() } else { invocation.to_be_bytes().to_vec() };
        let (job, at) = job.map_or((0, job_path(0)), |(id, _)| (id, job_path(id)));
        return HashMap::from([
            ("LoadState", if loaded { "loaded" } else { "not-found" }.into()),
            ("ActiveState", active.into()),
            ("SubState", sub.into()),
            ("UnitFileState", if enabled { "enabled" } else { "disabled" }.into()),
            ("InvocationID", id.into()),
            ("Job", Variant::from((job, at))),
            ("NeedDaemonReload", is_stale.into()),
        ]);
    }
    HashMap::from([
        ("Result", result.into()),
        ("NRestarts", restarts.into()),
        ("MainPID", u32::from(active == "active").into()),
        ("ExecMainCode", main.0.into()),
        ("ExecMainStatus", main.1.into()),
    ])
}

fn listed(state: &State, name: &str) -> Listed {
    let unit = &state.units[name];
    let load = if is_loaded(state, name) { "loaded" } else { "not-found" };
    let texts = [name, "", load, unit.active, unit.sub, ""].map(str::to_owned);
    let [name, description, load, active, sub, following] = texts;
    (name, description, load, active, sub, following, job_path(0), 0, String::new(), job_path(0))
}

fn job_path(id: u32) -> OwnedObjectPath {
    OwnedObjectPath::try_from(format!("{PATH}/job/{id}")).unwrap()
}

/// A unit has a file, or its template has one.
fn is_loaded(state: &State, name: &str) -> bool {
    let template = name.split_once('@').map(|(prefix, _)| format!("{prefix}@.service"));
    [Some(name.to_owned()), template]
        .into_iter()
        .flatten()
        .any(|name| state.is_there(&format!("{UNIT_DIR}/{name}")))
}

fn files(state: &State) -> Vec<PathBuf> {
    let listed = std::fs::read_dir(state.root.join(UNIT_DIR)).unwrap();
    listed.map(|entry| entry.unwrap().path()).filter(|path| path.is_file()).collect()
}

fn read_files(state: &State) -> std::collections::BTreeMap<PathBuf, Vec<u8>> {
    files(state).into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

/// glob(7) with `*` alone.
fn fits(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        Some((start, rest)) => name
            .strip_prefix(start)
            .is_some_and(|name| name.char_indices().any(|(at, _)| fits(rest, &name[at..])) || fits(rest, "")),
        None => pattern == name,
    }
}

/// The name in a unit's object path: sd_bus_path_decode(3).
fn unescaped(part: &str) -> String {
    let mut parts = part.split('_');
    let mut name = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        name.push(char::from(u8::from_str_radix(&part[..2], 16).unwrap()));
        name.push_str(&part[2..]);
    }
    name
}
