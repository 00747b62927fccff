//! What the app's env file should hold, and which of its keys changed. Values go from secret to secret; every
//! message names keys alone. Called by plan/release.rs and plan/preflight.rs.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::{Config, EnvSource};
use crate::model::envfile::{EnvError, EnvFile, MANAGED_KEYS, is_placeholder};
use crate::model::name::EnvKey;
use crate::model::secret::Secret;

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
            Self::NoValue { key } if unread.contains_key(key) => format!(
                "{self}: {}\n  hint: the file must be root's, and so must the directories on the way: the agent has no \
                 right to look into those of others",
                unread.get(key).map(String::as_str).unwrap_or_default()
            ),
            _ => self.to_string(),
        }
    }
}

/// The env file that the app should have: what was `staged` (`env set`) and what `[env]` names is set, all else stays
/// as `current` has it.
/// `generated` holds the values of the `generate` and `file` sources; a generated value is only taken while
/// the file has none, because the old one may already protect data.
pub fn desired(
    config: &Config,
    current: &EnvFile,
    staged: &EnvFile,
    generated: &BTreeMap<EnvKey, Secret>,
) -> Result<EnvFile, BadEnv> {
    let mut wanted = with(current, staged)?;
    for (key, source) in &config.env {
        let has = wanted.get(key.as_str());
        let value = match source {
            EnvSource::Literal(value) => value,
            EnvSource::Generate { .. } if has.as_ref().is_some_and(|v| !is_placeholder(v.reveal())) => {
                continue;
            }
            EnvSource::Generate { .. } | EnvSource::File(_) => {
                generated.get(key).ok_or_else(|| BadEnv::NoValue { key: key.clone() })?
            }
        };
        if has.as_ref() != Some(value) {
            wanted.set(key.as_str(), value).map_err(|error| BadEnv::Value { key: key.clone(), error })?;
        }
    }
    Ok(wanted)
}

/// `current` with the values of `staged`.
pub fn with(current: &EnvFile, staged: &EnvFile) -> Result<EnvFile, BadEnv> {
    let mut wanted = current.clone();
    for key in staged.keys().iter().filter_map(|key| key.parse::<EnvKey>().ok()) {
        let Some(value) =
            staged.get(key.as_str()).filter(|value| current.get(key.as_str()).as_ref() != Some(value))
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
mod tests {
    use super::*;

    fn config(env: &str) -> Config {
        let text = format!(
            "app.image = \"ghcr.io/a/b:c\"\napp.required_env = [\"A\", \"S\", \"P\", \"E\"]\n[env]\n{env}"
        );
        crate::config::parse(&[("agent.toml".into(), text)]).unwrap()
    }

    fn values(pairs: &[(&str, &str)]) -> BTreeMap<EnvKey, Secret> {
        pairs.iter().map(|(k, v)| (k.parse().unwrap(), Secret::new(*v))).collect()
    }

    fn none() -> EnvFile {
        EnvFile::default()
    }

    fn names(keys: &[EnvKey]) -> Vec<&str> {
        keys.iter().map(EnvKey::as_str).collect()
    }

    #[test]
    fn literals_and_files_are_set_and_the_rest_is_kept() {
        let config = config("A = \"new\"\nF = { file = \"/x\" }\n");
        let old = EnvFile::parse("# c\nA=old\nF=same\nOTHER='as it is'\n");
        let new = desired(&config, &old, &none(), &values(&[("F", "same")])).unwrap();
        assert_eq!(new.render(), b"# c\nA=new\nF=same\nOTHER='as it is'\n");
        assert_eq!(names(&changed(&old, &new)), ["A"]);
        assert_eq!(desired(&config, &new, &none(), &values(&[("F", "same")])).unwrap(), new, "it converges");
    }

    #[test]
    fn a_generated_value_is_made_once() {
        let config = config("S = { generate = 32 }\n");
        let made = values(&[("S", "made")]);
        for (before, after) in
            [("", "S=made\n"), ("S=\n", "S=made\n"), ("S=...\n", "S=made\n"), ("S=kept\n", "S=kept\n")]
        {
            let env = desired(&config, &EnvFile::parse(before), &none(), &made).unwrap();
            assert_eq!(String::from_utf8(env.render()).unwrap(), after, "{before:?}");
        }
        assert!(desired(&config, &EnvFile::parse("S=kept"), &none(), &BTreeMap::new()).is_ok());
        let error = desired(&config, &EnvFile::default(), &none(), &BTreeMap::new()).unwrap_err();
        assert_eq!(error, BadEnv::NoValue { key: "S".parse().unwrap() });
        let unread = [("S".parse().unwrap(), "reading /root/s: Permission denied".to_owned())].into();
        assert!(
            error
                .told(&unread)
                .contains("its source gave no value: reading /root/s: Permission denied\n  hint: ")
        );
        assert!(error.told(&BTreeMap::new()).ends_with("its source gave no value"));
    }

    #[test]
    fn what_was_set_comes_before_what_is_there_and_after_what_the_config_says() {
        let config = config("A = \"config\"\nS = { generate = 32 }\n");
        let (old, staged) =
            (EnvFile::parse("A=1\nS=old\nP=1\nE=1\n"), EnvFile::parse("A=2\nS=mine\nP=2\nN=2\n"));
        let new = desired(&config, &old, &staged, &values(&[("S", "made")])).unwrap();
        assert_eq!(new.render(), b"A=config\nS=mine\nP=2\nE=1\nN=2\n");
    }

    #[test]
    fn a_value_that_cannot_be_written_is_refused_unseen() {
        let config = config("F = { file = \"/x\" }\n");
        let error =
            desired(&config, &EnvFile::default(), &none(), &values(&[("F", "'hunter2'")])).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"));
        assert!(error.to_string().starts_with("setting F in the env file: "));
    }

    #[test]
    fn required_names() {
        let env = EnvFile::parse("A=1\nP=...\nE=\n");
        assert_eq!(names(&missing(&config(""), &env)), ["S", "P", "E"]);
    }

    #[test]
    fn managed_lines_are_no_change() {
        let (old, new) =
            (EnvFile::parse("APP_ARGS=x\nB=1\nC.D=1\n"), EnvFile::parse("ASTRA_RELEASE=2\nC.D=2\nN=\n"));
        assert_eq!(names(&changed(&old, &new)), ["B", "N"]);
    }
}
