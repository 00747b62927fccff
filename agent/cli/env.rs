//! `env check|list|set|unset`: the app's environment, with values masked. Changes are staged beside astra.env
//! until the next deploy, so a restart or a rollback still uses the environment that worked.

use std::path::Path;

use anyhow::anyhow;
use serde::Serialize;
use serde_json::json;

use super::turn::Turn;
use super::{Env, check, out, session, unit};
use crate::config::{Config, EnvSource};
use crate::converge::Refused;
use crate::host::files::Files;
use crate::host::lock::Lock;
use crate::model::envfile::EnvFile;
use crate::model::name::EnvKey;
use crate::model::problem::{Cause, Problem};
use crate::model::staged::Staged;
use crate::plan::env;

mod input;

pub(super) async fn run(what: &Env, json: bool) -> Result<u8, Refused> {
    session::root()?;
    match what {
        Env::Check => check::run(&super::Check::default(), json).await,
        Env::List => list(json),
        Env::Set { key, empty } => set(key, *empty, json).await,
        Env::Unset { key } => unset(key, json).await,
    }
}

/// A variable in `env list`.
#[derive(Debug, Serialize)]
struct Variable {
    key: String,
    /// The file that holds its value.
    from: String,
    /// How the next deploy changes it, if it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_deploy: Option<&'static str>,
}

fn list(json: bool) -> Result<u8, Refused> {
    let config = session::config()?;
    let (current, staged) = session::env_files(&config)?;
    let wanted = env::with(&current, &staged).map_err(|e| Refused::from(anyhow!("{e}")))?;
    let mut keys = current.keys();
    keys.extend(wanted.keys());
    keys.extend(config.env.keys().map(ToString::to_string));
    keys.sort();
    keys.dedup();
    keys.retain(|key| !current.is_managed(key));
    let all: Vec<Variable> = keys.into_iter().map(|key| variable(&config, &current, &staged, key)).collect();
    if json {
        out::json(&json!({ "variables": all }));
        return Ok(0);
    }
    let width = all.iter().map(|v| v.key.len()).max().unwrap_or_default();
    for Variable { key, from, next_deploy } in &all {
        let next = next_deploy.map(|what| format!(", {what} by the next deploy")).unwrap_or_default();
        out::line(&format!("{:<1$}   {from}{next}", format!("{key}=***"), width + 4));
    }
    Ok(0)
}

fn variable(config: &Config, current: &EnvFile, staged: &Staged, key: String) -> Variable {
    let name = key.parse::<EnvKey>().ok();
    let source = name.as_ref().and_then(|key| config.env.get(key));
    let waits = staged.set.get(&key);
    let has = current.get(&key);
    let path = match source {
        Some(source) if !source.is_generated() => {
            name.as_ref().and_then(|key| config.env_places.get(key)).cloned().unwrap_or_default()
        }
        _ if waits.is_some() => config.name.staged_env().display().to_string(),
        _ => config.name.env_file().display().to_string(),
    };
    let from = match source {
        Some(EnvSource::File(file)) => format!("{path}: {}", file.display()),
        Some(EnvSource::Host { facts, .. }) => format!("{path}: {} of the instance", facts.join(", ")),
        Some(EnvSource::Secret { id, key: None }) => format!("{path}: secret {id}"),
        Some(EnvSource::Secret { id, key: Some(key) }) => format!("{path}: {key} of secret {id}"),
        Some(EnvSource::Parameter(name)) => format!("{path}: parameter {name}"),
        Some(EnvSource::Generate { .. }) => format!("{path}, generated"),
        Some(EnvSource::Literal(_)) | None => path,
    };
    let given = match source {
        Some(EnvSource::Literal(value)) => Some(value),
        _ => waits.as_ref(),
    };
    let left = source.is_none() && waits.is_none() && has.is_some();
    let recorded = || current.managed().ok().flatten().map(|lines| lines.keys).unwrap_or_default();
    let next_deploy = match &name {
        Some(name) if left && (staged.unset.contains(name) || recorded().contains(name)) => Some("removed"),
        _ if has.is_none() => Some("set"),
        _ if given.is_some() && given != has.as_ref() => Some("changed"),
        _ => None,
    };
    Variable { key, from, next_deploy }
}

fn usage(error: anyhow::Error) -> Refused {
    Refused::of(Cause::Config, error)
}

/// A key of `[env]` always overrides a staged value, so setting it has no effect.
fn refuse_fixed(config: &Config, key: &EnvKey, what: &str) -> Result<(), Refused> {
    let fixed = match config.env.get(key) {
        Some(EnvSource::Literal(_)) => "its value stands there: change it",
        Some(EnvSource::File(_)) => "its value comes from the file named there: change that file",
        Some(EnvSource::Host { .. }) => {
            "its value comes from the metadata of the instance: change the facts or texts there"
        }
        Some(EnvSource::Secret { .. } | EnvSource::Parameter(_)) => {
            "its value comes from AWS: change it there, and `deploy`"
        }
        Some(EnvSource::Generate { .. }) | None => return Ok(()),
    };
    let place = config.env_places.get(key).map_or("[env]", String::as_str);
    let what = format!("{what} {key}: {place} sets it, and [env] wins");
    Err(Problem::config("env_fixed", what, format!("{fixed}, or take the line out")).into())
}

async fn lock(command: &str) -> Result<Lock, Refused> {
    session::directories()?;
    let actor = unit::actor(false);
    let turn = Turn { command, actor: &actor, wait: None, hint: "try again when it has ended" };
    turn.take(out::warning, |_| ()).await
}

async fn set(key: &EnvKey, empty: bool, json: bool) -> Result<u8, Refused> {
    let config = session::config()?;
    refuse_fixed(&config, key, "setting")?;
    let secret = input::value(key, empty).await?;
    let lock = lock("astra-agent env set").await?;
    let (mut current, mut staged) = session::env_files(&config)?;
    // Values that astra.env cannot hold are refused now rather than by the deploy.
    for file in [&mut staged.set, &mut current] {
        file.set(key.as_str(), &secret).map_err(|e| usage(anyhow!("setting {key}: {e}")))?;
    }
    staged.unset.remove(key);
    write(&config, &staged)?;
    drop(lock);
    say(key, json, "set", "is saved; it takes effect with `astra-agent deploy`");
    Ok(0)
}

async fn unset(key: &EnvKey, json: bool) -> Result<u8, Refused> {
    let config = session::config()?;
    if session::env_files(&config)?.0.is_managed(key.as_str()) {
        return Err(usage(anyhow!("removing {key}: it is the agent's own, and only a deploy changes it")));
    }
    refuse_fixed(&config, key, "removing")?;
    if let Some(place) = config.env_places.get(key) {
        let fix = "take the line out first, or the next deploy generates a new value";
        return Err(Problem::config("env_fixed", format!("removing {key}: {place} generates it"), fix).into());
    }
    if config.services().any(|service| service.required_env.contains(key)) {
        let (what, fix) = (
            format!("removing {key}: it is in required_env of agent.toml"),
            "take it out of required_env first",
        );
        return Err(Problem::config("env_missing", what, fix).into());
    }
    let lock = lock("astra-agent env unset").await?;
    let (current, mut staged) = session::env_files(&config)?;
    let waited = staged.set.remove(key.as_str());
    let has = current.get(key.as_str()).is_some();
    let news = has && staged.unset.insert(key.clone());
    if waited || news {
        write(&config, &staged)?;
    }
    drop(lock);
    match (has, waited) {
        (true, _) => say(key, json, "removed", "will be removed by the next `astra-agent deploy`"),
        (false, true) => say(key, json, "withdrawn", "was only staged; the staged value is removed"),
        (false, false) => say(key, json, "absent", "is not set"),
    }
    Ok(0)
}

fn write(config: &Config, staged: &Staged) -> Result<(), Refused> {
    let files = Files::new(Path::new("/"));
    let path = config.name.staged_env();
    if staged.is_empty() {
        files.remove(&path)?;
        return Ok(());
    }
    Ok(files.write_atomic(&path, &staged.render(), 0o600)?)
}

fn say(key: &EnvKey, json: bool, state: &str, words: &str) {
    if json {
        out::json(&json!({ "key": key, "state": state }));
    } else {
        out::line(&format!("{key} {words}"));
    }
}
