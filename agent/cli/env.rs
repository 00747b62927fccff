//! `env check|list|set`: the app's environment, values never shown. What is set waits beside astra.env for a deploy:
//! until then a restart, or a way back, runs with what worked.

use std::io::{IsTerminal, Read};
use std::path::Path;

use anyhow::{Context, anyhow};
use serde_json::json;

use super::{Env, check, out, session, turn, unit};
use crate::converge::Refused;
use crate::host::files::Files;
use crate::model::name::EnvKey;
use crate::model::outcome::EXIT_USAGE;
use crate::model::secret::Secret;
use crate::plan::env;

/// A value longer than this cannot stand in an env file anyway.
const LARGEST: u64 = 64 << 10;

pub(super) async fn run(what: &Env, json: bool) -> Result<u8, Refused> {
    session::root()?;
    match what {
        Env::Check => check::run(&super::Check::default(), json),
        Env::List => list(json),
        Env::Set { key } => set(key).await,
    }
}

fn list(json: bool) -> Result<u8, Refused> {
    let config = session::config()?;
    let (file, staged) = session::env_files(&config)?;
    let file = env::with(&file, &staged).map_err(|e| Refused::from(anyhow!("{e}")))?;
    if json {
        out::json(&json!({ "variables": file.keys() }));
        return Ok(0);
    }
    for key in file.keys() {
        let note = if staged.get(&key).is_some() { "   (with the next deploy)" } else { "" };
        out::line(&format!("{key}=***{note}"));
    }
    Ok(0)
}

async fn set(key: &EnvKey) -> Result<u8, Refused> {
    let config = session::config()?;
    if std::io::stdin().is_terminal() {
        out::line(&format!("value of {key}, then Enter and Ctrl-D:"));
    }
    let mut value = String::new();
    std::io::stdin().take(LARGEST).read_to_string(&mut value).context("reading the value")?;
    let value = value.strip_suffix('\n').unwrap_or(&value);
    session::directories()?;
    let lock = turn::take(
        "astra-agent env set",
        &unit::actor(false),
        None,
        "try again when it has ended",
        out::warning,
    )
    .await?;
    let (mut current, mut staged) = session::env_files(&config)?;
    let secret = Secret::new(value);
    // What astra.env cannot take is refused now, not in the deploy.
    for file in [&mut staged, &mut current] {
        file.set(key.as_str(), &secret)
            .map_err(|e| Refused { exit_code: EXIT_USAGE, error: anyhow!("setting {key}: {e}") })?;
    }
    Files::new(Path::new("/")).write_atomic(&config.app.name.staged_env(), &staged.render(), 0o600)?;
    drop(lock);
    out::line(&format!("{key} is set; the next `astra-agent deploy` brings it into service"));
    Ok(0)
}
