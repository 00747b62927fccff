//! `check`: validates agent.toml, its fragments, the env file and the files that `[env]` names. With FILE or
//! --root it validates a config of another host, and nothing else.

use std::path::Path;

use serde_json::json;

use super::{Check, out, session};
use crate::config::{self, Config, Service};
use crate::converge::Refused;
use crate::host::files::Files;
use crate::host::imds::{self, Imds};
use crate::host::sources;
use crate::model::envfile::EnvFile;
use crate::model::outcome::EXIT_USAGE;
use crate::model::problem::{Problem, Severity};
use crate::model::staged::Staged;
use crate::plan::env::{self, Mute};
use crate::plan::{checks, own_files};

/// Checks that need more than the config.
const NOT_CHECKED: [&str; 5] = [
    "the env file and required_env",
    "the files that volumes mount",
    "the templates of [files]",
    "the image",
    "[caddy] extra",
];

/// The result of a check: errors (exit code 2), warnings, and the checks that were left out.
#[derive(Default)]
struct Found {
    problems: Vec<String>,
    warnings: Vec<String>,
    not_checked: &'static [&'static str],
}

pub async fn run(what: &Check, json: bool) -> Result<u8, Refused> {
    let found = match (&what.file, &what.root) {
        (Some(file), _) => config_alone(config::load_one(file)),
        (None, Some(root)) => config_alone(config::load(root)),
        (None, None) => this_host().await,
    }?;
    if json {
        out::json(&json!({
            "ok": found.problems.is_empty(), "problems": found.problems, "warnings": found.warnings,
            "not_checked": found.not_checked,
        }));
    } else {
        show(&found);
    }
    Ok(if found.problems.is_empty() { 0 } else { EXIT_USAGE })
}

fn show(found: &Found) {
    for warning in &found.warnings {
        out::warning(warning);
    }
    for problem in &found.problems {
        out::error(problem);
    }
    if found.problems.is_empty() {
        out::line("ok");
    }
    if !found.not_checked.is_empty() {
        out::line(&format!("not checked: {}", found.not_checked.join(", ")));
    }
}

fn config_alone(config: Result<Config, config::ConfigErrors>) -> Result<Found, Refused> {
    let config = config.map_err(session::wrong_config)?;
    Ok(Found { warnings: notices(&config), not_checked: &NOT_CHECKED, ..Found::default() })
}

fn notices(config: &Config) -> Vec<String> {
    config.notices.iter().map(ToString::to_string).collect()
}

async fn this_host() -> Result<Found, Refused> {
    session::root()?;
    let config = session::config()?;
    let (file, staged) = session::env_files(&config)?;
    let mut found = Found { warnings: notices(&config), ..Found::default() };
    let missing = Files::new(Path::new("/")).missing(config.all_services().flat_map(Service::volume_sources));
    found.warnings.extend(missing.iter().map(|source| checks::volume(source).to_string()));
    found.problems.extend(lines(&config, &file, &staged));
    found.problems.extend(release(&config, &file));
    let mut given = sources::local(&config)?;
    sources::ask(&config, &Imds::at(imds::ENDPOINT), &mut given).await;
    let (notes, flaws): (Vec<_>, Vec<_>) = env::judge(&config, &file, &staged, &given)
        .into_iter()
        .partition(|(_, problem)| problem.severity == Severity::Note);
    found.warnings.extend(notes.into_iter().map(|(_, note)| note.to_string()));
    // A template would say again that a variable is missing.
    if flaws.is_empty() {
        let wanted = env::desired(&config, &file, &staged, &given, Mute::Refuse);
        let wanted = wanted.map_or_else(|_| file.clone(), |wanted| wanted.file);
        let files = Files::new(Path::new("/"));
        let seen = |path: &Path| Some(files.read(path).ok()??.bytes);
        found.problems.extend(own_files::judge(&config, &wanted, seen).iter().map(ToString::to_string));
    }
    found.problems.extend(flaws.into_iter().map(|(_, problem)| problem.to_string()));
    Ok(found)
}

/// Lines that a container and systemd read differently, except those that the next deploy rewrites.
fn lines(config: &Config, file: &EnvFile, staged: &Staged) -> Vec<String> {
    let path = config.name.env_file();
    let replaced = |key: &str| {
        let named = |key| config.env.contains_key(&key) || staged.unset.contains(&key);
        staged.set.get(key).is_some() || key.parse().is_ok_and(named)
    };
    let lasting = file.check().into_iter().filter(|p| !p.key.as_deref().is_some_and(replaced));
    lasting
        .map(|problem| {
            let place = format!("{}:{}", path.display(), problem.line);
            match problem.key.as_deref() {
                Some(key) if key.parse::<crate::model::name::EnvKey>().is_ok() => Problem::config(
                    "env_line",
                    format!("{place}: {key}: {}", problem.reason),
                    format!("`astra-agent env set {key}` writes it as both read it alike"),
                ),
                _ => Problem::config("env_line", format!("{place}: {}", problem.reason), "edit that line"),
            }
        })
        .map(|problem| problem.to_string())
        .collect()
}

/// The release named in the file must have been written by a deploy of this agent.
fn release(config: &Config, file: &EnvFile) -> Option<String> {
    let error = file.managed().err()?;
    let path = config.name.env_file();
    let fix = "before the first deploy of this agent, delete the line APP_IMAGE; after it, `astra-agent doctor` says \
                what to write";
    Some(Problem::config("app_image", format!("{}: {error}", path.display()), fix).to_string())
}
