//! `check`: agent.toml, its fragments and the env file, without touching or asking anything else.

use serde_json::json;

use super::{out, session};
use crate::converge::Refused;
use crate::model::outcome::EXIT_USAGE;
use crate::plan::env;

pub fn run(json: bool) -> Result<u8, Refused> {
    let config = session::config()?;
    let path = config.app.name.env_file();
    let (file, staged) = session::env_files(&config)?;
    let lines = file.check().into_iter().map(|p| format!("{}:{}: {}", path.display(), p.line, p.reason));
    let wanted = env::with(&file, &staged).unwrap_or_else(|_| file.clone());
    let missing = env::missing(&config, &wanted).into_iter().filter(|key| !config.env.contains_key(key));
    let missing = missing.map(|key| {
        let what = format!("{}: {key} is required, but missing, empty or `...`", path.display());
        format!("{what}\n  hint: set it with `astra-agent env set {key}`")
    });
    let problems: Vec<String> = lines.chain(missing).collect();
    if json {
        out::json(&json!({ "ok": problems.is_empty(), "problems": problems }));
    } else if problems.is_empty() {
        out::line("ok");
    }
    for problem in problems.iter().filter(|_| !json) {
        out::error(problem);
    }
    Ok(if problems.is_empty() { 0 } else { EXIT_USAGE })
}
