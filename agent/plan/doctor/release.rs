//! The committed release: astra.env, the journal, and the rollback target.

use super::Inputs;
use crate::model::checkup::Checkup;
use crate::model::envfile::{EnvError, EnvProblem};
use crate::model::name::{JOURNAL_DIR, LAST_APP_IMAGE};
use crate::model::problem::Problem;
use crate::plan::own_files;
use crate::plan::prune::lost_way_back;

pub(super) fn findings(inputs: &Inputs<'_>, checkup: &Checkup) -> Vec<Problem> {
    let mut found = env_file(inputs);
    found.extend(journal(inputs, checkup));
    if checkup.running.is_none() {
        found.extend(leftovers(inputs));
        found.extend(way_back(inputs));
    }
    found.extend(own_files::lost(inputs));
    found.extend(pins(inputs, checkup));
    found
}

fn env_file(inputs: &Inputs<'_>) -> Vec<Problem> {
    let file = inputs.env_file();
    let path = inputs.config.name.env_file();
    let path = path.display();
    let mut found = Vec::new();
    let mut blamed = None;
    match file.managed() {
        Ok(Some(_)) => {}
        Ok(None) if inputs.history.commits.is_empty() => {
            let fix = "`astra-agent install`";
            found.push(Problem::host("installed", "no release was ever committed on this host", fix));
        }
        Ok(None) => {
            found.push(Problem::host("app_image", format!("{path} names no release"), inputs.name_again()));
        }
        Err(error) => {
            let pin = match inputs.history.current() {
                Some(release) => format!("write `APP_IMAGE={}` into {path}", release.image),
                None => format!("write `APP_IMAGE=REPOSITORY@sha256:…` into {path}"),
            };
            let fix = match &error {
                EnvError::Image(..) | EnvError::Unnumbered if inputs.history.commits.is_empty() => format!(
                    "delete the line APP_IMAGE from {path}, which only a deploy of the agent writes, then `astra-agent \
                     install`"
                ),
                EnvError::Image(..) => format!("{pin}, then `astra-agent reconcile`"),
                EnvError::Hidden(line) => format!("fix line {line}, then `astra-agent reconcile`"),
                _ => format!("fix the line in {path}, then `astra-agent reconcile`"),
            };
            if let EnvError::Hidden(line) = error {
                blamed = Some(line);
            }
            let what = format!("{path} names no release that can be read: {error}");
            found.push(Problem::host("app_image", what, fix));
        }
    }
    let staged = inputs.staged();
    let replaced = |key: &str| staged.set.get(key).is_some();
    let lasting = |p: &&EnvProblem| !p.key.as_deref().is_some_and(replaced) && Some(p.line) != blamed;
    for problem in file.check().iter().filter(lasting) {
        let fix = match problem.key.as_deref().filter(|key| key.parse::<crate::model::name::EnvKey>().is_ok())
        {
            Some(key) => {
                format!("`astra-agent env set {key}` writes it in the one form that both read alike")
            }
            None => {
                format!("edit line {} of {path}; `astra-agent check` says when it is right", problem.line)
            }
        };
        found.push(Problem::host("env_line", format!("{path}:{}: {}", problem.line, problem.reason), fix));
    }
    let flaws = crate::plan::env::judge(inputs.config, &file, &inputs.staged(), &inputs.observed.env);
    found.extend(flaws.into_iter().map(|(_, problem)| problem));
    found
}

fn journal(inputs: &Inputs<'_>, checkup: &Checkup) -> Vec<Problem> {
    let history = inputs.history;
    let mut found = Vec::new();
    if let Some(damage) = &history.damaged {
        let fix = format!(
            "move the file that it names out of {JOURNAL_DIR}, then `astra-agent history` and `astra-agent \
             recover`; until then automatic runs are suspended"
        );
        found.push(Problem::host("journal", format!("the journal is damaged: {damage}"), fix));
    }
    match (&checkup.running, history.open_runs().next()) {
        (Some(who), _) => {
            let fix = "wait for it; what it leaves on its way was not judged";
            found.push(Problem::note("running", format!("a run is under way: {who}"), fix));
        }
        (None, Some(run)) => {
            let verb = run.opened().map_or("a run", |o| o.verb.as_str());
            let what = format!("run {} ({verb}) was cut off and never closed", run.id);
            found.push(Problem::host("open_run", what, "`astra-agent recover`"));
        }
        (None, None) => {}
    }
    found
}

/// Leftovers of a cut-off run.
fn leftovers(inputs: &Inputs<'_>) -> Vec<Problem> {
    let observed = inputs.observed;
    let mut found = Vec::new();
    let mut paths: Vec<_> = observed.trials.iter().map(|id| id.trial_file()).collect();
    if observed.trial_env {
        paths.push(crate::model::name::TRIAL_ENV.into());
    }
    for path in paths {
        let what =
            format!("{} is left over: an instance that restarts would run what it names", path.display());
        found.push(Problem::host("trial_file", what, "`astra-agent recover`"));
    }
    for id in &observed.markers {
        let path = id.marker();
        let what = format!("{} keeps Caddy from sending requests to instance {id}", path.display());
        let fix = format!("`astra-agent reconcile`, or `rm {}` if it is not intended", path.display());
        found.push(Problem::host("marker", what, fix));
    }
    for path in &observed.leftovers {
        let what = format!("{} is what a cut-off write left", path.display());
        found.push(Problem::host(
            "temp_file",
            what,
            format!("`astra-agent reconcile`, or `rm {}`", path.display()),
        ));
    }
    found
}

fn way_back(inputs: &Inputs<'_>) -> Vec<Problem> {
    let mut found = Vec::new();
    let target = inputs.history.rollback_target();
    let seen = inputs.observed.files.get(std::path::Path::new(LAST_APP_IMAGE));
    let said = seen.map(|f| String::from_utf8_lossy(&f.bytes).trim().to_owned());
    let true_one = target.map(|r| r.image.to_string());
    if said != true_one && inputs.history.damaged.is_none() {
        let show = |image: &Option<String>| image.clone().unwrap_or_else(|| "nothing".to_owned());
        let what =
            format!("{LAST_APP_IMAGE} says {}, and a rollback would go to {}", show(&said), show(&true_one));
        found.push(Problem::host("last_app_image", what, "`astra-agent reconcile`"));
    }
    for image in lost_way_back(inputs) {
        let what = format!("the image that a rollback goes to is not on this host: {image}");
        let client = inputs.engine.client().rsplit('/').next().unwrap_or("podman");
        let fix =
            format!("`{client} pull {image}`; the timer does so within the hour, when the registry has it");
        found.push(Problem::host("rollback_image", what, fix));
    }
    found
}

fn pins(inputs: &Inputs<'_>, checkup: &Checkup) -> Vec<Problem> {
    let mut found = Vec::new();
    if inputs.is_chosen() {
        let what = format!("what runs was chosen by hand: {} is not followed", inputs.config.image);
        found.push(Problem::note("pinned", what, "`astra-agent deploy` follows the tag again"));
    }
    let newest = inputs.history.current().map(|current| checkup.newest(current));
    if let Some(held) = newest.and_then(|newest| inputs.history.held_for_timer(&newest)) {
        let what = format!(
            "a deploy of the newest images is refused: release {} ({}) is held: {}",
            held.release.number,
            held.short(),
            held.reason.lines().next().unwrap_or_default()
        );
        let fix = "push a fixed image; `astra-agent deploy --force` tries this one again";
        found.push(Problem::note("held", what, fix));
    }
    found
}
