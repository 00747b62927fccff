//! `deploy SERVICE…`: whether nothing but those services would change.

use super::candidate::is_recorded;
use super::{Refusal, Request};
use crate::config::Service;
use crate::model::envfile::{EnvFile, ManagedLines};
use crate::model::problem::Problem;
use crate::plan::{Inputs, env};

/// Refuses a request for some services that would change, add or remove others.
pub(super) fn check(
    inputs: &Inputs<'_>,
    request: &Request,
    committed: Option<&ManagedLines>,
    current: &EnvFile,
    wanted: &EnvFile,
) -> Result<(), Refusal> {
    if request.only.0.is_empty() {
        return Ok(());
    }
    let refuse = |what: String| {
        let fix = "`astra-agent deploy` brings all services to it";
        Err(Refusal::Only(Problem::host("only", what, fix)))
    };
    let Some(committed) = committed else {
        let what = "the first release of a host has all services";
        return Err(Refusal::Only(Problem::host("only", what, "`astra-agent install` begins")));
    };
    let gone = committed.services.keys().find(|name| inputs.config.service(**name).is_none());
    if let Some(name) = gone {
        return refuse(format!("{name} is no longer in agent.toml, and part of the release"));
    }
    let others =
        || inputs.config.services().filter(|of| !request.only.includes(of) && !inputs.waits(of.name));
    let moved = |of: &&Service| {
        committed.of(of.name).is_some_and(|c| c.image.repository != *inputs.config.image_of(of).repository())
    };
    if let Some(of) = others().find(moved) {
        return refuse(format!("{} gets its image from another repository", of.name));
    }
    let changed = env::changed(current, wanted);
    // An environment of their own stays as it is.
    let mut sharing = others().filter(|of| of.inherit_env).map(|of| of.name.to_string());
    let sharing = sharing.next();
    if let Some(name) = sharing.as_ref().filter(|_| !changed.is_empty()) {
        let keys: Vec<_> = changed.iter().map(ToString::to_string).collect();
        return refuse(format!("the environment changed, which {name} has as well: {}", keys.join(", ")));
    }
    if let Some(name) = sharing.filter(|_| !is_recorded(inputs, committed, current)) {
        let file = inputs.config.name.env_file();
        return refuse(format!("{} was edited by hand, and {name} reads it as well", file.display()));
    }
    Ok(())
}
