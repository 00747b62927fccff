//! Whether a request of the timer brings new values of the sources outside the host, and nothing else: an operator
//! decides on all other changes.

use super::candidate::{is_recorded, trial};
use super::{Request, source_warnings};
use crate::config::EnvSource;
use crate::model::envfile::EnvFile;
use crate::model::name::EnvKey;
use crate::model::plan::Plan;
use crate::plan::env::Wanted;
use crate::plan::{Inputs, env};

/// The plan without steps, unless new values alone would be deployed. `wanted` has the answers of the sources.
pub(super) fn nothing(
    inputs: &Inputs<'_>,
    request: &Request,
    current: &EnvFile,
    wanted: &Wanted,
) -> Option<Plan> {
    let mut warnings = source_warnings(inputs, current, wanted);
    let changed = env::changed(current, &wanted.file);
    if !changed.is_empty() {
        let other = other_change(inputs, request, current, &changed)?;
        warnings.push(format!("new values of the sources of [env] wait for a `deploy`: {other}"));
    }
    Some(Plan { warnings, ..Plan::default() })
}

/// Another change that a deploy would bring, in words.
fn other_change(
    inputs: &Inputs<'_>,
    request: &Request,
    current: &EnvFile,
    changed: &[EnvKey],
) -> Option<String> {
    let Some(committed) = inputs.committed() else { return Some("no release is committed".to_owned()) };
    if !is_recorded(inputs, &committed, current) {
        return Some("astra.env has another release or other variables than the journal".to_owned());
    }
    let staged = inputs.staged();
    if let Some(key) = staged.set.keys().into_iter().next() {
        return Some(format!("{key} is staged"));
    }
    if let Some(key) = staged.unset.first() {
        return Some(format!("{key} is to be removed"));
    }
    let is_remote = |key| inputs.config.env.get(key).is_some_and(EnvSource::is_remote);
    if let Some(key) = changed.iter().find(|key| !is_remote(key)) {
        return Some(format!("{key} changed, too"));
    }
    // With the committed environment nothing else may differ.
    match trial(inputs, request, current, current) {
        Ok(trial) if committed.runs_as(&trial.candidate.lines) => None,
        Ok(_) => Some("arguments or services changed in agent.toml".to_owned()),
        Err(refusal) => Some(refusal.to_string()),
    }
}
