//! Arguments that `podman run` and `docker run` have in common. Called by units.rs, cron.rs and release.rs.

use crate::config::{Container, Service};

/// The part of `APP_ARGS` other than image, command and limits.
pub(super) fn args(container: &Container) -> Vec<String> {
    let flag = |on: bool, flag: &str| on.then(|| flag.to_owned());
    let mut args: Vec<String> = entrypoint_arg(&container.entrypoint).into_iter().collect();
    args.extend(flag(container.init, "--init"));
    args.extend(container.stop_signal.iter().map(|signal| format!("--stop-signal={signal}")));
    args.extend(container.user.iter().map(|user| format!("--user={user}")));
    args.extend(container.ulimits.iter().map(|(name, limit)| format!("--ulimit={name}={limit}")));
    args.extend(container.add_hosts.iter().map(|(name, address)| format!("--add-host={name}:{address}")));
    args.extend(flag(!container.healthcheck, "--no-healthcheck"));
    args.extend(flag(container.read_only, "--read-only"));
    args.extend(container.tmpfs.iter().map(|path| format!("--tmpfs={path}")));
    args.extend(container.shm_size.map(|bytes| format!("--shm-size={bytes}b")));
    args.extend(container.cap_drop.iter().map(|name| format!("--cap-drop={name}")));
    args.extend(container.cap_add.iter().map(|name| format!("--cap-add={name}")));
    args
}

/// docker accepts one word here and podman JSON as well, so the other words of an entry point are placed
/// before the command.
pub(super) fn entrypoint_arg(entrypoint: &[String]) -> Option<String> {
    entrypoint.first().map(|program| format!("--entrypoint={program}"))
}

/// The words after the image: the rest of the entry point, then the command.
pub fn argv(entrypoint: &[String], command: &[String]) -> Vec<String> {
    entrypoint.iter().skip(1).chain(command).cloned().collect()
}

/// The entry point of a one-off container: its own, else the app's.
pub fn entrypoint<'a>(own: &'a [String], app: &'a Service) -> &'a [String] {
    if own.is_empty() { &app.container.entrypoint } else { own }
}
