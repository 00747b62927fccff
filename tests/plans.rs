//! Golden plans: the steps of each verb on hosts in known states, as `astra-agent plan` prints them. A plan
//! is pure, so no host is needed. `UPDATE_GOLDEN=1 cargo test --test plans` rewrites the files; read the
//! diff.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail by panicking")]

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use astra_agent::config::{self, Config};
use astra_agent::model::checkup::{Kind, Owner};
use astra_agent::model::entry::{Entry, Stamped, Verb};
use astra_agent::model::envfile::ManagedLines;
use astra_agent::model::fingerprint::HostKey;
use astra_agent::model::history::{History, RunRecord};
use astra_agent::model::image::PinnedImage;
use astra_agent::model::instance::InstanceName;
use astra_agent::model::name::POLICY;
use astra_agent::model::observed::{
    CaddySeen, Engine, EngineSeen, FileSeen, ImageSeen, InstanceSeen, Observed, Running, Stray,
};
use astra_agent::model::outcome::{Blame, Outcome};
use astra_agent::model::plan::Plan;
use astra_agent::model::release::Release;
use astra_agent::model::step::Step;
use astra_agent::model::unit::{ActiveState, UnitFileState, UnitSeen};
use astra_agent::plan::instances::{self, RepairScope};
use astra_agent::plan::migrations::MigratePolicy;
use astra_agent::plan::release::{self, Refusal, Request};
use astra_agent::plan::{Inputs, keep, prune, units};

#[path = "plans/environment.rs"]
mod environment;
#[path = "plans/holds.rs"]
mod holds;
#[path = "plans/repairs.rs"]
mod repairs;

const BASE: &str = r#"
[app]
image = "ghcr.io/you/shop:latest"
[migrate]
command = ["./manage.py", "migrate"]
"#;

fn config(more: &str) -> Config {
    config::parse(&[("agent.toml".into(), format!("{BASE}{more}"))]).unwrap_or_else(|e| panic!("{e}"))
}

fn image(number: u8) -> PinnedImage {
    format!("ghcr.io/you/shop@sha256:{}", format!("{number:02x}").repeat(32)).parse().unwrap()
}

/// A host, its config and its history.
struct World {
    config: Config,
    observed: Observed,
    runs: Vec<RunRecord>,
    key: HostKey,
}

fn up() -> UnitSeen {
    UnitSeen { active: ActiveState::Active, enabled: UnitFileState::Enabled, ..UnitSeen::default() }
}

impl World {
    fn bare(more: &str) -> Self {
        let observed = Observed {
            engine: Some(EngineSeen { engine: Engine::Podman, version: "5.4.2".into() }),
            caddy: Some(CaddySeen { version: Some((2, 11)), runs: None }),
            free_bytes: Some(10 << 30),
            ..Observed::default()
        };
        Self { config: config(more), observed, runs: Vec::new(), key: HostKey::new([7; 32]) }
    }

    /// Release 1 is committed, and every instance runs it.
    fn serving(more: &str) -> Self {
        let mut world = Self::bare(more);
        world.commit(Verb::Install, 1);
        world
    }

    fn inputs<'a>(&'a self, history: &'a History) -> Inputs<'a> {
        Inputs {
            config: &self.config,
            observed: &self.observed,
            history,
            key: &self.key,
            engine: Engine::Podman,
            agent: "/usr/local/bin/astra-agent",
            caddy_image: None,
        }
    }

    fn history(&self) -> History {
        History::of(self.runs.clone())
    }

    fn plan(&self, number: u8) -> Result<Plan, Refusal> {
        self.plan_as(Request {
            image: image(number),
            images: Default::default(),
            only: Default::default(),
            migrate: MigratePolicy::Auto,
            force: false,
            automatic: false,
            lenient: false,
            restart: false,
            refresh: false,
            soak: true,
        })
    }

    fn plan_as(&self, request: Request) -> Result<Plan, Refusal> {
        release::plan(&self.inputs(&self.history()), &request)
    }

    /// Commits `number` like a deploy, without a host.
    fn commit(&mut self, verb: Verb, number: u8) {
        let plan = self.plan(number).unwrap();
        let candidate = plan.candidate.unwrap();
        self.record(verb, &candidate.release, Outcome::Converged);
        // The release on trial reads the future astra.env.
        let whole = plan.steps.iter().find_map(|step| match step {
            Step::WriteTrialEnv { content } => Some(content.bytes().to_vec()),
            _ => None,
        });
        let bytes = whole.unwrap();
        let env = self.config.name.env_file();
        self.observed.files.insert(env, FileSeen { bytes, mode: 0o600 });
        let repo_digests = [image(number)].into();
        self.observed.images.push(ImageSeen { id: format!("id{number}"), repo_digests, created: 0 });
        for id in self.config.instances().collect::<Vec<_>>() {
            self.runs_release(id, &candidate.lines);
        }
        for unit in units::enabled(&self.config) {
            self.observed.units.insert(unit, up());
        }
    }

    fn runs_release(&mut self, id: InstanceName, lines: &ManagedLines) {
        let (of, release) = (lines.of(id.service).unwrap(), lines.since(id.service).unwrap());
        let runs = Some(Running { release, image: of.image.clone(), port: self.config.port_of(id) });
        let seen = InstanceSeen { unit: up(), runs, ready: true };
        self.observed.instances.insert(id, seen);
    }

    /// The engine does not answer: it is unknown what the instances run.
    fn silence_engine(&mut self) {
        self.observed.engine = None;
        for seen in self.observed.instances.values_mut() {
            seen.runs = None;
        }
    }

    fn record(&mut self, verb: Verb, release: &Release, outcome: Outcome) {
        let opened = Entry::Opened {
            verb,
            actor: "root".into(),
            agent: "0".into(),
            plan: Vec::new(),
            old: None,
            new: Some(release.clone()),
            pins: false,
            accessory: None,
        };
        let mut entries = vec![opened];
        if outcome == Outcome::Converged {
            entries.push(Entry::Committed { release: release.clone() });
        }
        let reason = Some("astra-app@1: it exited with code 3".into());
        entries.push(Entry::Closed { outcome, reason, recovered: false });
        let id = self.runs.len() as u64 + 1;
        let entries = entries.into_iter().map(|entry| Stamped { at: 0, entry }).collect();
        self.runs.push(RunRecord { id, entries });
    }
}

fn printed(plan: &Plan) -> String {
    let mut text = String::new();
    for warning in &plan.warnings {
        writeln!(text, "warning: {warning}").unwrap();
    }
    for (number, step) in plan.steps.iter().enumerate() {
        let commit = if plan.commit == Some(number) { "   <- commit point" } else { "" };
        writeln!(text, "{:>3}  {step}{commit}", number + 1).unwrap();
    }
    if text.is_empty() { "nothing to do\n".into() } else { text }
}

fn golden(name: &str, text: &str) {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/plan_{name}.txt"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let wanted = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    assert_eq!(text, wanted, "{} differs", path.display());
}

#[test]
fn the_first_deploy() {
    golden("first", &printed(&World::bare("").plan(1).unwrap()));
}

#[test]
fn the_same_again_is_nothing_to_do() {
    assert!(World::serving("").plan(1).unwrap().is_empty());
}

#[test]
fn a_new_digest_rolls() {
    golden("rolling", &printed(&World::serving("").plan(2).unwrap()));
}

#[test]
fn a_new_digest_surges() {
    golden("surge", &printed(&World::serving("[deploy]\nstrategy = \"surge\"\n").plan(2).unwrap()));
}

#[test]
fn rolling_with_one_instance_warns_of_downtime() {
    let one = "[deploy]\nstrategy = \"rolling\"\n[app.readiness]\npath = \"/up\"\n";
    let mut world = World::bare(one);
    world.config.app.instances = 1;
    world.commit(Verb::Install, 1);
    golden("one_instance", &printed(&world.plan(2).unwrap()));
}

#[test]
fn a_rollback_pulls_and_migrates_nothing() {
    let mut world = World::serving("");
    world.commit(Verb::Deploy, 2);
    let back = Request {
        image: image(1),
        images: Default::default(),
        only: Default::default(),
        migrate: MigratePolicy::Auto,
        force: true,
        automatic: false,
        lenient: true,
        restart: false,
        refresh: false,
        soak: true,
    };
    golden("rollback", &printed(&world.plan_as(back).unwrap()));
}

#[test]
fn another_environment_is_another_release_without_a_migration() {
    let mut world = World::serving("");
    world.config = config("[env]\nWORKERS = \"4\"\n");
    golden("environment", &printed(&world.plan(1).unwrap()));
}

#[test]
fn a_held_release_is_refused_unless_forced() {
    let mut world = World::serving("");
    let failed = world.plan(2).unwrap().candidate.unwrap().release;
    world.record(Verb::Deploy, &failed, Outcome::Undone { blame: Blame::Release });
    assert!(matches!(world.plan(2), Err(Refusal::Held { number: 2, .. })));
    let forced = Request {
        image: image(2),
        images: Default::default(),
        only: Default::default(),
        migrate: MigratePolicy::Auto,
        force: true,
        automatic: false,
        lenient: false,
        restart: false,
        refresh: false,
        soak: true,
    };
    assert!(!world.plan_as(forced).unwrap().is_empty());
}

#[test]
fn recover_restores_what_differs_with_serving_instances_last() {
    let mut world = World::serving("");
    let trial = world.plan(2).unwrap().candidate.unwrap();
    let ids: Vec<_> = world.config.instances().collect();
    world.runs_release(ids[0], &trial.lines);
    world.observed.instances.get_mut(&ids[0]).unwrap().ready = false;
    world.observed.markers.insert(ids[0]);
    world.observed.trials.insert(ids[0]);
    world.observed.trial_env = true;
    let history = world.history();
    let plan = Plan::forward(instances::steps(&world.inputs(&history), RepairScope::All), Vec::new());
    golden("recover", &printed(&plan));
}

#[test]
fn a_spare_that_a_first_deploy_left_is_stopped_without_waiting_for_others() {
    let mut world = World::bare("[deploy]\nstrategy = \"surge\"\n");
    let trial = world.plan(1).unwrap().candidate.unwrap();
    let spare = world.config.app.spare().unwrap();
    world.runs_release(spare, &trial.lines);
    world.observed.trials.insert(spare);
    let history = world.history();
    let steps = instances::steps(&world.inputs(&history), RepairScope::All);
    assert!(steps.iter().any(|s| matches!(s, Step::StopInstance { instance, .. } if instance.id == spare)));
    assert!(
        !steps.iter().any(|s| matches!(s, Step::AwaitReady { .. })),
        "no instance becomes ready: {steps:?}"
    );
}

#[test]
fn one_instance_that_was_left_drained_comes_back_into_rotation() {
    let mut world = World::bare("[deploy]\nstrategy = \"rolling\"\n");
    world.config.app.instances = 1;
    world.commit(Verb::Install, 1);
    let only = world.config.instances().next().unwrap();
    world.observed.markers.insert(only);
    let plan = world.plan(2).unwrap();
    let rejoins = plan.steps.iter().position(|s| matches!(s, Step::Undrain { .. }));
    assert!(rejoins.is_some() && rejoins < plan.commit, "{}", printed(&plan));
}

#[test]
fn caddy_does_not_forget_the_surplus_instance_that_alone_serves() {
    let mut world = World::serving("");
    let lines = world.inputs(&world.history()).committed().unwrap();
    for id in world.config.instances().collect::<Vec<_>>() {
        world.observed.instances.get_mut(&id).unwrap().ready = false;
    }
    world.runs_release("3".parse().unwrap(), &lines);
    let known = |world: &World| {
        let plan = keep::plan(&world.inputs(&world.history()), Verb::Deploy);
        let mut loads = plan.steps.iter().filter_map(|s| match s {
            Step::LoadCaddy { content, .. } => Some(String::from_utf8(content.bytes().to_vec()).unwrap()),
            _ => None,
        });
        loads.next_back().unwrap().contains("127.0.1.3:8003")
    };
    assert!(known(&world));
    let first = world.config.instances().next().unwrap();
    world.observed.instances.get_mut(&first).unwrap().ready = true;
    assert!(!known(&world), "it is stopped, and forgotten");
}

#[test]
fn a_silent_engine_restarts_no_serving_instance() {
    let mut world = World::serving("");
    world.silence_engine();
    let history = world.history();
    assert!(instances::steps(&world.inputs(&history), RepairScope::All).is_empty());
}

#[test]
fn an_unreadable_env_file_changes_nothing() {
    let mut world = World::serving("");
    let env = world.config.name.env_file();
    let bytes = format!("APP_IMAGE={}\n", image(1)).into_bytes();
    world.observed.files.insert(env, FileSeen { bytes, mode: 0o600 });
    let history = world.history();
    assert!(instances::steps(&world.inputs(&history), RepairScope::All).is_empty());
}

#[test]
fn an_env_file_that_lost_its_release_stops_nothing() {
    let mut world = World::serving("");
    world.observed.files.remove(&world.config.name.env_file());
    let history = world.history();
    for reach in [RepairScope::All, RepairScope::Leftovers] {
        assert!(instances::steps(&world.inputs(&history), reach).is_empty());
    }
}

#[test]
fn instances_that_do_not_serve_are_tried_first() {
    let mut world = World::serving("");
    let ids: Vec<_> = world.config.instances().collect();
    world.observed.instances.get_mut(&ids[1]).unwrap().ready = false;
    let plan = world.plan(2).unwrap();
    let tried = plan.steps.iter().find_map(|s| match s {
        Step::StartTrial { instance, .. } => Some(instance.id),
        _ => None,
    });
    assert_eq!(tried, Some(ids[1]));
}
