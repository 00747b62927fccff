//! The abstract host as the agent sees it.

use std::collections::BTreeSet;

use astra_agent::model::history::History;
use astra_agent::model::name::{AppName, CADDY_SOCKET_DIR, DRAIN_DIR, TRIAL_ENV, WORKING};
use astra_agent::model::observed::{
    CaddyRuns, CaddySeen, Engine, EngineSeen, FileSeen, ImageSeen, InstanceSeen, Observed, Running, Stray,
};
use astra_agent::model::unit::{ActiveState, LoadState, SubState, UnitFileState, UnitSeen};
use astra_agent::plan::Inputs;

use super::host::{APPS, ENV_FILE, Host, Instance, MOST, Stored, UNITS, Unit, id};
use super::site::{CADDY, Digest, KEY, Site, image};

pub fn inputs<'a>(site: Site, observed: &'a Observed, history: &'a History) -> Inputs<'a> {
    let (engine, agent) = (Engine::Podman, "/usr/local/bin/astra-agent");
    let config = site.config();
    Inputs { config, observed, history, key: &KEY, engine, agent, caddy_image: Some(&CADDY) }
}

pub fn look(host: &Host) -> Observed {
    let file = |(path, text): (&std::sync::Arc<str>, &super::site::Text)| {
        let mode = if &**path == ENV_FILE { 0o600 } else { 0o644 };
        (path.as_ref().into(), FileSeen { bytes: text.bytes().to_vec(), mode })
    };
    let runs = |caddy: &super::host::Caddy| CaddyRuns {
        caddyfile: caddy.noted.then(|| caddy.loaded.sha256().to_owned()),
        service: String::new(),
        env: String::new(),
    };
    let caddy = |caddy| CaddySeen { version: Some((2, 11)), runs: Some(runs(caddy)) };
    let numbers = |what: &dyn Fn(u8) -> bool| (1..=MOST).filter(|n| what(*n)).map(id).collect();
    let dirs = if host.dirs { vec![DRAIN_DIR.into(), CADDY_SOCKET_DIR.into()] } else { Vec::new() };
    let mut observed = Observed {
        files: host.disk.iter().map(file).collect(),
        markers: numbers(&|n| host.is_drained(n)),
        trials: numbers(&|n| host.trial(n).is_some()),
        working: host.run.contains(WORKING),
        trial_env: host.run.contains(TRIAL_ENV),
        dirs: dirs.into_iter().collect(),
        store_suspect: host.store.contains(&Stored::Damaged),
        unflushed: stored(host, &[Stored::Unflushed, Stored::Damaged]).map(|d| image(d).clone()).collect(),
        strays: (1..=MOST).filter(|n| host.strays & (1 << n) != 0).map(stray).collect(),
        images: stored(host, &[Stored::Unflushed, Stored::Damaged, Stored::Whole]).map(local).collect(),
        engine: Some(EngineSeen { engine: Engine::Podman, version: "5.4.2".into() }),
        caddy: host.caddy.as_ref().map(caddy),
        free_bytes: Some(100 << 30),
        ..Observed::default()
    };
    see_units(host, &mut observed);
    observed
}

fn see_units(host: &Host, observed: &mut Observed) {
    for (at, name) in UNITS.iter().enumerate() {
        let active = [host.caddy.is_some(), host.timer, false][at];
        let unit = unit(if active { Unit::Up } else { Unit::Down }, host.enabled[at], host.reload_due);
        observed.units.insert((*name).to_owned(), unit);
    }
    for n in 1..=MOST {
        let seen = host.instance(n);
        // systemd lists a unit that is loaded, and the agent asks for those that it wants.
        if *seen != Instance::default() {
            observed.instances.insert(id(n), instance(n, seen, host.reload_due));
        }
    }
}

fn instance(n: u8, seen: &Instance, reload_due: bool) -> InstanceSeen {
    let runs = seen.runs.map(|named| Running {
        release: named.number,
        image: image(named.digest).clone(),
        port: (n <= APPS).then_some(8000 + u16::from(n)),
    });
    InstanceSeen { unit: unit(seen.unit, seen.enabled, reload_due), runs, ready: seen.ready }
}

fn unit(state: Unit, enabled: bool, need_reload: bool) -> UnitSeen {
    let (active, sub) = match state {
        Unit::Down => (ActiveState::Inactive, SubState::parse("dead")),
        Unit::Looping => (ActiveState::Activating, SubState::AutoRestart),
        Unit::Up => (ActiveState::Active, SubState::parse("running")),
    };
    let enabled = if enabled { UnitFileState::Enabled } else { UnitFileState::Disabled };
    UnitSeen { load: LoadState::Loaded, active, sub, enabled, need_reload, ..UnitSeen::default() }
}

fn stored<'a>(host: &'a Host, states: &'a [Stored]) -> impl Iterator<Item = Digest> + 'a {
    let digests = host.store.iter().enumerate().filter(|(_, stored)| states.contains(stored));
    digests.map(|(digest, _)| u8::try_from(digest).unwrap())
}

fn local(digest: Digest) -> ImageSeen {
    let repo_digests: BTreeSet<_> = [image(digest).clone()].into();
    ImageSeen { id: format!("id{digest}"), repo_digests, created: 0 }
}

fn stray(n: u8) -> Stray {
    let name = "astra".parse::<AppName>().unwrap().container(id(n));
    Stray { id: n.to_string(), name }
}
