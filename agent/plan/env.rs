//! What the app's env file should hold, and which of its keys changed. Values go from secret to secret; every
//! message names keys alone. Called by plan/release.rs and plan/preflight.rs.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::{Config, EnvSource};
use crate::model::envfile::{EnvError, EnvFile, MANAGED_KEYS, is_placeholder};
use crate::model::name::EnvKey;
use crate::model::secret::Secret;
use crate::model::staged::Staged;

mod flaws;

pub use flaws::{Flaw, flaws, judge};

/// Why there is no desired env file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadEnv {
    #[error("setting {key} in the env file: {error}")]
    Value { key: EnvKey, error: EnvError },
    #[error("setting {key} in the env file: its source gave no value")]
    NoValue { key: EnvKey },
}

impl BadEnv {
    /// The whole story, where the host knows why a source is mute.
    pub fn told(&self, unread: &BTreeMap<EnvKey, String>) -> String {
        match self {
            Self::NoValue { key } => {
                unread.get(key).map_or_else(|| self.to_string(), |why| format!("{self}: {why}"))
            }
            Self::Value { .. } => self.to_string(),
        }
    }
}

/// What becomes of a variable whose source gives no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mute {
    /// There is no env file without it.
    Refuse,
    /// The line that is there stays: the way back must not depend on a source.
    Keep,
}

/// The env file that the app should have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub file: EnvFile,
    /// Generated values that no file holds yet.
    pub made: BTreeMap<EnvKey, Secret>,
    /// Variables that keep their value although their source gave none.
    pub kept: Vec<EnvKey>,
}

/// The env file that the app should have: what was `staged` and what `[env]` names is set, what `[env]` named at the
/// last commit and names no more goes, all else stays as `current` has it.
/// `given` holds the values of the `generate` and `file` sources; a generated value is only taken while the file has
/// none, because the old one may already protect data.
pub fn desired(
    config: &Config,
    current: &EnvFile,
    staged: &Staged,
    given: &BTreeMap<EnvKey, Secret>,
    mute: Mute,
) -> Result<Wanted, BadEnv> {
    let mut file = with(current, staged)?;
    for key in gone(config, current, staged) {
        file.remove(key.as_str());
    }
    let mut wanted = Wanted { file, made: BTreeMap::new(), kept: Vec::new() };
    for (key, source) in &config.env {
        let has = wanted.file.get(key.as_str());
        let made = matches!(source, EnvSource::Generate { .. });
        if made && has.as_ref().is_some_and(|v| !is_placeholder(v.reveal())) {
            continue;
        }
        let value = match source {
            EnvSource::Literal(value) => Some(value),
            EnvSource::Generate { .. } | EnvSource::File(_) => given.get(key),
        };
        let Some(value) = value else {
            if mute == Mute::Refuse || has.is_none() {
                return Err(BadEnv::NoValue { key: key.clone() });
            }
            wanted.kept.push(key.clone());
            continue;
        };
        if made {
            wanted.made.insert(key.clone(), value.clone());
        }
        if has.as_ref() != Some(value) {
            let set = wanted.file.set(key.as_str(), value);
            set.map_err(|error| BadEnv::Value { key: key.clone(), error })?;
        }
    }
    Ok(wanted)
}

/// The variables that stand in the env file because `[env]` names them. A generated one is not among them: what it
/// protects outlives its line in agent.toml.
pub fn recorded(config: &Config) -> BTreeSet<EnvKey> {
    let fixed = config.env.iter().filter(|(_, source)| !matches!(source, EnvSource::Generate { .. }));
    fixed.map(|(key, _)| key.clone()).collect()
}

/// Variables that `[env]` named at the last commit, and names no more.
fn gone(config: &Config, current: &EnvFile, staged: &Staged) -> Vec<EnvKey> {
    let recorded = current.managed().ok().flatten().map(|lines| lines.keys).unwrap_or_default();
    let named = |key: &EnvKey| config.env.contains_key(key) || staged.set.get(key.as_str()).is_some();
    recorded.into_iter().filter(|key| !named(key)).collect()
}

/// `current` with what was `staged`.
pub fn with(current: &EnvFile, staged: &Staged) -> Result<EnvFile, BadEnv> {
    let mut wanted = current.clone();
    for key in &staged.unset {
        wanted.remove(key.as_str());
    }
    for key in staged.set.keys().iter().filter_map(|key| key.parse::<EnvKey>().ok()) {
        let Some(value) =
            staged.set.get(key.as_str()).filter(|value| wanted.get(key.as_str()).as_ref() != Some(value))
        else {
            continue;
        };
        wanted.set(key.as_str(), &value).map_err(|error| BadEnv::Value { key, error })?;
    }
    Ok(wanted)
}

/// Names under `required_env` that `env` lacks, or has as an empty text or `...`.
pub fn missing(config: &Config, env: &EnvFile) -> Vec<EnvKey> {
    let lacks = |key: &&EnvKey| env.get(key.as_str()).is_none_or(|value| is_placeholder(value.reveal()));
    config.app.required_env.iter().filter(lacks).cloned().collect()
}

/// Names whose value a container would get differently. The managed lines mean nothing to a container, and a
/// name that is none cannot be written by the agent: both stay out.
pub fn changed(old: &EnvFile, new: &EnvFile) -> Vec<EnvKey> {
    let keys: BTreeSet<_> = old.keys().into_iter().chain(new.keys()).collect();
    keys.into_iter()
        .filter(|key| !MANAGED_KEYS.contains(&key.as_str()) && old.get(key) != new.get(key))
        .filter_map(|key| key.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests;
