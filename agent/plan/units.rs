//! The unit files: templates in units/, filled in from the config. Called by files.rs (desired files),
//! release.rs (`APP_ARGS` of a release) and converge.rs (units to observe).
//!
//! Units contain nothing of a release: image, arguments and environment come from env files, so that a deploy
//! rewrites no unit, and a host without the agent boots the committed release.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::{Accessory, Config, Service};
use crate::model::envfile::{ManagedLines, service_keys};
use crate::model::instance::{InstanceName, ServiceName};
use crate::model::name::{
    CADDY_UNIT, NAMES_UNIT, RECONCILE_TIMER, RECONCILE_UNIT, RECOVER_UNIT, SANDBOX_FILE, unit_file,
};
use crate::model::observed::Engine;

use super::calls::Called;
use super::cron;

pub mod args;
pub mod container;
pub mod lines;
pub mod one_off;
pub mod text;

pub use args::{Mount, accessory_args, app_args, app_command, network_arg};
use text::{filled, span};

/// The sandbox of all agent processes: the content of [`SANDBOX_FILE`].
pub const SANDBOX: &str = include_str!("../../units/sandbox.conf");
/// Creates /run/astra at boot.
pub const TMPFILES: &str = "/etc/tmpfiles.d/astra.conf";

/// Added to the app's timeout for the engine's client: removing the container and creating a new one.
const MARGIN: Duration = Duration::from_secs(30);

/// Every unit file, drop-in and tmpfiles.d file of the host.
pub fn render(
    config: &Config,
    engine: Engine,
    agent_path: &str,
    called: &Called,
    port: impl Fn(InstanceName) -> Option<u16>,
) -> BTreeMap<PathBuf, String> {
    let mut files = BTreeMap::new();
    let mut unit = |name: &str, text: String| drop(files.insert(unit_file(name), text));
    for of in config.services() {
        unit(&config.name.template(of.name), service(config, engine, of));
    }
    for accessory in config.accessories.values() {
        unit(&config.name.template(accessory.service.name), accessory_unit(config, engine, accessory));
    }
    unit(CADDY_UNIT, caddy(config, engine, called));
    if !called.is_empty() {
        unit(NAMES_UNIT, names(config, called));
    }
    for (of, job) in config.migrations() {
        unit(&config.name.migration_unit(of.name), one_off::migrate(config, engine, of, job));
    }
    let timeout = span(run_timeout(config));
    let own = |extra: &[(&str, &str)], template: &str| {
        let socket = match engine {
            Engine::Podman => " podman.socket",
            Engine::Docker => " docker.service",
        };
        let common = [("agent", agent_path), ("after_socket", socket), ("timeout", &timeout)];
        filled(template, &[&common, extra].concat())
    };
    let app_name = config.name.as_str();
    let reconcile = include_str!("../../units/agent-reconcile.service");
    unit(RECONCILE_UNIT, own(&[("app", app_name)], reconcile));
    unit(RECONCILE_TIMER, filled(include_str!("../../units/agent-reconcile.timer"), &[("app", app_name)]));
    unit(RECOVER_UNIT, own(&[], include_str!("../../units/agent-recover.service")));
    let ids = config.instances().chain(config.spares());
    files.extend(ids.filter_map(|id| Some((drop_in(config, id), instance(id, port(id)?)))));
    files.extend(cron::render(config, engine));
    files.insert(SANDBOX_FILE.into(), SANDBOX.to_owned());
    files.insert(TMPFILES.into(), include_str!("../../units/tmpfiles.conf").to_owned());
    files
}

/// The units that start at boot once every service is committed. The spare is never enabled; only a deploy starts
/// the migration.
pub fn enabled(config: &Config) -> Vec<String> {
    enabled_of(config, |_| true)
}

/// Those of the services in `lines`.
pub fn enabled_in(config: &Config, lines: &ManagedLines) -> Vec<String> {
    enabled_of(config, |service| lines.of(service).is_some())
}

fn enabled_of(config: &Config, part: impl Fn(ServiceName) -> bool) -> Vec<String> {
    let instances = config.instances().filter(|id| part(id.service)).map(|id| config.name.unit(id));
    let own = [CADDY_UNIT, RECONCILE_TIMER, RECOVER_UNIT].map(str::to_owned);
    instances.chain(own).chain(config.cron_jobs.iter().map(|job| job.name.timer())).collect()
}

/// Publishes the port of an instance, which stands in its `variable`.
fn publish(variable: &str) -> String {
    let at = |address: &str| format!("--publish={address}:${{ASTRA_PORT}}:${{{variable}}} \\\n");
    at("127.0.0.1") + &at("127.0.1.%i")
}

fn service(config: &Config, engine: Engine, of: &Service) -> String {
    service_of(config, engine, of, (config.name.env_file(), of.name))
}

/// The unit of an accessory. In its own env file it is the first service.
fn accessory_unit(config: &Config, engine: Engine, accessory: &Accessory) -> String {
    let of = &accessory.service;
    service_of(config, engine, of, (config.name.accessory_env(of.name), ServiceName::app()))
}

/// `lines`: the env file, and the service whose lines of it are this one's.
fn service_of(config: &Config, engine: Engine, of: &Service, lines: (PathBuf, ServiceName)) -> String {
    let (env_file, named) = (lines.0.to_string_lossy().into_owned(), lines.1);
    let (start_timeout, stop_timeout) = (span(of.readiness.timeout + MARGIN), span(of.stop_timeout + MARGIN));
    let [image, args, command, port, since, env] = service_keys(named);
    let is_web = of.web().is_some();
    let unset = format!("{image}= {args}= {command}= {since}=")
        + &if is_web { format!(" {port}=8000") } else { String::new() };
    // The app and an accessory have the file of their lines.
    let env_default = if named.is_app() { String::new() } else { format!(" {env}={env_file}") };
    let unset = unset + &env_default;
    let container = format!("{}-{}-%i", config.name, of.name);
    let file = of.name.specifier();
    let common = [
        ("service", &*format!("{}-{}", config.name, of.name)),
        ("container", &container),
        ("file", &file),
        ("unset", &unset),
        ("image", &format!("${{{image}}}")),
        ("args", &format!("${args}")),
        ("command", &format!("${command}")),
        ("since", &format!("${{{since}}}")),
        ("env_file", env_file.as_str()),
        ("env", &format!("${{{env}}}")),
        ("publish", &if is_web { publish(&port) } else { String::new() }),
        ("own_lines", &lines::own_lines_of(&env_file, &committed_copy(of.name), named)),
        ("after", &after(config, of)),
        ("mounts", &mounts(config, of)),
        ("remove", one_off::remove(engine)),
        ("start_timeout", &start_timeout),
        ("stop_timeout", &stop_timeout),
    ];
    match engine {
        Engine::Podman => {
            let own = include_str!("../../units/unanswered.conf");
            let own = if is_web { filled(own, &[("args", &format!("${args}"))]) } else { String::new() };
            let values = [&common[..], &[("unanswered", own.as_str())]].concat();
            filled(include_str!("../../units/service-podman.service"), &values)
        }
        Engine::Docker => {
            let wait = docker_wait(&container);
            let values = [&common[..], &[("wait", wait.as_str())]].concat();
            filled(include_str!("../../units/service-docker.service"), &values)
        }
    }
}

/// A database on a disk that is not mounted would begin anew in the empty directory below. Not for a release: its unit
/// is written before the deploy that uses a new volume.
fn mounts(config: &Config, of: &Service) -> String {
    if !config.accessories.contains_key(&of.name) {
        return String::new();
    }
    // `$` and `%` have no quoting there that both old and new versions of systemd share.
    let plain = |path: &&str| !path.contains(['$', '%', '"', '\\']);
    let sources = of.volume_sources().filter_map(Path::to_str).filter(plain);
    sources.map(|path| format!(" \"{path}\"")).collect()
}

/// At boot the accessories start before the services that use them, and names have their address before these are called.
fn after(config: &Config, of: &Service) -> String {
    let uses = !config.accessories.contains_key(&of.name);
    let names = config.accessories.keys().filter(|_| uses);
    let accessories = names.map(|name| format!(" {}", config.name.unit(InstanceName::single(*name))));
    let calls = (!of.calls.is_empty()).then(|| format!(" {NAMES_UNIT}"));
    accessories.chain(calls).collect()
}

/// Whether a template is the agent's for this service. A copy of another service's, which an operator made, has its
/// paths.
pub fn is_own(template: &[u8], service: ServiceName) -> bool {
    let text = String::from_utf8_lossy(template);
    text.contains(super::files::HEADER) && text.contains(&committed_copy(service))
}

/// The file to which a unit copies the agent's lines of astra.env.
fn committed_copy(service: ServiceName) -> String {
    format!("/run/astra/committed-{}.env", service.specifier())
}

/// Path of the drop-in with an instance's port.
pub fn drop_in(config: &Config, id: InstanceName) -> PathBuf {
    unit_file(&format!("{}.d/10-astra.conf", config.name.unit(id)))
}

/// Text of the drop-in.
pub fn instance(id: InstanceName, port: u16) -> String {
    let (number, port, address) = (id.to_string(), port.to_string(), id.address().to_string());
    filled(
        include_str!("../../units/instance.conf"),
        &[("instance", &number), ("port", &port), ("address", &address)],
    )
}

/// The stop timeout in a template of the agent.
pub fn stop_timeout_in(template: &[u8]) -> Option<Duration> {
    let text = std::str::from_utf8(template).ok()?;
    let time = text.lines().find_map(|line| line.strip_prefix("TimeoutStopSec="))?;
    crate::config::duration(time).ok()
}

/// The port in a drop-in.
pub fn port_in(drop_in: &[u8]) -> Option<u16> {
    let text = std::str::from_utf8(drop_in).ok()?;
    let port = text.lines().find_map(|line| line.strip_prefix("Environment=ASTRA_PORT="))?;
    port.parse().ok().filter(|port| *port > 0)
}

fn caddy(config: &Config, engine: Engine, called: &Called) -> String {
    let web = config.services().filter(|service| service.web().is_some());
    let instances: Vec<_> = web.flat_map(Service::instances).map(|id| config.name.unit(id)).collect();
    let instances = instances.join(" ");
    let names = if called.is_empty() { String::new() } else { format!(" {NAMES_UNIT}") };
    let common = [("app", config.name.as_str()), ("instances", &instances), ("names", &names)];
    match engine {
        Engine::Podman => filled(include_str!("../../units/caddy-podman.service"), &common),
        Engine::Docker => {
            let own = [("remove", one_off::remove(engine)), ("wait", &docker_wait("astra-caddy"))];
            filled(include_str!("../../units/caddy-docker.service"), &[&common[..], &own].concat())
        }
    }
}

/// The addresses of the services that others call.
fn names(config: &Config, called: &Called) -> String {
    let set = |name: &ServiceName| format!("ExecStart=ip address replace {}/32 dev lo", name.address());
    let addresses: Vec<_> = called.keys().map(set).collect();
    filled(
        include_str!("../../units/names.service"),
        &[("app", config.name.as_str()), ("addresses", &addresses.join("\n"))],
    )
}

/// The main process of a docker unit, whose container is dockerd's child.
fn docker_wait(container: &str) -> String {
    filled(include_str!("../../units/docker-wait.conf"), &[("container", container)])
}

/// Time for a run besides instances and migration: a pull (30 min), its flush (5 min), a check of the image
/// store (15 min), the registry, and a margin.
const RUN_MARGIN: Duration = Duration::from_secs(3600);

/// Upper bound for a run of the agent: every instance drained, stopped and started twice, both soaks, and the
/// margin.
fn run_timeout(config: &Config) -> Duration {
    let each = |of: &Service| {
        let drain = of.web().map_or(Duration::ZERO, |_| config.deploy.drain_timeout);
        let warms = of.web().is_some_and(|web| !web.warm_up.is_empty());
        let ready = of.readiness.timeout * if warms { 2 } else { 1 };
        let once = ready + of.stop_timeout + drain + 2 * MARGIN;
        once * 2 * (u32::from(of.instances) + 1)
    };
    let migrations = config.migrations().map(|(_, migrate)| migrate.timeout);
    config.services().map(each).chain(migrations).sum::<Duration>() + config.deploy.soak * 2 + RUN_MARGIN
}

#[cfg(test)]
mod tests;
