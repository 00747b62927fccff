//! The release that a deploy tries: its number, and the lines of each service.

use std::collections::BTreeSet;

use super::{Refusal, Request};
use crate::config::Service;
use crate::model::envfile::{EnvFile, ManagedLines, ServiceLines};
use crate::model::fingerprint::Fingerprint;
use crate::model::image::PinnedImage;
use crate::model::instance::ServiceName;
use crate::model::release::{Candidate, Release};
use crate::plan::env::Mute;
use crate::plan::own_files::{self, OwnFiles};
use crate::plan::{Inputs, env, units};

/// A release to try, and the services whose containers it replaces.
pub(super) struct Trial {
    pub candidate: Candidate,
    pub touched: BTreeSet<ServiceName>,
    pub own: OwnFiles,
}

pub(super) fn trial(
    inputs: &Inputs<'_>,
    request: &Request,
    current: &EnvFile,
    wanted: &EnvFile,
) -> Result<Trial, Refusal> {
    let config = inputs.config;
    let committed = inputs.committed();
    let mute = if request.lenient { Mute::Keep } else { Mute::Refuse };
    let included = |name| {
        // A rollback starts no service that never served here.
        let starts = !request.lenient || !inputs.waits(name);
        starts && inputs.config.services().any(|of| of.name == name && request.only.includes(of))
    };
    let own = own_files::of(inputs, wanted, mute, included);
    let own = own.map_err(|problem| Refusal::Preflight(vec![problem]))?;
    let service = |of: &Service, image: &PinnedImage| ServiceLines {
        image: image.clone(),
        args: units::app_args(of, inputs.engine, &config.name, own.mounts_of(of.name)),
        command: units::app_command(of),
        port: of.web().map(|web| web.port),
        since: None,
        env: own.env_of(of.name),
    };
    // A service that the request does not name stays as it is, or out.
    let as_is = |of: &Service| committed.as_ref().and_then(|lines| lines.of(of.name)).cloned();
    let lines_of = |of: &Service| match request.only.includes(of) {
        true => Some(service(of, request.image_of(of)?)),
        false => as_is(of),
    };
    // A rollback starts no service that never served here.
    let others = config.others.values().filter(|of| !request.lenient || !inputs.waits(of.name));
    let services = others.filter_map(|of| Some((of.name, lines_of(of)?))).collect();
    let app = lines_of(&config.app).unwrap_or_else(|| service(&config.app, &request.image));
    let mut lines = ManagedLines { release: 0, app, services, keys: env::recorded(config) };
    let fingerprint = fingerprint(inputs, wanted, &lines);
    let newest = |c: &ManagedLines| c.all().filter_map(|(name, _)| c.since(name)).chain([c.release]).max();
    let at_least = committed.as_ref().and_then(newest).unwrap_or_default();
    lines.release = inputs.history.number_for(&request.image.digest, &fingerprint, at_least);
    let kept = match &committed {
        Some(committed) => {
            let recorded = is_recorded(inputs, committed, current);
            let same = env::changed(current, wanted).is_empty();
            keep(&mut lines, committed, |of| recorded && (same || of.env.is_some()))
        }
        None => BTreeSet::new(),
    };
    wanted.with_managed(&lines).map_err(|e| Refusal::Env(e.to_string()))?;
    let mut touched: BTreeSet<_> =
        lines.all().map(|(name, _)| name).filter(|name| !kept.contains(name)).collect();
    if touched.is_empty() && committed.is_some_and(|c| c.release == lines.release) {
        // The same release again, for a migration that was asked for.
        touched = kept;
        touched.retain(|name| config.service(*name).is_none_or(|of| request.only.includes(of)));
    }
    let release = Release { fingerprint, ..release_of(inputs, wanted, &lines) };
    Ok(Trial { candidate: Candidate { release, lines }, touched, own })
}

/// The release of these lines.
pub(super) fn release_of(inputs: &Inputs<'_>, wanted: &EnvFile, lines: &ManagedLines) -> Release {
    let images = inputs.config.own_images(lines);
    let fingerprint = fingerprint(inputs, wanted, lines);
    Release { number: lines.release, image: lines.app.image.clone(), images, fingerprint }
}

/// A service keeps its containers, and the release number in their labels, if a new container would be the same.
/// `same_env` says whether its environment is the same; the name of an own env file already covers the content.
fn keep(
    lines: &mut ManagedLines,
    committed: &ManagedLines,
    same_env: impl Fn(&ServiceLines) -> bool,
) -> BTreeSet<ServiceName> {
    let release = lines.release;
    let keep = |name: ServiceName, of: &mut ServiceLines| {
        let same = same_env(of) && committed.of(name).is_some_and(|old| old.starts_as(of));
        if same {
            of.since = committed.since(name).filter(|since| *since != release);
        }
        same.then_some(name)
    };
    let app = keep(ServiceName::app(), &mut lines.app);
    app.into_iter().chain(lines.services.iter_mut().filter_map(|(name, of)| keep(*name, of))).collect()
}

/// Whether astra.env is as it was when its release was committed.
pub(super) fn is_recorded(inputs: &Inputs<'_>, committed: &ManagedLines, current: &EnvFile) -> bool {
    let recorded = inputs.history.releases.iter().find(|r| r.number == committed.release);
    recorded.is_some_and(|r| r.is_of(committed) && r.fingerprint == fingerprint(inputs, current, committed))
}

/// The fingerprint of what changes the containers: variables, arguments, commands, ports, and images other than the
/// app's.
pub(in crate::plan) fn fingerprint(
    inputs: &Inputs<'_>,
    wanted: &EnvFile,
    lines: &ManagedLines,
) -> Fingerprint {
    let mut parts: Vec<Vec<u8>> = Vec::new();
    for key in wanted.keys().into_iter().filter(|key| !wanted.is_managed(key)) {
        let value = wanted.get(&key).unwrap_or_default();
        parts.push(format!("{key}={}", value.reveal()).into_bytes());
    }
    parts.sort();
    parts.extend(of_service(&lines.app));
    for (name, of) in &lines.services {
        parts.push(format!("service {name}").into_bytes());
        parts.extend((of.image != lines.app.image).then(|| format!("image {}", of.image).into_bytes()));
        parts.extend(of_service(of));
    }
    inputs.key.fingerprint(parts.iter().map(Vec::as_slice))
}

fn of_service(lines: &ServiceLines) -> Vec<Vec<u8>> {
    let words = |title: &str, words: &[String]| {
        std::iter::once(title.to_owned())
            .chain(words.iter().cloned())
            .map(String::into_bytes)
            .collect::<Vec<_>>()
    };
    let port = lines.port.map(|port| format!("port {port}").into_bytes());
    let env = lines.env.as_ref().map(|path| format!("env {}", path.display()).into_bytes());
    let words = [words("args", &lines.args), words("command", &lines.command)].concat();
    words.into_iter().chain(port).chain(env).collect()
}
