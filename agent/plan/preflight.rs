//! Preconditions of a deploy. For a rollback they are only warnings: it must work on a broken host.

use super::{Inputs, env, signatures};
use crate::config::Network;
use crate::model::envfile::EnvFile;
use crate::model::image::PinnedImage;

/// A reason not to begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub what: String,
    /// How to fix it.
    pub hint: String,
    /// The cause is the config or the env file, not the host.
    pub config: bool,
}

/// All reasons not to deploy `image`, in the order in which to fix them.
pub fn problems(inputs: &Inputs<'_>, wanted: &EnvFile, image: &PinnedImage) -> Vec<Problem> {
    let mut problems = Vec::new();
    let flaws = env::flaws(inputs.config, wanted, &inputs.staged()).into_iter();
    problems.extend(flaws.map(|flaw| Problem { what: flaw.what, hint: flaw.hint, config: true }));
    let taken: Vec<_> = ["PORT", "HOST"].into_iter().filter(|key| wanted.get(key).is_some()).collect();
    if inputs.config.app.network == Network::Host && !taken.is_empty() {
        problems.push(Problem {
            what: format!("with network = \"host\" each instance gets its own {}", taken.join(" and ")),
            hint: "remove it from [env] in agent.toml and from the env file".into(),
            config: true,
        });
    }
    for source in &inputs.observed.missing_sources {
        problems.push(Problem {
            what: format!("a volume mounts {}, which is not there", source.display()),
            hint: "put it there, or change [app] volumes".into(),
            config: false,
        });
    }
    let free = inputs.observed.free_bytes;
    let least = inputs.config.deploy.min_free;
    if let Some(free) = free.filter(|free| *free < least) {
        problems.push(Problem {
            what: format!(
                "the image store has {} MiB free, [deploy] min_free wants {}",
                free >> 20,
                least >> 20
            ),
            hint: "free disk space, or lower min_free".into(),
            config: false,
        });
    }
    if inputs.observed.engine.is_none() {
        problems.push(Problem {
            what: "the container engine does not answer".into(),
            hint: "start it: `systemctl start podman.socket` (or docker); `journalctl -u podman` says why it fails".into(),
            config: false,
        });
    }
    if inputs.observed.caddy.is_none() && inputs.committed().is_some() {
        problems.push(Problem {
            what: "Caddy does not answer on its admin socket".into(),
            hint: "`systemctl restart astra-caddy` ends a hang; `journalctl -u astra-caddy` says why it does not run"
                .into(),
            config: false,
        });
    }
    problems.extend(signatures::problem(inputs, image));
    for id in inputs.config.instances().chain(inputs.config.spare()) {
        if inputs.observed.taken.contains(&id) {
            let target = inputs.target(id);
            problems.push(Problem {
                what: format!("another process listens on the port of {target} ({})", target.upstream.port()),
                hint: format!(
                    "find it with `ss -tlnp sport = :{}`, or change [app] base_port",
                    target.upstream.port()
                ),
                config: false,
            });
        }
    }
    problems
}
