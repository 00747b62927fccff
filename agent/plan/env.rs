//! The desired env file of the app, and its changed keys. Values are passed as secrets; messages name only
//! keys. Called by plan/release.rs and plan/preflight.rs.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::{Config, EnvSource};
use crate::model::envfile::{EnvError, EnvFile, is_placeholder};
use crate::model::name::EnvKey;
use crate::model::observed::Given;
use crate::model::secret::Secret;
use crate::model::staged::Staged;

mod flaws;

pub use flaws::{flaws, judge};

/// Why there is no desired env file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadEnv {
    /// A value that an env file cannot have.
    #[error("setting {key} in the env file: {error}")]
    Value {
        /// The variable.
        key: EnvKey,
        /// Why its value cannot be in an env file.
        error: EnvError,
    },
    /// A variable whose source gave no value.
    #[error("setting {key} in the env file: its source gave no value")]
    NoValue {
        /// The variable.
        key: EnvKey,
    },
}

impl BadEnv {
    /// The message, with the reason why a source gave no value, if known.
    pub fn told(&self, unread: &BTreeMap<EnvKey, String>) -> String {
        match self {
            Self::NoValue { key } => {
                unread.get(key).map_or_else(|| self.to_string(), |why| format!("{self}: {why}"))
            }
            Self::Value { .. } => self.to_string(),
        }
    }
}

/// How to treat a variable whose source gives no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mute {
    /// Fail: there is no desired env file. A source outside the host may be mute, if a value is committed.
    Refuse,
    /// Keep the current line: a rollback must not depend on a source.
    Keep,
}

/// The desired env file of the app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The env file with its old managed lines.
    pub file: EnvFile,
    /// Generated values that no file has yet.
    pub made: BTreeMap<EnvKey, Secret>,
    /// Variables that keep their value because their source gave none.
    pub kept: Vec<EnvKey>,
    /// Variables without a value, whose source was not asked.
    pub without: Vec<EnvKey>,
}

/// The desired env file: `staged` changes and the variables of `[env]` are set, variables that left `[env]`
/// since the last commit are removed, everything else stays as in `current`. A generated value is only used if the
/// file has none, because the old one may already protect data.
///
/// # Errors
///
/// An env file cannot have one of the values, or with [`Mute::Refuse`] a source gave none.
pub fn desired(
    config: &Config,
    current: &EnvFile,
    staged: &Staged,
    given: &Given,
    mute: Mute,
) -> Result<Wanted, BadEnv> {
    let mut file = with(current, staged)?;
    for key in gone(config, current, staged) {
        file.remove(key.as_str());
    }
    let mut wanted = Wanted { file, made: BTreeMap::new(), kept: Vec::new(), without: Vec::new() };
    for (key, source) in &config.env {
        if source.is_remote() {
            wanted.commit_again(current, key)?;
        }
        let has = wanted.file.get(key.as_str());
        match choose(source, has.as_ref(), given.values.get(key)) {
            Choice::Stays => {}
            Choice::Becomes(value) => {
                if source.is_generated() {
                    wanted.made.insert(key.clone(), value.clone());
                }
                let set = wanted.file.set(key.as_str(), value);
                set.map_err(|error| BadEnv::Value { key: key.clone(), error })?;
            }
            Choice::NoValue => wanted.mute(key, source, has.as_ref(), given.asked, mute)?,
        }
    }
    Ok(wanted)
}

impl Wanted {
    /// The committed value of a variable from a service outside the host: nothing can be staged for it.
    fn commit_again(&mut self, current: &EnvFile, key: &EnvKey) -> Result<(), BadEnv> {
        match current.get(key.as_str()) {
            Some(value) if self.file.get(key.as_str()).as_ref() != Some(&value) => {
                let set = self.file.set(key.as_str(), &value);
                set.map_err(|error| BadEnv::Value { key: key.clone(), error })?;
            }
            Some(_) => {}
            None => _ = self.file.remove(key.as_str()),
        }
        Ok(())
    }

    /// A variable whose source gave no value.
    fn mute(
        &mut self,
        key: &EnvKey,
        source: &EnvSource,
        has: Option<&Secret>,
        asked: bool,
        mute: Mute,
    ) -> Result<(), BadEnv> {
        let stays = match source.is_remote() {
            true => has.is_some_and(|value| !asked || !is_placeholder(value.reveal())),
            false => mute == Mute::Keep && has.is_some(),
        };
        let unasked = source.is_remote() && !asked;
        match (stays, unasked) {
            (true, true) => {}
            (true, false) => self.kept.push(key.clone()),
            (false, true) => self.without.push(key.clone()),
            (false, false) => return Err(BadEnv::NoValue { key: key.clone() }),
        }
        Ok(())
    }
}

/// The effect of a source on its variable.
enum Choice<'a> {
    Stays,
    Becomes(&'a Secret),
    NoValue,
}

fn choose<'a>(source: &'a EnvSource, has: Option<&Secret>, given: Option<&'a Secret>) -> Choice<'a> {
    let value = match source {
        EnvSource::Generate { .. } if has.is_some_and(|v| !is_placeholder(v.reveal())) => {
            return Choice::Stays;
        }
        EnvSource::Literal(value) => Some(value),
        EnvSource::Generate { .. }
        | EnvSource::File(_)
        | EnvSource::Host { .. }
        | EnvSource::Secret { .. }
        | EnvSource::Parameter(_) => given,
    };
    match value {
        None => Choice::NoValue,
        // A generated value is recorded even if the file has it already, as a placeholder.
        Some(value) if has == Some(value) && !source.is_generated() => Choice::Stays,
        Some(value) => Choice::Becomes(value),
    }
}

/// The variables that come from `[env]`. Generated ones are excluded: they stay when their line leaves
/// agent.toml, because of the data that they protect.
pub fn recorded(config: &Config) -> BTreeSet<EnvKey> {
    let fixed = config.env.iter().filter(|(_, source)| !matches!(source, EnvSource::Generate { .. }));
    fixed.map(|(key, _)| key.clone()).collect()
}

/// Variables that left `[env]` since the last commit.
fn gone(config: &Config, current: &EnvFile, staged: &Staged) -> Vec<EnvKey> {
    let recorded = current.managed().ok().flatten().map(|lines| lines.keys).unwrap_or_default();
    let named = |key: &EnvKey| config.env.contains_key(key) || staged.set.get(key.as_str()).is_some();
    recorded.into_iter().filter(|key| !named(key)).collect()
}

/// `current` with the `staged` changes.
///
/// # Errors
///
/// An env file cannot have one of the staged values.
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

/// Names under `required_env`, `secrets` and `env_only` of a migration that are missing in `env`, empty, or `...`.
pub fn missing(config: &Config, env: &EnvFile) -> Vec<EnvKey> {
    let lacks = |key: &&EnvKey| env.get(key.as_str()).is_none_or(|value| is_placeholder(value.reveal()));
    let mut missing: Vec<EnvKey> = Vec::new();
    for service in config.services() {
        let given = |key: &EnvKey| service.env.get(key).is_some_and(|value| !is_placeholder(value));
        let own = |key: &&EnvKey| given(key) || service.secrets.contains_key(*key);
        let only = service.migrate.iter().flat_map(|migrate| migrate.env_only.iter().flatten());
        let required = service.required_env.iter().chain(only).filter(|key| !own(key));
        for key in required.chain(service.secrets.values()).filter(lacks) {
            if !missing.contains(key) {
                missing.push(key.clone());
            }
        }
    }
    missing
}

/// Names whose value changes for a container. Excludes the managed lines, which a container ignores, and
/// invalid names, which the agent cannot write.
pub fn changed(old: &EnvFile, new: &EnvFile) -> Vec<EnvKey> {
    let keys: BTreeSet<_> = old.keys().into_iter().chain(new.keys()).collect();
    keys.into_iter()
        .filter(|key| !old.is_managed(key) && !new.is_managed(key) && old.get(key) != new.get(key))
        .filter_map(|key| key.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests;
