//! The arguments of `podman run` and `docker run` that belong to a release: `APP_ARGS` and `APP_COMMAND`.

use std::path::PathBuf;
use std::time::Duration;

use super::container;
use crate::config::{Accessory, Kind, Network, Service};
use crate::model::name::AppName;
use crate::model::observed::Engine;

/// A file of the release in a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Its path on this host.
    pub source: PathBuf,
    /// Its path there.
    pub target: String,
}

impl Mount {
    /// An engine must not make a directory of a source that is missing, as docker's `--volume` does; podman relabels for
    /// SELinux by `z`.
    fn arg(&self, engine: Engine) -> String {
        let (source, target) = (self.source.display(), &self.target);
        match engine {
            Engine::Podman => format!("--volume={source}:{target}:ro,z"),
            Engine::Docker => format!("--mount=type=bind,source={source},target={target},readonly"),
        }
    }
}

/// `APP_ARGS` of a release: the arguments of `podman run` or `docker run` for every container of the service: its
/// instances, and for the app migration and cron jobs. The release's fingerprint covers them.
pub fn app_args(app: &Service, engine: Engine, site: &AppName, mounts: &[Mount]) -> Vec<String> {
    let mut args = Vec::new();
    if engine == Engine::Podman {
        let who = if app.readiness.notify { "container" } else { "conmon" };
        args.push(format!("--sdnotify={who}"));
    }
    args.push(format!("--stop-timeout={}", whole_seconds(app.stop_timeout)));
    // A migration and a cron job must reach the same hosts as the instances.
    match app.network {
        Network::Bridge => {}
        Network::Host => {
            args.push("--network=host".to_owned());
            // Each instance gets its own values from its unit.
            let own = ["--env=PORT", "--env=HOST"].into_iter().filter(|_| app.web().is_some());
            args.extend(own.map(str::to_owned));
        }
        Network::Site => {
            args.push(network_arg(site));
            // The path to a web service is Caddy, which knows what is drained: it has no name.
            let name = matches!(app.kind, Kind::Worker(_)).then(|| format!("--network-alias={}", app.name));
            args.extend(name);
        }
    }
    args.extend(app.calls.iter().map(|name| format!("--add-host={name}:{}", name.address())));
    args.extend(app.memory.map(|bytes| format!("--memory={bytes}b")));
    args.extend(app.cpus.map(|cpus| format!("--cpus={cpus}")));
    args.extend(app.volumes.iter().map(|volume| format!("--volume={volume}")));
    args.extend(mounts.iter().map(|mount| mount.arg(engine)));
    args.extend(container::args(&app.container));
    args.extend(app.env.iter().map(|(key, value)| format!("--env={key}={value}")));
    args
}

/// `APP_COMMAND` of a release: the words after the image. Empty: the image's own.
pub fn app_command(of: &Service) -> Vec<String> {
    container::argv(&of.container.entrypoint, &of.command)
}

/// The argument that puts a container on the network of its site.
pub fn network_arg(site: &AppName) -> String {
    format!("--network={}", site.network())
}

/// The arguments for the container of an accessory.
pub fn accessory_args(
    accessory: &Accessory,
    engine: Engine,
    site: &AppName,
    mounts: &[Mount],
) -> Vec<String> {
    let mut args = app_args(&accessory.service, engine, site, mounts);
    args.extend(accessory.publish.iter().map(|ports| format!("--publish={ports}")));
    args
}

fn whole_seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}
