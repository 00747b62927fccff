//! `deploy SERVICE…`: whether nothing but those services would change.

use super::{Refusal, Request};
use crate::model::envfile::ManagedLines;
use crate::model::name::EnvKey;
use crate::model::problem::Problem;
use crate::plan::Inputs;

/// Refuses a request for some services that would change, add or remove others.
pub(super) fn check(
    inputs: &Inputs<'_>,
    request: &Request,
    committed: Option<&ManagedLines>,
    changed: &[EnvKey],
) -> Result<(), Refusal> {
    if request.only.0.is_empty() {
        return Ok(());
    }
    let refuse = |what: String| {
        let fix = "`astra-agent deploy` brings all services to it";
        Err(Refusal::Only(Problem::host("only", what, fix)))
    };
    let Some(committed) = committed else {
        return refuse("the first release of a host is of all services".to_owned());
    };
    let gone = committed.services.keys().find(|name| inputs.config.service(**name).is_none());
    if let Some(name) = gone {
        return refuse(format!("{name} is no longer in agent.toml, and part of the release"));
    }
    let others = inputs.config.services().any(|of| !request.only.includes(of) && !inputs.waits(of.name));
    if others && !changed.is_empty() {
        let keys: Vec<_> = changed.iter().map(ToString::to_string).collect();
        return refuse(format!("the environment changed, which all services have: {}", keys.join(", ")));
    }
    Ok(())
}
