//! Problems of an environment, with their location and fix: shared by `check`, `doctor` and the preflight of
//! a deploy, so that all three agree.

use super::{BadEnv, Mute, desired, missing, with};
use crate::config::{Config, EnvSource};
use crate::model::envfile::{EnvFile, UNIT_KEYS, is_placeholder, service_keys};
use crate::model::name::EnvKey;
use crate::model::observed::Given;
use crate::model::problem::Problem;
use crate::model::secret::Secret;
use crate::model::staged::Staged;

/// Every reason for a deploy to refuse the environment, each with its variable; no text contains a value.
pub fn judge(config: &Config, current: &EnvFile, staged: &Staged, given: &Given) -> Vec<(EnvKey, Problem)> {
    let unread = &given.unread;
    let mute = unread.iter().map(|(key, why)| {
        if stays(config, current, key) {
            let what = format!("{}: {key} keeps its committed value: {why}", place(config, key));
            let fix = "deploys go on with that value; the next one asks again";
            return (key.clone(), Problem::note("env_source", what, fix));
        }
        let what = format!("{}: {key} has no value: {why}", place(config, key));
        let fix = "a deploy is refused until its source gives one; a rollback keeps the committed value";
        (key.clone(), Problem::config("env_source", what, fix))
    });
    // The rest is judged as if they had one.
    let mut all = given.clone();
    all.values.extend(unread.keys().map(|key| (key.clone(), Secret::new("unread"))));
    let mut bad = None;
    let wanted = match desired(config, current, staged, &all, Mute::Refuse) {
        Ok(wanted) => wanted.file,
        Err(error) => {
            bad = value_problem(config, error);
            with(current, staged).unwrap_or_else(|_| current.clone())
        }
    };
    let others = flaws(config, &wanted, staged).into_iter().filter(|(key, _)| !unread.contains_key(key));
    mute.chain(bad).chain(others).collect()
}

/// A value that an env file cannot have. It keeps the others from being judged with theirs.
fn value_problem(config: &Config, error: BadEnv) -> Option<(EnvKey, Problem)> {
    let BadEnv::Value { key, error } = error else { return None };
    let what = format!("{}: {key}: {error}", place(config, &key));
    let fix = "such a value can be a file instead: mount it (`volumes`), and set the variable to its path";
    Some((key, Problem::config("env_source", what, fix)))
}

/// Whether a variable keeps its committed value while its source gives none.
fn stays(config: &Config, current: &EnvFile, key: &EnvKey) -> bool {
    let has = || current.get(key.as_str()).is_some_and(|value| !is_placeholder(value.reveal()));
    config.env.get(key).is_some_and(EnvSource::is_remote) && has()
}

/// Problems of the environment that a deploy would bring.
pub fn flaws(config: &Config, wanted: &EnvFile, staged: &Staged) -> Vec<(EnvKey, Problem)> {
    let required = missing(config, wanted).into_iter().map(|key| {
        let fix = match config.env.get(&key) {
            Some(EnvSource::Literal(_)) => "give it a value there".to_owned(),
            Some(EnvSource::File(path)) => format!("write the value into {}", path.display()),
            Some(EnvSource::Host { .. }) => "name other facts or texts there".to_owned(),
            Some(EnvSource::Secret { .. } | EnvSource::Parameter(_)) => "give it a value in AWS".to_owned(),
            Some(EnvSource::Generate { .. }) | None => {
                format!("set it with `astra-agent env set {key}`, or under [env] in agent.toml")
            }
        };
        let problem = Problem::config("env_missing", lacking(config, wanted, staged, &key), fix);
        (key, problem)
    });
    let file = config.name.env_file();
    let reserved = UNIT_KEYS.into_iter().filter(|key| wanted.get(key).is_some());
    let reserved = reserved.filter_map(|key| key.parse().ok()).map(|key: EnvKey| {
        let what = format!("{}: {key} is reserved for the units", file.display());
        let fix = format!("give the variable another name; `astra-agent env unset {key}` removes this one");
        (key, Problem::config("env_reserved", what, fix))
    });
    required.chain(reserved).chain(of_services(config, wanted)).collect()
}

/// A new service needs lines whose names a variable of the application has until now.
fn of_services(config: &Config, wanted: &EnvFile) -> Vec<(EnvKey, Problem)> {
    let keys = config.others.keys().flat_map(|name| service_keys(*name).map(|key| (*name, key)));
    let taken = keys.filter(|(_, key)| wanted.get(key).is_some() && !wanted.is_managed(key));
    let problem = |(service, key): (_, String)| {
        let what = format!(
            "{}: {key} is the agent's own line for [services.{service}]",
            config.name.env_file().display()
        );
        let fix = format!(
            "give the service another name, or the variable; `astra-agent env unset {key}` removes this one"
        );
        Some((key.parse().ok()?, Problem::config("env_reserved", what, fix)))
    };
    taken.filter_map(problem).collect()
}

/// Where a required variable should be set, and its current state.
fn lacking(config: &Config, wanted: &EnvFile, staged: &Staged, key: &EnvKey) -> String {
    let name = &config.name;
    match config.env.get(key) {
        Some(EnvSource::Literal(_)) => {
            format!(
                "{}: {key} is required, but [env] has an empty text or a placeholder for it",
                place(config, key)
            )
        }
        Some(EnvSource::Host { .. } | EnvSource::Secret { .. } | EnvSource::Parameter(_)) => {
            format!("{}: {key} is required, but its source gives a placeholder", place(config, key))
        }
        Some(EnvSource::File(path)) => {
            format!(
                "{}: {key} is required, but {} is empty or has a placeholder",
                place(config, key),
                path.display()
            )
        }
        Some(EnvSource::Generate { .. }) | None => {
            let is_staged = staged.set.get(key.as_str()).is_some();
            let file = if is_staged { name.staged_env() } else { name.env_file() };
            let state = match wanted.get(key.as_str()) {
                Some(_) => "empty or a placeholder",
                None if staged.unset.contains(key) => "to be removed by the next deploy",
                None => "missing",
            };
            format!("{}: {key} is required, but {state}", file.display())
        }
    }
}

fn place<'c>(config: &'c Config, key: &EnvKey) -> &'c str {
    config.env_places.get(key).map_or("[env]", String::as_str)
}
