//! One-off containers: the units of migrations, and what those share with cron jobs. Called by units.rs and cron.rs.

use std::collections::BTreeMap;
use std::time::Duration;

use super::container;
use super::lines::{copied, own_keys};
use super::text::{filled, quote_exec, span};
use crate::config::{Config, Migrate, Service};
use crate::model::envfile::service_keys;
use crate::model::name::{EnvKey, TRIAL_ENV};
use crate::model::observed::Engine;

/// The unit of a migration.
pub(super) fn migrate(config: &Config, engine: Engine, of: &Service, job: &Migrate) -> String {
    let name = of.name;
    let entrypoint = container::entrypoint(&job.entrypoint, of);
    let after_engine = match engine {
        Engine::Podman => "",
        Engine::Docker => " docker.service",
    };
    // The one that the container of the migration is named after, without `-migrate`.
    let (app, file) = match name.is_app() {
        true => (config.name.to_string(), "/run/astra/migrate".to_owned()),
        false => (format!("{}-{name}", config.name), format!("/run/astra/migrate-{name}")),
    };
    let (lines, only) = (format!("{file}.env"), format!("{file}.only"));
    let [image, own, _, _, _, env] = service_keys(name);
    let (unset, whole) = match name.is_app() {
        true => (format!("{own}="), TRIAL_ENV.to_owned()),
        // The trial file names an environment only if the service has its own.
        false => (format!("{image}= {own}= {env}={TRIAL_ENV}"), format!("${{{env}}}")),
    };
    let picked = job.env_only.as_ref().map(|keys| picked(&whole, &only, keys)).unwrap_or_default();
    let one_off = quote_exec(&args(engine, entrypoint, &BTreeMap::new()));
    let run = |command: &Vec<String>| {
        let values = [
            ("app", &*app),
            ("client", client(engine)),
            ("env", if job.env_only.is_some() { &only } else { &whole }),
            ("args", &format!("${own}")),
            ("image", &format!("${{{image}}}")),
            ("one_off", &one_off),
            ("command", &quote_exec(&container::argv(entrypoint, command))),
        ];
        filled(include_str!("../../../units/migrate-run.conf"), &values)
    };
    filled(
        include_str!("../../../units/migrate.service"),
        &[
            ("app", &app),
            ("env_file", &config.name.env_file().to_string_lossy()),
            ("unset", &unset),
            ("lines", &lines),
            ("after_engine", after_engine),
            ("runs", &job.commands.iter().map(run).collect::<String>()),
            ("sweep", &sweep(engine, &format!("{app}-migrate"))),
            ("own_lines", &migration_lines(&lines, of)),
            ("clear", &(clear(engine, &format!("{app}-migrate")) + &picked)),
            ("timeout", &span(job.timeout)),
            ("stop_timeout", &stop(of)),
        ],
    )
}

/// The lines of the release on trial. The network must not lead to a migration by the name of its worker.
fn migration_lines(to: &str, of: &Service) -> String {
    let then = match of.web() {
        Some(_) => "p".to_owned(),
        None => format!("{{s/ --network-alias={}//;p}}", of.name),
    };
    copied((TRIAL_ENV, to), &own_keys(of.name), &then)
}

/// The lines that give a migration only these variables, and remove their copy again.
fn picked(from: &str, to: &str, keys: &[EnvKey]) -> String {
    let keys: Vec<_> = keys.iter().map(ToString::to_string).collect();
    format!("ExecStartPre={}\nExecStopPost=-/bin/rm -f {to}\n", copied((from, to), &keys, "p"))
}

/// Arguments that remove a container, whether or not it exists.
pub(super) fn remove(engine: Engine) -> &'static str {
    match engine {
        Engine::Podman => "/usr/bin/podman rm --force --ignore",
        Engine::Docker => "/usr/bin/docker rm --force",
    }
}

/// The line that removes an earlier one-off container of that name: `podman run --replace` does so itself.
pub(in crate::plan) fn clear(engine: Engine, container: &str) -> String {
    match engine {
        Engine::Podman => String::new(),
        Engine::Docker => {
            format!("ExecStartPre=-/bin/sh -c '{} {container} >/dev/null 2>&1'\n", remove(engine))
        }
    }
}

/// The line that removes a one-off container which outlived its client. `run --rm` has removed one that ended
/// well, and a further command of podman would cost each job 0.1 s of processor time.
pub(in crate::plan) fn sweep(engine: Engine, container: &str) -> String {
    let remove = format!("{} {container} >/dev/null 2>&1", remove(engine));
    format!("ExecStopPost=-/bin/sh -c 'test \"$$EXIT_CODE$$EXIT_STATUS\" = exited0 || {remove} || {remove}'")
}

/// The client for one-off containers. podman's own events would be most of a job's entries in the systemd
/// journal.
pub(in crate::plan) fn client(engine: Engine) -> &'static str {
    match engine {
        Engine::Podman => "/usr/bin/podman --events-backend=none",
        Engine::Docker => engine.client(),
    }
}

/// Arguments of a one-off container after `APP_ARGS`: its output goes only to the unit's stdout, and no READY
/// is expected. With `split` the container is in the unit's control group, so that it ends with the unit.
pub(in crate::plan) fn args(
    engine: Engine,
    entrypoint: &[String],
    env: &BTreeMap<EnvKey, String>,
) -> Vec<String> {
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

/// The stop timeout of a one-off container, whose process 1 often ignores SIGTERM; then it is killed.
pub(in crate::plan) fn stop(of: &Service) -> String {
    span(of.stop_timeout + Duration::from_secs(2))
}
