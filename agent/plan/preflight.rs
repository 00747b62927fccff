//! Preconditions of a deploy. For a rollback they are only warnings: it must work on a broken host.

use std::collections::BTreeSet;

use super::{Inputs, checks, env, signatures};
use crate::config::{Network, Service};
use crate::model::envfile::{EnvFile, ManagedLines};
use crate::model::problem::Problem;

/// All reasons not to deploy `lines`, in the order in which to fix them.
pub fn problems(inputs: &Inputs<'_>, wanted: &EnvFile, lines: &ManagedLines) -> Vec<Problem> {
    let flaws = env::flaws(inputs.config, wanted, &inputs.staged());
    let mut problems: Vec<_> = flaws.into_iter().map(|(_, problem)| problem).collect();
    problems.extend(own_ports(inputs, wanted));
    problems.extend(checks::volumes(inputs));
    problems.extend(checks::disk(inputs));
    problems.extend(checks::engine(inputs));
    problems.extend(checks::caddy(inputs));
    let images: BTreeSet<_> = lines.all().map(|(_, of)| &of.image).collect();
    problems.extend(images.into_iter().find_map(|image| signatures::problem(inputs, image)));
    let instances = inputs.config.instances().chain(inputs.config.spares());
    problems.extend(instances.filter_map(|id| checks::port(inputs, id)));
    problems
}

/// On the host's network each instance is told its own address, so the environment cannot name one.
fn own_ports(inputs: &Inputs<'_>, wanted: &EnvFile) -> Option<Problem> {
    let taken: Vec<_> = ["PORT", "HOST"].into_iter().filter(|key| wanted.get(key).is_some()).collect();
    let on_host = |service: &Service| service.web().is_some() && service.network == Network::Host;
    if !inputs.config.services().any(on_host) || taken.is_empty() {
        return None;
    }
    let what = format!("with network = \"host\" each instance gets its own {}", taken.join(" and "));
    let fix = "remove it from [env] in agent.toml and from the env file";
    Some(Problem::config("env_reserved", what, fix))
}
