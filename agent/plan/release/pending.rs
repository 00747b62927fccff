//! Changes of a deploy besides the image: for `status`, which resolves no tag.

use super::fingerprint;
use crate::model::envfile::{EnvFile, ManagedLines};
use crate::model::name::EnvKey;
use crate::model::observed::Running;
use crate::plan::env::Mute;
use crate::plan::own_files::{self, OwnFiles};
use crate::plan::{Inputs, accessories, env, files, moves, units};

/// One line for each difference that waits for a deploy.
pub fn pending(inputs: &Inputs<'_>) -> Vec<String> {
    let Some(committed) = inputs.committed() else { return Vec::new() };
    let current = inputs.env_file();
    let given = &inputs.observed.env;
    let wanted = env::desired(inputs.config, &current, &inputs.staged(), given, Mute::Refuse);
    let mut asks_first = false;
    let (mut pending, wanted) = match wanted {
        Ok(wanted) => {
            let asks = |key: &EnvKey| format!("deploy would ask for {key}, which [env] names a source for");
            let mut pending = environment(&current, &wanted.file);
            pending.extend(wanted.without.iter().map(asks));
            asks_first = !wanted.without.is_empty();
            (pending, wanted.file)
        }
        Err(error) => {
            let why = error.told(&given.unread);
            (vec![format!("deploy would be refused: {why}")], current.clone())
        }
    };
    match own_files::of(inputs, &wanted, Mute::Refuse, |name| inputs.config.is_of_release(name)) {
        Ok(own) => pending.extend(services(inputs, &committed, &own)),
        // A template may need the variable that has no value yet.
        Err(_) if asks_first => {}
        Err(problem) => pending.push(format!("deploy would be refused: {}", problem.what)),
    }
    let known = inputs.history.releases.iter().find(|r| r.number == committed.release);
    let now = fingerprint(inputs, &current, &committed);
    if known.is_some_and(|r| r.fingerprint != now) && pending.is_empty() {
        let file = inputs.config.name.env_file();
        pending.push(format!("{} was edited by hand: deploy applies it", file.display()));
    }
    if !pending.is_empty() {
        pending.extend(image(inputs));
    }
    for (id, seen) in &inputs.observed.instances {
        let of = committed.of(id.service);
        let right = |r: &&Running| Some(r.release) == committed.since(id.service);
        let other = seen.runs.as_ref().filter(right).filter(|r| of.is_some_and(|of| of.image != r.image));
        if let Some(runs) = other {
            pending.push(format!(
                "instance {id} runs {}, astra.env names another image: deploy fixes that",
                runs.image
            ));
        }
    }
    pending.extend(own_files::lost(inputs).iter().map(ToString::to_string));
    pending.extend(moves::pending(inputs));
    pending.extend(accessories::pending(inputs));
    pending.extend(files::pending(inputs));
    pending
}

/// Services that a deploy would add, remove or change.
fn services(inputs: &Inputs<'_>, committed: &ManagedLines, own: &OwnFiles) -> Vec<String> {
    let gone = committed.services.keys().filter(|name| inputs.config.service(**name).is_none());
    let mut pending: Vec<_> =
        gone.map(|name| format!("deploy would take the service {name} out of the release")).collect();
    for service in inputs.config.services() {
        let name = service.name;
        let Some(of) = committed.of(name) else {
            pending.push(format!("deploy would start the service {name}"));
            continue;
        };
        let args = units::app_args(service, inputs.engine, &inputs.config.name, own.mounts_of(name));
        let same = args == of.args
            && units::app_command(service) == of.command
            && own.env_of(name) == of.env
            && service.web().map(|web| web.port) == of.port;
        let whose =
            if name.is_app() { "the container".to_owned() } else { format!("the container of {name}") };
        if !same {
            pending
                .push(format!("deploy would change the arguments, command, environment or port of {whose}"));
        }
    }
    pending
}

/// The variables that a deploy would set and remove.
fn environment(current: &EnvFile, wanted: &EnvFile) -> Vec<String> {
    let (set, removed): (Vec<_>, Vec<_>) =
        env::changed(current, wanted).into_iter().partition(|key| wanted.get(key.as_str()).is_some());
    let mut pending = Vec::new();
    for (what, keys) in [("change", set), ("remove from", removed)] {
        let names: Vec<_> = keys.iter().map(ToString::to_string).collect();
        if !names.is_empty() {
            pending.push(format!("deploy would {what} the environment: {}", names.join(", ")));
        }
    }
    pending
}

/// How to deploy that without another image, if a plain deploy may bring one.
fn image(inputs: &Inputs<'_>) -> Option<String> {
    let way = "`astra-agent deploy --keep-image` brings this to the image that serves";
    if inputs.is_chosen() {
        return Some(format!("the image is pinned: {way}, a plain `deploy` follows the tag again"));
    }
    let held = inputs.history.held.last()?;
    Some(format!("release {} is held: {way}", held.release.number))
}
