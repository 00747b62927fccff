//! The unit files: templates in units/, filled in from the config. Called by files.rs (what should be on the
//! disk), release.rs (`APP_ARGS` of a release) and converge.rs (which units to look at).
//!
//! Nothing of a release stands in a unit: image, arguments and environment come from env files, so that a
//! deploy rewrites no unit, and a host without the agent boots the committed release.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::{Config, Migrate, Network};
use crate::model::envfile::MANAGED_KEYS;
use crate::model::name::{
    CADDY_UNIT, EnvKey, InstanceId, MIGRATE_UNIT, RECONCILE_TIMER, RECONCILE_UNIT, RECOVER_UNIT, TRIAL_ENV,
    unit_file,
};
use crate::model::observed::Engine;

use super::cron;

pub mod container;
pub mod text;

use text::{filled, quote_exec, span};

/// The hardening of everything that the agent runs as.
pub const SANDBOX: &str = include_str!("../../units/sandbox.conf");
/// What makes /run/astra at boot.
pub const TMPFILES: &str = "/etc/tmpfiles.d/astra.conf";

/// What an engine's client needs on top of the app's time-out: to remove the container, to start a new one.
const MARGIN: Duration = Duration::from_secs(30);

/// Every unit file, drop-in and tmpfiles.d file of the host.
pub fn render(
    config: &Config,
    engine: Engine,
    agent_path: &str,
    port: impl Fn(InstanceId) -> u16,
) -> BTreeMap<PathBuf, String> {
    let mut files = BTreeMap::new();
    let mut unit = |name: &str, text: String| drop(files.insert(unit_file(name), text));
    unit(&config.app.name.template(), app(config, engine));
    unit(CADDY_UNIT, caddy(config, engine));
    if let Some(job) = &config.migrate {
        unit(MIGRATE_UNIT, migrate(config, engine, job));
    }
    let sandbox = SANDBOX.trim_end();
    let timeout = span(run_timeout(config));
    let own = |extra: &[(&str, &str)], template: &str| {
        let socket = match engine {
            Engine::Podman => " podman.socket",
            Engine::Docker => " docker.service",
        };
        let common =
            [("agent", agent_path), ("after_socket", socket), ("timeout", &timeout), ("sandbox", sandbox)];
        filled(template, &[&common, extra].concat())
    };
    let app_name = config.app.name.as_str();
    let reconcile = include_str!("../../units/agent-reconcile.service");
    unit(RECONCILE_UNIT, own(&[("app", app_name)], reconcile));
    unit(RECONCILE_TIMER, filled(include_str!("../../units/agent-reconcile.timer"), &[("app", app_name)]));
    unit(RECOVER_UNIT, own(&[], include_str!("../../units/agent-recover.service")));
    files.extend(
        config.instances().chain(config.spare()).map(|id| (drop_in(config, id), instance(id, port(id)))),
    );
    files.extend(cron::render(config, engine));
    files.insert(TMPFILES.into(), include_str!("../../units/tmpfiles.conf").to_owned());
    files
}

/// The units that come up at boot. The spare never does; the migration is started by a deploy alone.
pub fn enabled(config: &Config) -> Vec<String> {
    let instances = config.instances().map(|id| config.app.name.unit(id));
    let own = [CADDY_UNIT, RECONCILE_TIMER, RECOVER_UNIT].map(str::to_owned);
    instances.chain(own).chain(config.cron_jobs.iter().map(|job| job.name.timer())).collect()
}

/// `APP_ARGS` of a release: arguments of `podman run` or `docker run` that every container of the app gets, its
/// instances, its migration and its cron jobs. They are part of what the release's fingerprint covers.
pub fn app_args(config: &Config, engine: Engine) -> Vec<String> {
    let app = &config.app;
    let mut args = Vec::new();
    if engine == Engine::Podman {
        let who = if app.readiness.notify { "container" } else { "conmon" };
        args.push(format!("--sdnotify={who}"));
    }
    args.push(format!("--stop-timeout={}", whole_seconds(app.stop_timeout)));
    // A migration and a cron job must reach what the instances reach.
    if app.network == Network::Host {
        // Each instance gets its own values from its unit.
        args.extend(["--network=host", "--env=PORT", "--env=HOST"].map(str::to_owned));
    }
    args.extend(app.memory.map(|bytes| format!("--memory={bytes}b")));
    args.extend(app.cpus.map(|cpus| format!("--cpus={cpus}")));
    args.extend(app.volumes.iter().map(|volume| format!("--volume={volume}")));
    args.extend(container::args(&app.container));
    args
}

/// `APP_COMMAND` of a release: what follows the image. Empty: the image's own.
pub fn app_command(config: &Config) -> Vec<String> {
    container::argv(&config.app.container.entrypoint, &config.app.command)
}

fn app(config: &Config, engine: Engine) -> String {
    let app = &config.app;
    let env_file = app.name.env_file().to_string_lossy().into_owned();
    let (start_timeout, stop_timeout) = (span(app.readiness.timeout + MARGIN), stop_timeout(config));
    let common = [
        ("app", app.name.as_str()),
        ("env_file", env_file.as_str()),
        ("own_lines", &own_lines(&env_file, "/run/astra/committed-%i.env")),
        ("remove", remove(engine)),
        ("start_timeout", &start_timeout),
        ("stop_timeout", &stop_timeout),
    ];
    match engine {
        Engine::Podman => filled(include_str!("../../units/app-podman.service"), &common),
        Engine::Docker => {
            let wait = docker_wait(&format!("{}-app-%i", app.name));
            let values = [&common[..], &[("wait", wait.as_str())]].concat();
            filled(include_str!("../../units/app-docker.service"), &values)
        }
    }
}

/// Path of the drop-in that tells an instance where to listen.
pub fn drop_in(config: &Config, id: InstanceId) -> PathBuf {
    unit_file(&format!("{}.d/10-astra.conf", config.app.name.unit(id)))
}

/// Its text.
pub fn instance(id: InstanceId, port: u16) -> String {
    let (number, port, address) = (id.to_string(), port.to_string(), id.address().to_string());
    filled(
        include_str!("../../units/instance.conf"),
        &[("instance", &number), ("port", &port), ("address", &address)],
    )
}

/// The port that such a drop-in names.
pub fn port_in(drop_in: &[u8]) -> Option<u16> {
    let text = std::str::from_utf8(drop_in).ok()?;
    let port = text.lines().find_map(|line| line.strip_prefix("Environment=ASTRA_PORT="))?;
    port.parse().ok().filter(|port| *port > 0)
}

fn migrate(config: &Config, engine: Engine, job: &Migrate) -> String {
    let app = &config.app;
    let entrypoint = container::entrypoint(&job.entrypoint, app);
    let after_engine = match engine {
        Engine::Podman => "",
        Engine::Docker => " docker.service",
    };
    filled(
        include_str!("../../units/migrate.service"),
        &[
            ("app", app.name.as_str()),
            ("env_file", &app.name.env_file().to_string_lossy()),
            ("after_engine", after_engine),
            ("client", one_off_client(engine)),
            ("remove", remove(engine)),
            ("own_lines", &own_lines(TRIAL_ENV, "/run/astra/migrate.env")),
            ("clear", &clear(engine, &format!("{}-migrate", app.name))),
            ("one_off", &quote_exec(&one_off(engine, entrypoint, &BTreeMap::new()))),
            ("command", &quote_exec(&container::argv(entrypoint, &job.command))),
            ("timeout", &span(job.timeout)),
            ("stop_timeout", &one_off_stop(config)),
        ],
    )
}

fn caddy(config: &Config, engine: Engine) -> String {
    let instances: Vec<_> = config.instances().map(|id| config.app.name.unit(id)).collect();
    let instances = instances.join(" ");
    let common = [("app", config.app.name.as_str()), ("instances", &instances)];
    match engine {
        Engine::Podman => filled(include_str!("../../units/caddy-podman.service"), &common),
        Engine::Docker => {
            let own = [("remove", remove(engine)), ("wait", &docker_wait("astra-caddy"))];
            filled(include_str!("../../units/caddy-docker.service"), &[&common[..], &own].concat())
        }
    }
}

/// The main process of a unit whose container is dockerd's child.
fn docker_wait(container: &str) -> String {
    filled(include_str!("../../units/docker-wait.conf"), &[("container", container)])
}

/// The command that copies the agent's own lines of an env file to one that a unit may read as a whole. systemd reads
/// `EnvironmentFile=` anew for each command, so the next command of the unit has them. Without the env file there are
/// none; 255 is a failure, also as a condition (systemd.service(5)).
pub(super) fn own_lines(from: &str, to: &str) -> String {
    let keys = MANAGED_KEYS.join("|");
    format!(
        "/bin/sh -c 'umask 077; (test ! -e {from} || sed -nE \"/^[[:blank:]]*({keys})=/p\" {from}) >{to} || exit 255'"
    )
}

/// How a container is removed, whether or not it is there.
pub(super) fn remove(engine: Engine) -> &'static str {
    match engine {
        Engine::Podman => "/usr/bin/podman rm --force --ignore",
        Engine::Docker => "/usr/bin/docker rm --force",
    }
}

/// The line that removes what a one-off container of that name left behind: `podman run --replace` does it alone.
pub(super) fn clear(engine: Engine, container: &str) -> String {
    match engine {
        Engine::Podman => String::new(),
        Engine::Docker => {
            format!("ExecStartPre=-/bin/sh -c '{} {container} >/dev/null 2>&1'\n", remove(engine))
        }
    }
}

/// The client of one-off containers. podman's own events would be most of what a job writes to the systemd journal.
pub(super) fn one_off_client(engine: Engine) -> &'static str {
    match engine {
        Engine::Podman => "/usr/bin/podman --events-backend=none",
        Engine::Docker => engine.client(),
    }
}

/// What a one-off container gets after `APP_ARGS`: its output goes to the unit's own stdout, once, and nobody
/// waits for a READY. With `split` the container lies within the unit, so that its end is the container's.
pub(super) fn one_off(engine: Engine, entrypoint: &[String], env: &BTreeMap<EnvKey, String>) -> Vec<String> {
    let fixed = match engine {
        Engine::Podman => {
            &["--replace", "--sdnotify=ignore", "--cgroups=split", "--log-driver=passthrough"][..]
        }
        Engine::Docker => &["--log-driver=none"],
    };
    let mut args: Vec<String> = fixed.iter().map(|arg| (*arg).to_owned()).collect();
    args.extend(container::entrypoint_arg(entrypoint));
    args.extend(env.iter().map(|(key, value)| format!("--env={key}={value}")));
    args
}

/// What a one-off container gets to end by itself, its process 1 often ignoring SIGTERM; then it is killed.
pub(super) fn one_off_stop(config: &Config) -> String {
    span(config.app.stop_timeout + Duration::from_secs(2))
}

/// What a unit waits for its container to stop.
fn stop_timeout(config: &Config) -> String {
    span(config.app.stop_timeout + MARGIN)
}

/// What a run may take besides instances and migration: a pull (30 min), its flush (5 min), a check of the image
/// store (15 min), the registry, and a margin.
const RUN_MARGIN: Duration = Duration::from_secs(3600);

/// A bound for a run of the agent itself: every instance drained, stopped and started twice, both soaks, and more.
fn run_timeout(config: &Config) -> Duration {
    let app = &config.app;
    let each = app.readiness.timeout + app.stop_timeout + config.deploy.drain_timeout + 2 * MARGIN;
    let migration = config.migrate.as_ref().map_or(Duration::ZERO, |m| m.timeout);
    each * 2 * (u32::from(app.instances) + 1) + migration + config.deploy.soak * 2 + RUN_MARGIN
}

fn whole_seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests;
