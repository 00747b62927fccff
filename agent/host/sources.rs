//! The sources of `[env]`: random values, files, and facts of the EC2 instance. Called by observe.rs for a plan, and by
//! cli/check.rs, so that both agree.

use anyhow::Result;

use super::facts;
use super::imds::Imds;
use crate::config::{Config, EnvSource};
use crate::model::observed::Given;

/// Reads every source of `[env]`. A generated value is used only if none is kept yet. A source without a value is no
/// error here: only a deploy needs it, and refuses. With `imds: None` no service outside the host is asked.
///
/// # Errors
///
/// The kernel gives no random bytes.
pub async fn env_values(config: &Config, imds: Option<&Imds>) -> Result<Given> {
    let mut given = Given { asked: imds.is_some(), ..Given::default() };
    for (key, source) in &config.env {
        let value = match source {
            EnvSource::Literal(_) | EnvSource::Host { .. } => continue,
            EnvSource::Generate { length } => Ok(facts::random_text(*length)?),
            EnvSource::File(path) => facts::only_line(path).map_err(|error| format!("{error:#}")),
        };
        given.add(key, value);
    }
    if let Some(imds) = imds {
        facts_of_instance(config, imds, &mut given).await;
    }
    Ok(given)
}

/// All facts with one token.
async fn facts_of_instance(config: &Config, imds: &Imds, given: &mut Given) {
    let wanted = || {
        config.env.iter().filter_map(|(key, source)| match source {
            EnvSource::Host { facts, also } => Some((key, facts, also)),
            _ => None,
        })
    };
    let mut names: Vec<&str> = wanted().flat_map(|(_, facts, _)| facts).map(String::as_str).collect();
    names.sort_unstable();
    names.dedup();
    if names.is_empty() {
        return;
    }
    let found = imds.facts(&names).await.map_err(|error| error.to_string());
    for (key, facts, also) in wanted() {
        let value = found.as_ref().map_err(Clone::clone).and_then(|found| {
            let of = |fact: &String| {
                names.binary_search(&fact.as_str()).ok().and_then(|at| found.get(at)?.clone())
            };
            let parts: Vec<String> = facts.iter().filter_map(of).chain(also.iter().cloned()).collect();
            match parts.is_empty() {
                true => Err(format!("this instance has no {}", facts.join(" and no "))),
                false => Ok(parts.join(",")),
            }
        });
        given.add(key, value);
    }
}
