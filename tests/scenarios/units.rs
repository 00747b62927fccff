//! The work of the units in units/: they read the env files below the root as systemd does, start the container,
//! and let its app or Caddy answer.

use std::collections::BTreeMap;
use std::future::pending;
use std::net::SocketAddr;
use std::time::Duration;

use astra_agent::model::envfile::service_keys;
use astra_agent::model::instance::{InstanceName, ServiceName};
use astra_agent::model::name::{AppName, NAMES_UNIT};
use tokio::time::sleep;

use crate::state::{App, Container, Image, Migration, Shared, State};
use crate::{caddy, http};

pub const CADDY: &str = "astra-caddy.service";
/// `RestartSec=` of the units.
const RESTART: Duration = Duration::from_secs(1);
/// A command of a service that ends at once.
pub const FAILS: &str = "fail";
/// The exit code of podman-run(1) when the engine itself fails.
const ENGINE: i32 = 125;

/// Starts a unit; returns the result of the job.
pub async fn start(shared: &Shared, name: &str, life: u32) -> &'static str {
    {
        let mut state = shared.lock();
        state.last_invocation += 1;
        let invocation = state.last_invocation;
        let Some(unit) = state.unit_in(name, life) else { return "canceled" };
        if unit.active == "active" {
            return "done";
        }
        // The journal keeps the lines of a start that systemd repeats by itself.
        let again = unit.sub == "auto-restart";
        (unit.active, unit.sub, unit.result) = ("activating", "start", "success");
        (unit.invocation, unit.main) = (invocation, (0, 0));
        if !again {
            state.said.remove(name);
        }
    }
    match instance(name) {
        Some(instance) => start_app(shared, name, life, instance).await,
        None if name == CADDY => start_caddy(shared, name, life).await,
        None if migration(name).is_some() => migrate(shared, name, life).await,
        None if name == NAMES_UNIT => set_addresses(shared, name, life),
        None => set(shared, name, life, ("active", "running")),
    }
}

/// `ip address replace`: the host's table of routes has the addresses.
fn set_addresses(shared: &Shared, name: &str, life: u32) -> &'static str {
    let state = shared.lock();
    let unit = state.text(&format!("/etc/systemd/system/{name}"));
    let commands = unit.lines().filter_map(|line| line.strip_prefix("ExecStart=ip address replace "));
    let routes: String = commands
        .map(|line| format!("   |-- {}\n      /32 host LOCAL\n", line.split('/').next().unwrap()))
        .collect();
    let dir = state.root.join(format!("proc/{}/net", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("fib_trie"), routes).unwrap();
    drop(state);
    set(shared, name, life, ("inactive", "dead"))
}

/// Stops a unit in any state.
pub async fn stop(shared: &Shared, name: &str, life: u32) {
    let app = shared.lock().apps.remove(name);
    if let Some(app) = app {
        app.stop().await;
    }
    if name == CADDY {
        caddy::down(shared).await;
    }
    let mut state = shared.lock();
    state.containers.remove(&container(name));
    let Some(unit) = state.unit_in(name, life) else { return };
    if migration(name).is_some() && unit.active == "activating" {
        // podman passes SIGTERM on, and ends with the code of the container.
        return unit.fail("exit-code", (1, 128 + 15));
    }
    (unit.active, unit.sub) = ("inactive", "dead");
}

/// The own env file of an accessory, which its unit names.
fn own_env(state: &State, instance: InstanceName) -> Option<String> {
    let path = format!("/etc/astra/astra-{}.env", instance.service);
    let unit = state.text(&format!("/etc/systemd/system/astra-{}@.service", instance.service));
    unit.contains(&path).then_some(path)
}

/// The env file of the unit, then the trial file: later lines override.
pub fn environment(state: &State, instance: InstanceName) -> BTreeMap<String, String> {
    let own = own_env(state, instance);
    let mut env = lines(&state.text(own.as_deref().unwrap_or("/etc/astra/astra.env")));
    env.extend(lines(&state.text(&instance.trial_file().to_string_lossy())));
    env
}

pub fn lines(text: &str) -> BTreeMap<String, String> {
    let pair = |line: &str| {
        let (key, value) = line.split_once('=').filter(|_| !line.starts_with('#'))?;
        Some((key.to_owned(), value.trim_matches(['"', '\'']).to_owned()))
    };
    text.lines().filter_map(pair).collect()
}

/// The instance with this unit.
pub fn instance(unit: &str) -> Option<InstanceName> {
    "astra".parse::<AppName>().unwrap().instance(unit)
}

/// The service whose migration this unit is.
fn migration(unit: &str) -> Option<ServiceName> {
    "astra".parse::<AppName>().unwrap().migration(unit)
}

fn container(unit: &str) -> String {
    unit.replace('@', "-").replace(".service", "")
}

/// The files of a release in the arguments of a container, and their paths there.
fn mounts(args: &str) -> BTreeMap<String, String> {
    let volumes =
        args.split_whitespace().filter_map(|arg| arg.trim_matches(['"', '\'']).strip_prefix("--volume="));
    let files = volumes.filter(|volume| volume.starts_with("/etc/astra/files/"));
    let pair = |volume: &str| {
        let mut parts = volume.split(':').map(str::to_owned);
        Some((parts.next()?, parts.next()?))
    };
    files.filter_map(pair).collect()
}

/// The behaviour of `image`; `None`: it is not local, and so podman does not start it.
fn local(state: &State, image: &str) -> Option<Image> {
    let digest = image.split_once('@')?.1;
    state.images.get(digest).filter(|_| state.local.contains(image)).cloned()
}

fn set(shared: &Shared, name: &str, life: u32, to: (&'static str, &'static str)) -> &'static str {
    match shared.lock().unit_in(name, life) {
        Some(unit) => {
            (unit.active, unit.sub) = to;
            "done"
        }
        None => "canceled",
    }
}

async fn start_app(shared: &Shared, name: &str, life: u32, instance: InstanceName) -> &'static str {
    let (env, port, named) = {
        let state = shared.lock();
        // In its own file an accessory is the first service.
        let named = own_env(&state, instance).map_or(instance.service, |_| ServiceName::app());
        let drop_in = state.text(&format!("/etc/systemd/system/{name}.d/10-astra.conf"));
        let port = drop_in.split("ASTRA_PORT=").nth(1).and_then(|rest| rest.lines().next()?.parse().ok());
        (environment(&state, instance), port.unwrap_or(0_u16), named)
    };
    let [image, args, command, _, since, own_file] = service_keys(named);
    if env.get(&command).is_some_and(|command| command == FAILS) {
        shared.lock().say(name, &container(name), "no such queue");
        return end(shared, name, life, (1, 4));
    }
    let image = env.get(&image).cloned().unwrap_or_default();
    if image.is_empty() {
        // ExecCondition= of the unit.
        set(shared, name, life, ("inactive", "dead"));
        return "skipped";
    }
    let (variables, mounted): (_, BTreeMap<String, String>) = {
        let state = shared.lock();
        let own = own_env(&state, instance).unwrap_or_else(|| "/etc/astra/astra.env".to_owned());
        let file = env.get(&own_file).cloned().unwrap_or(own);
        let mounted = mounts(env.get(&args).map_or("", String::as_str));
        let lost = mounted.keys().chain([&file]).find(|path| !state.is_there(path)).cloned();
        if let Some(lost) = lost {
            drop(state);
            shared.lock().say(name, "podman", &format!("Error: statfs {lost}: no such file or directory"));
            return end(shared, name, life, (1, ENGINE));
        }
        let read = mounted.into_iter().map(|(source, target)| (target, state.text(&source)));
        (lines(&state.text(&file)), read.collect())
    };
    let refused = |text: &String| text.starts_with(FAILS);
    if BTreeMap::values(&mounted).any(refused) {
        shared.lock().say(name, &container(name), "bad file");
        return end(shared, name, life, (1, 4));
    }
    let known = local(&shared.lock(), &image);
    let Some(Image { app, .. }) = known else {
        shared.lock().say(name, "podman", &format!("Error: {image}: image not known"));
        return end(shared, name, life, (1, ENGINE));
    };
    match app {
        App::Exits(code) => {
            shared.lock().say(name, &container(name), "cannot reach the database");
            return end(shared, name, life, (1, code));
        }
        App::Killed(signal) => return end(shared, name, life, (2, signal)),
        App::Starts => return pending().await,
        _ => {}
    }
    let of = |key: &str| env.get(key).cloned().unwrap_or_default();
    let own_port = if port > 0 { port.to_string() } else { String::new() };
    let labels =
        [("release", of("ASTRA_RELEASE")), ("since", of(&since)), ("image", image), ("port", own_port)];
    let labels = labels.map(|(label, value)| (format!("astra.{label}"), value)).into();
    let at = SocketAddr::from((instance.address(), port));
    // A worker has no drop-in with a port.
    let answer = answer_of(&app).filter(|_| port > 0);
    let server = match answer {
        Some(answer) => Some(http::serve_at(at, visit(shared, name, answer)).await),
        None => None,
    };
    {
        let mut state = shared.lock();
        if state.unit_in(name, life).is_none() {
            return "canceled";
        }
        state
            .containers
            .insert(container(name), Container { labels, env: variables, files: mounted, state: "running" });
        state.apps.extend(server.map(|server| (name.to_owned(), server)));
    }
    if let App::Turns(after, status) = app {
        let (shared, name) = (shared.clone(), name.to_owned());
        tokio::spawn(async move {
            sleep(after).await;
            let Some(app) = shared.lock().apps.remove(&name) else { return };
            app.stop().await;
            let app = http::serve_at(at, move |_| http::json(status, "", "overloaded")).await;
            shared.lock().apps.insert(name, app);
        });
    } else if let App::Dies { after, main, .. } = app {
        let (shared, name) = (shared.clone(), name.to_owned());
        tokio::spawn(async move {
            sleep(after).await;
            if shared.lock().unit_in(&name, life).is_some() {
                let app = shared.lock().apps.remove(&name);
                if let Some(app) = app {
                    app.stop().await;
                }
                end(&shared, &name, life, main);
            }
        });
    }
    set(shared, name, life, ("active", "running"))
}

/// An app with a path that fails and one that hangs. Requests other than that of its readiness are noted.
fn visit(
    shared: &Shared,
    name: &str,
    answer: String,
) -> impl Fn(http::Request) -> String + Send + Sync + 'static {
    let (shared, name) = (shared.clone(), name.to_owned());
    move |request| {
        let path = request.head.split(' ').nth(1).unwrap_or_default().to_owned();
        if path == "/readyz" {
            return answer.clone();
        }
        shared.lock().note(format!("GET {path} of {name}"));
        match path.split('?').next().unwrap_or_default() {
            "/fails" => http::json(500, "", "no index"),
            "/hangs" => "\0HOLD".to_owned(),
            _ => answer.clone(),
        }
    }
}

/// The app's answer to any request; `None`: nothing listens.
fn answer_of(app: &App) -> Option<String> {
    let (status, headers) = match app {
        App::Answers(status) => (*status, ""),
        App::Redirects => (301, "Location: https://shop.example/readyz\r\n"),
        App::Silent | App::Dies { listens: false, .. } => return None,
        App::Hangs => return Some("\0HOLD".to_owned()),
        _ => (200, ""),
    };
    Some(http::json(status, headers, "ok"))
}

/// The status that Caddy gets from an instance.
pub fn status(state: &State, instance: InstanceName) -> Option<u16> {
    let name = "astra".parse::<AppName>().unwrap().unit(instance);
    state.apps.get(&name)?;
    let image = &state.containers.get(&container(&name))?.labels["astra.image"];
    let answer = answer_of(&local(state, image)?.app)?;
    answer.split(' ').nth(1)?.parse().ok()
}

/// The main process has ended by itself: systemd starts it again, until it is stopped (`Restart=always`).
fn end(shared: &Shared, name: &str, life: u32, main: (i32, i32)) -> &'static str {
    let mut state = shared.lock();
    state.containers.remove(&container(name));
    let Some(unit) = state.unit_in(name, life) else { return "canceled" };
    (unit.active, unit.sub, unit.main) = ("activating", "auto-restart", main);
    unit.result = if main.0 == 1 { "exit-code" } else { "signal" };
    drop(state);
    let (shared, name) = (shared.clone(), name.to_owned());
    tokio::spawn(async move {
        sleep(RESTART).await;
        if let Some(unit) = shared.lock().unit_in(&name, life) {
            unit.restarts += 1;
        }
        Box::pin(start(&shared, &name, life)).await;
    });
    "failed"
}

async fn start_caddy(shared: &Shared, name: &str, life: u32) -> &'static str {
    let (image, caddyfile) = {
        let state = shared.lock();
        let mut env = lines(&state.text("/etc/astra/caddy.env"));
        env.extend(lines(&state.text("/run/astra/trial-caddy.env")));
        let image = env.get("CADDY_IMAGE").cloned().unwrap_or_default();
        (local(&state, &image), state.text("/etc/astra/Caddyfile"))
    };
    let code = match image {
        None => ENGINE,
        Some(Image { app: App::Exits(code), .. }) => code,
        Some(_) if caddy::error_in(&caddyfile).is_some() => 1,
        Some(_) => {
            caddy::up(shared, caddyfile).await;
            return set(shared, name, life, ("active", "running"));
        }
    };
    shared.lock().say(name, "astra-caddy", "Error: adapting config");
    end(shared, name, life, (1, code))
}

async fn migrate(shared: &Shared, name: &str, life: u32) -> &'static str {
    let image = {
        let state = shared.lock();
        let env = lines(&state.text("/run/astra/trial.env"));
        let image = migration(name).and_then(|service| env.get(&service_keys(service)[0]));
        local(&state, image.map(String::as_str).unwrap_or_default())
    };
    let migration = image.map_or(Migration::Exits(ENGINE), |image| image.migration);
    let (result, main) = match migration {
        // systemd forgets a unit that is inactive, and with it the exit code.
        Migration::Passes => return set(shared, name, life, ("inactive", "dead")),
        Migration::Exits(code) => ("exit-code", (1, code)),
        Migration::Killed(signal) => ("signal", (2, signal)),
        Migration::Runs => pending().await,
    };
    match shared.lock().unit_in(name, life) {
        Some(unit) => {
            unit.fail(result, main);
            "failed"
        }
        None => "canceled",
    }
}
