//! The checks that the preflight of a deploy and `doctor` share, each in one wording.

use std::collections::BTreeSet;
use std::path::Path;

use super::Inputs;
use crate::config::Service;
use crate::model::instance::InstanceName;
use crate::model::problem::Problem;

/// Less free space for images than `[deploy] min_free`.
pub(super) fn disk(inputs: &Inputs<'_>) -> Option<Problem> {
    let least = inputs.config.deploy.min_free;
    let free = inputs.observed.free_bytes.filter(|free| *free < least)?;
    let (free, least) = (free >> 20, least >> 20);
    let what = format!("the image store has {free} MiB free, [deploy] min_free wants {least}");
    let fix = "see `podman system df` and `df -h`; free space, or lower min_free. Never `podman image prune -a`: it \
               removes the images for a rollback";
    Some(Problem::host("disk", what, fix))
}

/// The engine gives no version.
pub(super) fn engine(inputs: &Inputs<'_>) -> Option<Problem> {
    let answers = inputs.observed.engine.as_ref().is_some_and(|engine| !engine.version.is_empty());
    let fix = "`systemctl restart podman.socket podman.service` (or docker); `journalctl -u podman` says why it fails";
    (!answers).then(|| Problem::host("engine", "the container engine does not answer", fix))
}

/// Caddy does not answer, although a release was committed.
pub(super) fn caddy(inputs: &Inputs<'_>) -> Option<Problem> {
    let silent = inputs.observed.caddy.is_none() && inputs.committed().is_some();
    let fix = "`systemctl restart astra-caddy` ends a hang; `journalctl -u astra-caddy -n 50` says why it does not run";
    silent.then(|| Problem::host("caddy", "Caddy does not answer on its admin socket", fix))
}

/// Sources of volumes of the release that do not exist.
pub(super) fn volumes(inputs: &Inputs<'_>) -> impl Iterator<Item = Problem> {
    let sources: BTreeSet<&Path> = inputs.config.services().flat_map(Service::volume_sources).collect();
    let missing = inputs.observed.missing_sources.iter();
    missing.filter(move |source| sources.contains(source.as_path())).map(|source| volume(source))
}

/// The first source of a volume of this service that does not exist.
pub(super) fn volume_of(inputs: &Inputs<'_>, service: &Service) -> Option<Problem> {
    let mut sources = service.volume_sources();
    sources.find(|source| inputs.observed.missing_sources.contains(*source)).map(volume)
}

/// The source of a volume that does not exist.
pub fn volume(source: &Path) -> Problem {
    let what = format!("a volume mounts {}, which is not there", source.display());
    Problem::host("volume", what, "put it there, or change `volumes`")
}

/// Another process listens on the port of an instance that is down.
pub(super) fn port(inputs: &Inputs<'_>, id: InstanceName) -> Option<Problem> {
    let target = inputs.target(id);
    let port = target.upstream.filter(|_| inputs.observed.taken.contains(&id))?.port();
    Some(taken_port(port, &format!("of {target}")))
}

/// Another process listens on `port`, the port `of` an instance.
pub(super) fn taken_port(port: u16, of: &str) -> Problem {
    let fix = format!("find it with `ss -tlnp sport = :{port}` and end it, or change `base_port`");
    Problem::host("port", format!("another process listens on port {port} {of}"), fix)
}
