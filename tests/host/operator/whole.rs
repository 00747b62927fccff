//! Promises for a host that was left alone for a while: it is whole, and the agent says so.

use std::collections::BTreeSet;
use std::thread::sleep;
use std::time::Duration;

use super::accessory;
use super::act::{Known, Operator};
use super::judge::Lacks;
use super::look::{Look, leaks};

/// Values that must not change once seen.
#[derive(Default)]
pub struct Memory {
    secret_key: Option<String>,
    field_key: Option<String>,
}

/// The agent's own variables, and those written to astra.env by hand that no deploy has passed to the
/// containers.
const NOT_IN_CONTAINERS: [&str; 8] = [
    "APP_IMAGE",
    "ASTRA_RELEASE",
    "APP_ARGS",
    "APP_COMMAND",
    "ASTRA_ENV",
    "ASTRA_APP_PORT",
    "ASTRA_CONFIG_KEYS",
    "BY_HAND",
];

/// Beginnings of the agent's own lines of a second service, and of all services.
const OF_SERVICES: [&str; 2] = ["WORKER_", "ASTRA_"];

/// The drain marker that an operation makes by hand.
const MARKER: &str = "/run/astra/drain/1";

/// The promises that do not hold.
pub fn missing(look: &Look, lacks: Lacks, known: &Known, memory: &mut Memory) -> Vec<String> {
    let mut missing = Vec::new();
    let mut check = |holds: bool, what: &dyn Fn() -> String| {
        if !holds {
            missing.push(what());
        }
    };
    let (image, release, since) = (look.image(), look.release(), look.since());
    let version = known.version(image).unwrap_or_default();
    check(!version.is_empty(), &|| format!("astra.env names {image:?}"));
    kept(look, memory, &mut check);
    let unrepaired = lacks.config || lacks.doubtful && !look.status["config_errors"].is_null();
    if !unrepaired {
        accessory::missing(look, lacks, known, &mut check);
    }
    if lacks.database {
        // It cannot become ready; it only has to report that.
        check(look.status_code != 0 || look.serves(), &|| {
            format!("status exits with 0, the site gives {:?}", look.answers)
        });
        return missing;
    }
    // A marker made by hand stays while agent.toml is invalid, and the only instance with it gets no requests.
    let drained = lacks.config && known.site.instances == 1 && look.traces.iter().any(|path| path == MARKER);
    check(drained || look.answers == BTreeSet::from([version.to_owned()]), &|| {
        format!("{version} is committed, the site gives {:?}", look.answers)
    });
    for (instance, container) in &look.instances {
        check(container.running && container.release == since, &|| {
            format!(
                "astra-app-{instance}: running {}, release {}, not {since}",
                container.running, container.release
            )
        });
        let differs = |(key, value): &(&String, &String)| {
            !NOT_IN_CONTAINERS.contains(&key.as_str())
                && !OF_SERVICES.iter().any(|own| key.starts_with(own))
                && container.env.get(*key) != Some(*value)
        };
        let differ: Vec<_> = look.env.iter().filter(differs).map(|(key, _)| key).collect();
        check(differ.is_empty(), &|| {
            format!("astra-app-{instance} runs with another {differ:?} than astra.env")
        });
    }
    let lacking: Vec<_> =
        migrations_of(version).iter().filter(|m| !look.migrations.iter().any(|l| l == *m)).collect();
    check(lacking.is_empty(), &|| format!("{version} serves, the database was not migrated: {lacking:?}"));
    // Reconcile repairs nothing while agent.toml is invalid.
    let by_hand = |path: &String| lacks.config && (path == "/run/astra/trial-1.env" || path == MARKER);
    let left: Vec<_> = look.traces.iter().filter(|path| !by_hand(path)).collect();
    check(left.is_empty(), &|| format!("left: {left:?}"));
    let apart =
        |o: &&String| !["stranger ", "astra-worker-", "astra-redis-"].iter().any(|name| o.starts_with(name));
    let others: BTreeSet<_> = look.others.iter().filter(apart).collect();
    check(others.iter().eq(["astra-caddy running"].iter()), &|| format!("containers: {others:?}"));
    check(look.failed_units.is_empty(), &|| format!("failed units: {}", look.failed_units));
    check(!look.history.is_empty(), &|| "history shows no run".into());
    for run in look.history.iter().filter(|run| run["outcome"].is_null()) {
        check(false, &|| format!("not closed: {run}"));
    }
    if unrepaired {
        return missing;
    }
    of_worker(look, known, &mut check);
    let wanted: BTreeSet<u16> = (1..=known.site.instances).collect();
    check(look.instances.keys().eq(wanted.iter()), &|| {
        format!("{} instances are wanted, there are {:?}", wanted.len(), look.instances.keys())
    });
    check(look.status_code == 0, &|| format!("status exits with {}: {}", look.status_code, look.status));
    let told = look.status["release"].to_string();
    check(told == release, &|| format!("status: {}, astra.env: {release}", look.status));
    for i in look.status["instances"].as_array().map_or(&[][..], Vec::as_slice) {
        // A service that stays the same keeps its release.
        let newest = !i["service"].is_null() || i["release"].as_u64() == since.parse().ok();
        let whole = newest && i["ready"] == true && i["drained"] == false;
        check(whole, &|| format!("status: {i}"));
    }
    for key in ["cut_off_run", "journal_damaged"] {
        check(look.status[key].is_null(), &|| format!("{key}: {}", look.status[key]));
    }
    let back = look.status["rollback_to"].as_str().unwrap_or_default();
    check(look.last_image == back, &|| {
        format!("last_app_image {}, a rollback leads to {back:?}", look.last_image)
    });
    missing
}

/// The worker of the committed release runs, of its image, and every file that the release names is there.
fn of_worker(look: &Look, known: &Known, check: &mut impl FnMut(bool, &dyn Fn() -> String)) {
    let line = |key: &str| look.env.get(key).map_or("", String::as_str);
    let committed = line("ASTRA_SERVICES").contains("worker");
    let (containers, files): (Vec<_>, Vec<_>) =
        look.worker.iter().partition(|line| line.starts_with("astra-worker-"));
    // One that left agent.toml is stopped, and one that came waits for a deploy.
    let wanted: Vec<String> = match committed && known.site.worker.is_some() {
        true => vec![format!("astra-worker-1 running {}", line("WORKER_IMAGE"))],
        false => Vec::new(),
    };
    check(containers.iter().map(|line| line.trim()).eq(&wanted), &|| {
        format!("workers: {containers:?}, not {wanted:?}")
    });
    check(!committed || line("WORKER_IMAGE") == look.image(), &|| {
        format!("the app runs {}, the worker {}", look.image(), line("WORKER_IMAGE"))
    });
    let named = [line("APP_ARGS"), line("WORKER_ARGS"), line("ASTRA_WORKER_ENV")].join(" ");
    let paths = named
        .split(|c: char| " :,=\"'".contains(c))
        .filter_map(|word| word.strip_prefix("/etc/astra/files/"));
    let lost: Vec<_> = paths.filter(|name| !files.iter().any(|file| file == name)).collect();
    check(lost.is_empty(), &|| format!("astra.env names files that are lost: {lost:?}"));
}

/// Generated values that were used stay the same.
fn kept(look: &Look, memory: &mut Memory, check: &mut impl FnMut(bool, &dyn Fn() -> String)) {
    let keys: [(&str, &mut Option<String>); 2] =
        [("SECRET_KEY", &mut memory.secret_key), ("FIELD_KEY", &mut memory.field_key)];
    for (key, first) in keys {
        let now = look.env.get(key);
        check(first.is_none() || first.as_ref() == now, &|| {
            format!("{key} has another value than before, or none")
        });
        if first.is_none() {
            *first = now.cloned();
        }
    }
    let used: BTreeSet<_> = look.used_keys.iter().collect();
    check(used.len() <= 1, &|| format!("migrations used {} different FIELD_KEYs", used.len()));
    let committed = look.env.contains_key("FIELD_KEY");
    check(!committed || used.iter().all(|key| **key == look.field_key), &|| {
        "a migration used another FIELD_KEY than the one in astra.env".into()
    });
}

/// The agent's report of a whole host, and the journal entries of its runs.
pub fn untold(operator: &Operator, lacks: Lacks) -> Vec<String> {
    let mut broken: Vec<String> =
        leaks(&operator.host).into_iter().map(|place| format!("a secret stands in {place}")).collect();
    if lacks.config || lacks.database || lacks.doubtful {
        return broken;
    }
    let say = |words: &str| operator.host.sh(&format!("astra-agent {words}"));
    let plan = say("plan --reconcile");
    if plan.code() != 0 || plan.stdout.trim() != "nothing to do" {
        broken.push(format!(
            "after a reconcile `plan --reconcile` ends with {}: {}{}",
            plan.code(),
            plan.stdout,
            plan.stderr
        ));
    }
    // doctor asks each instance once, and a busy machine may answer late.
    let mut doctor = say("doctor");
    for _ in 0..3 {
        if doctor.code() != 0 {
            sleep(Duration::from_secs(5));
            doctor = say("doctor");
        }
    }
    let excused = lacks.source || lacks.environment || lacks.registry;
    if doctor.code() != 0 && !excused {
        broken.push(format!("`doctor` ends with {}: {}{}", doctor.code(), doctor.stdout, doctor.stderr));
    }
    broken
}

/// Migrations that a version requires.
fn migrations_of(version: &str) -> &'static [&'static str] {
    match version {
        "v2" => &["0002_mood"],
        "v3" => &["0002_mood", "0003_place"],
        _ => &[],
    }
}
