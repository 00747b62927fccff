//! Properties of generated histories, journals and hosts: the rollback target is never a held release, a
//! cut-off journal reads as the part written before the cut, and no plan stops the last serving instance.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail by panicking"
)]

use std::collections::{BTreeMap, BTreeSet};

use astra_agent::config::{self, Config};
use astra_agent::journal;
use astra_agent::model::entry::{Entry, Stamped, Verb};
use astra_agent::model::envfile::{EnvFile, ManagedLines, ServiceLines};
use astra_agent::model::fingerprint::HostKey;
use astra_agent::model::history::{History, RunRecord};
use astra_agent::model::image::PinnedImage;
use astra_agent::model::instance::InstanceName;
use astra_agent::model::observed::{
    CaddySeen, Engine, EngineSeen, FileSeen, InstanceSeen, Observed, Running,
};
use astra_agent::model::outcome::{Blame, Outcome};
use astra_agent::model::release::Release;
use astra_agent::model::secret::Secret;
use astra_agent::model::step::Step;
use astra_agent::model::unit::{ActiveState, LoadState, UnitFileState, UnitSeen};
use astra_agent::plan::instances::{self, RepairScope};
use astra_agent::plan::migrations::MigratePolicy;
use astra_agent::plan::release::{self, Request};
use astra_agent::plan::{Inputs, units};
use proptest::prelude::*;

fn image(number: u8) -> PinnedImage {
    format!("ghcr.io/a/b@sha256:{}", format!("{number:02x}").repeat(32)).parse().unwrap()
}

fn release(number: u64, of: u8) -> Release {
    let fingerprint = HostKey::new([0; 32]).fingerprint([[of].as_slice()]);
    Release { number, image: image(of), images: BTreeMap::new(), fingerprint }
}

/// A release of a site whose front end has an image of its own; 0: it had no front end then.
fn with_front(number: u64, of: u8, front: u8) -> Release {
    let own = (front > 0).then(|| ("front".parse().unwrap(), image(0x80 + front)));
    let fingerprint = HostKey::new([0; 32]).fingerprint([[of, front].as_slice()]);
    Release { images: own.into_iter().collect(), fingerprint, ..release(number, of) }
}

fn verb() -> impl Strategy<Value = Verb> {
    prop::sample::select(vec![
        Verb::Install,
        Verb::Deploy,
        Verb::DeploySha,
        Verb::Rollback,
        Verb::Reconcile,
        Verb::Recover,
    ])
}

fn outcome() -> impl Strategy<Value = Outcome> {
    let blame = || prop::sample::select(vec![Blame::Release, Blame::Host]);
    prop_oneof![
        Just(Outcome::Converged),
        Just(Outcome::Incomplete),
        blame().prop_map(|blame| Outcome::Undone { blame }),
        blame().prop_map(|blame| Outcome::Failed { blame }),
    ]
}

/// A run as it may have been written, cut off anywhere, plausible or not.
fn run() -> impl Strategy<Value = Vec<Entry>> {
    let new = prop::option::weighted(0.8, (1..6u64, 1..5u8, 0..3u8));
    (verb(), new, any::<bool>(), any::<bool>(), prop::option::of(outcome()), any::<bool>(), 0..6usize)
        .prop_map(|(verb, new, pins, commits, closed, recovered, cut)| {
            let new = new.map(|(number, of, front)| with_front(number, of, front));
            let mut entries = vec![
                Entry::Opened {
                    verb,
                    actor: "a".into(),
                    agent: "0".into(),
                    plan: vec!["x".into()],
                    old: None,
                    new: new.clone(),
                    pins,
                    accessory: None,
                },
                Entry::Started { step: 0 },
                Entry::Done { step: 0, told: astra_agent::model::step_note::StepNote::note("é\n\"") },
            ];
            if let Some(release) = new.filter(|_| commits) {
                entries.push(Entry::Committed { release });
            }
            entries.extend(closed.map(|outcome| Entry::Closed { outcome, reason: None, recovered }));
            entries.truncate(entries.len().saturating_sub(cut / 3));
            entries
        })
}

fn records(runs: &[Vec<Entry>]) -> Vec<RunRecord> {
    let stamped = |(nth, entries): (usize, &Vec<Entry>)| RunRecord {
        id: nth as u64 + 1,
        entries: entries.iter().map(|entry| Stamped { at: nth as u64, entry: entry.clone() }).collect(),
    };
    runs.iter().enumerate().map(stamped).collect()
}

const SERVING: &str = "app.image = \"ghcr.io/a/b:c\"\n";

/// A host in some state: which instances run what, ready or not, drained or not, on trial or not.
#[derive(Clone, Debug)]
struct World {
    instances: u16,
    surge: bool,
    committed: Option<u8>,
    seen: Vec<(u8, bool, bool, bool)>,
    engine: bool,
    caddy: bool,
}

fn world() -> impl Strategy<Value = World> {
    let seen = prop::collection::vec((0..4u8, any::<bool>(), any::<bool>(), any::<bool>()), 5);
    let parts = (1..4u16, any::<bool>(), prop::option::weighted(0.9, 1..4u8), seen);
    (parts, prop::bool::weighted(0.9), prop::bool::weighted(0.9)).prop_map(
        |((instances, surge, committed, seen), engine, caddy)| World {
            instances,
            surge,
            committed,
            seen,
            engine,
            caddy,
        },
    )
}

impl World {
    fn config(&self) -> Config {
        let strategy = if self.surge { "surge" } else { "rolling" };
        let text = format!("{SERVING}app.instances = {}\ndeploy.strategy = \"{strategy}\"\n", self.instances);
        config::parse(&[("agent.toml".into(), text)]).unwrap()
    }

    fn observed(&self, config: &Config) -> Observed {
        let engine = EngineSeen { engine: Engine::Podman, version: "5".into() };
        let mut observed = Observed {
            engine: self.engine.then_some(engine),
            caddy: self.caddy.then_some(CaddySeen { version: Some((2, 11)), runs: None }),
            free_bytes: Some(100 << 30),
            ..Observed::default()
        };
        if let Some(of) = self.committed {
            let app = ServiceLines {
                image: image(of),
                args: units::app_args(&config.app, Engine::Podman, &config.name, &[]),
                command: Vec::new(),
                port: config.app.web().map(|web| web.port),
                since: None,
                env: None,
            };
            let (services, keys) = (BTreeMap::new(), BTreeSet::new());
            let lines = ManagedLines { release: u64::from(of), app, services, keys };
            let file = EnvFile::default().with_managed(&lines).unwrap();
            let seen = FileSeen { bytes: file.render(), mode: 0o600 };
            observed.files.insert(config.name.env_file(), seen);
        }
        for (nth, (runs, ready, drained, trial)) in self.seen.iter().enumerate() {
            let id: InstanceName = (nth + 1).to_string().parse().unwrap();
            let up = *runs > 0;
            let unit = UnitSeen {
                load: LoadState::Loaded,
                active: if up { ActiveState::Active } else { ActiveState::Inactive },
                enabled: UnitFileState::Enabled,
                ..UnitSeen::default()
            };
            let running = Running { release: u64::from(*runs), image: image(*runs), port: None };
            let runs = (up && self.engine).then_some(running);
            observed.instances.insert(id, InstanceSeen { unit, runs, ready: up && *ready });
            if *drained {
                observed.markers.insert(id);
            }
            if *trial {
                observed.trials.insert(id);
            }
        }
        observed
    }
}

/// A host without config values or history beyond the observed state.
fn inputs<'a>(
    config: &'a Config,
    observed: &'a Observed,
    history: &'a History,
    key: &'a HostKey,
) -> Inputs<'a> {
    let (engine, agent) = (Engine::Podman, "/usr/bin/astra-agent");
    Inputs { config, observed, history, key, engine, agent, caddy_image: None }
}

/// Walks the plan as if every step succeeded: it must never stop the only serving instance.
fn never_dark(world: &World, observed: &Observed, steps: &[Step]) -> Result<(), TestCaseError> {
    let mut marked: BTreeSet<InstanceName> = observed.markers.clone();
    let mut ready: BTreeSet<InstanceName> =
        observed.instances.iter().filter(|(_, seen)| seen.ready).map(|(id, _)| *id).collect();
    let serving =
        |ready: &BTreeSet<InstanceName>, marked: &BTreeSet<InstanceName>| ready.difference(marked).count();
    for step in steps {
        let before = serving(&ready, &marked);
        match step {
            Step::Drain { instance, .. } => _ = marked.insert(instance.id),
            Step::StartTrial { instance, .. } | Step::RestoreCommitted { instance, .. } => {
                _ = ready.remove(&instance.id)
            }
            Step::StopInstance { instance, .. } => {
                ready.remove(&instance.id);
                marked.remove(&instance.id);
            }
            Step::AwaitReady { instance, .. } => _ = ready.insert(instance.id),
            Step::Undrain { instance, .. } => _ = marked.remove(&instance.id),
            Step::WriteFile { path, .. } => {
                marked.extend(observed.instances.keys().filter(|id| id.marker() == *path));
            }
            Step::RemoveFile { path } => {
                let gone: Vec<_> = marked.iter().filter(|id| id.marker() == *path).copied().collect();
                marked.retain(|id| !gone.contains(id));
            }
            _ => {}
        }
        prop_assert!(
            before == 0 || serving(&ready, &marked) > 0,
            "`{step}` takes down the last instance that serves:\n{world:#?}\n{}",
            steps.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
        );
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn a_held_way_back_says_so_and_what_lies_behind(runs in prop::collection::vec(run(), 0..12)) {
        let history = History::of(records(&runs));
        if let Some(target) = history.rollback_target() {
            let behind = history.way_back_held().map(|(_, behind)| behind);
            let held = |release: &Release| history.held_images(release).is_some();
            prop_assert_eq!(behind.is_some(), held(target), "a held rollback target is reported");
            prop_assert!(behind.flatten().is_none_or(|release| !held(release)));
            prop_assert!(history.knows(&target.image.digest));
            prop_assert!(!history.current().unwrap().same_images(target));
        }
        if let Some(current) = history.current() {
            prop_assert!(history.held_images(current).is_none(), "what serves is held");
        }
        let newest = history.newest_digests(3);
        prop_assert_eq!(newest.iter().collect::<BTreeSet<_>>().len(), newest.len());
    }

    #[test]
    fn a_journal_cut_at_any_byte_is_what_was_written_before(entries in run()) {
        let stamped: Vec<_> = entries.into_iter().map(|entry| Stamped { at: 7, entry }).collect();
        let mut bytes = Vec::new();
        for entry in &stamped {
            bytes.extend(serde_json::to_vec(entry).unwrap());
            bytes.push(b'\n');
        }
        for cut in 0..=bytes.len() {
            let whole = bytes[..cut].iter().filter(|b| **b == b'\n').count();
            let read = journal::parse(&bytes[..cut]);
            prop_assert!(read.is_ok(), "cut at {}: {:?}", cut, read);
            prop_assert_eq!(&read.unwrap()[..], &stamped[..whole]);
        }
    }

    #[test]
    fn a_journal_with_a_hole_is_damaged_or_whole(entries in run(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let stamped: Vec<_> = entries.into_iter().map(|entry| Stamped { at: 7, entry }).collect();
        let mut bytes = Vec::new();
        for entry in &stamped {
            bytes.extend(serde_json::to_vec(entry).unwrap());
            bytes.push(b'\n');
        }
        if !bytes.is_empty() {
            let at = at.index(bytes.len());
            bytes[at] = byte;
            // A changed digit gives a different valid number, which cannot be detected; but a damaged file
            // never yields invented runs.
            if let Ok(read) = journal::parse(&bytes) {
                prop_assert!(read.len() <= stamped.len());
                let opens = read.first().is_none_or(|first| matches!(first.entry, Entry::Opened { .. }));
                prop_assert!(opens);
            }
        }
    }

    #[test]
    fn an_environment_comes_back(pairs in prop::collection::btree_map("[A-Z_][A-Z0-9_]{0,6}", any::<String>(), 0..8)) {
        let mut file = EnvFile::default();
        let mut taken = Vec::new();
        for (key, value) in &pairs {
            if file.set(key, &Secret::new(value.clone())).is_ok() {
                taken.push((key, value));
            }
        }
        let again = EnvFile::parse(file.render());
        prop_assert_eq!(again.render(), file.render());
        prop_assert_eq!(again.check(), vec![]);
        for (key, value) in taken {
            prop_assert_eq!(again.get(key), Some(Secret::new(value.clone())));
        }
    }

    #[test]
    fn a_repair_never_stops_what_serves_last(world in world()) {
        let config = world.config();
        let observed = world.observed(&config);
        let (history, key) = (History::default(), HostKey::new([0; 32]));
        let inputs = inputs(&config, &observed, &history, &key);
        // With nothing committed, running instances are left from a cut-off first deploy; and with one
        // instance there is no other.
        if world.committed.is_some() && world.instances > 1 {
            for reach in [RepairScope::All, RepairScope::Leftovers] {
                never_dark(&world, &observed, &instances::steps(&inputs, reach))?;
            }
        }
    }

    #[test]
    fn a_deploy_never_stops_what_serves_last(world in world(), of in 1..6u8) {
        let config = world.config();
        let (history, key) = (History::default(), HostKey::new([0; 32]));
        let request = Request { image: image(of), images: Default::default(), only: Default::default(), migrate: MigratePolicy::Auto, force: false, automatic: false, lenient: false, restart: false, refresh: false, soak: true };
        // Rolling with one instance warns of downtime.
        if world.committed.is_some() && (world.instances > 1 || world.surge) {
            let observed = world.observed(&config);
            let inputs = inputs(&config, &observed, &history, &key);
            if let Ok(plan) = release::plan(&inputs, &request) {
                never_dark(&world, &observed, &plan.steps)?;
            }
        }
    }
}
