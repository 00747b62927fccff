//! Checks an observed host against the promises.

use serde_json::Value;

use super::accessory;
use super::act::{Done, Known};
use super::look::{Held, Look};
use super::ops::{BAD, By, Edit, Hand, Op, Victim};
use crate::harness::Engine;
use crate::report::Report;

/// Requests that a load of a changed Caddyfile may lose (docs/decisions/0021).
const LOST_AT_A_LOAD: usize = 1;

/// A deploy of one service, which has the image of the app.
pub const WORKER_ALONE: &str = "deploy worker";

/// Parts of the host that are missing or broken when an operation begins or ends.
#[derive(Clone, Copy, Debug)]
pub struct Lacks {
    pub registry: bool,
    pub database: bool,
    pub source: bool,
    /// agent.toml is invalid.
    pub config: bool,
    /// No release can work with agent.toml's variables.
    pub environment: bool,
    /// A variable that the agent may refuse or accept.
    pub doubtful: bool,
}

impl Lacks {
    pub fn of(known: &Known) -> Self {
        let site = &known.site;
        Self {
            registry: !known.registry,
            database: !known.database,
            source: site.source && !known.source,
            config: site.broken,
            environment: site.literals.get("DATABASE_NAME").is_some_and(|name| name != "astra"),
            doubtful: site.literals.contains_key("ASTRA_PORT"),
        }
    }
}

/// The exit codes that a verb may have on this host.
pub fn codes(words: &str, lacks: Lacks, before: &Look, known: &Known) -> Vec<i32> {
    let mut parts = words.split(' ');
    let verb = parts.next().unwrap_or_default();
    let auto = known.site.auto;
    let mut codes = match verb {
        "plan" => vec![0, 1, 2],
        "recover" | "reconcile" | "rollback" if lacks.database => vec![0, 1, 3, 4],
        "recover" => vec![0],
        "reconcile" | "caddy-upgrade" | "deploy" | "install" | "deploy-sha" if lacks.config => vec![2],
        "reconcile" if auto => vec![0, 1, 2, 3],
        "reconcile" => vec![0],
        "caddy-upgrade" if lacks.registry => vec![0, 1],
        "caddy-upgrade" => vec![0],
        "cron" => vec![0, 1, 2],
        "accessory" => accessory::codes(words, lacks, known),
        "env" => vec![0, 2],
        "rollback" if words.contains("--to") => vec![0, 1, 3],
        "rollback" if before.status["rollback_to"].is_null() => vec![1, 2],
        "rollback" if lacks.environment && goes_back_to_held(before) => vec![0, 1, 3],
        // The environment that comes with it may be a broken one.
        "rollback" if lacks.environment => vec![0, 3],
        // Its image may be gone, or have failed since.
        "rollback" if lacks.registry || goes_back_to_held(before) => vec![0, 1],
        "rollback" => vec![0],
        // It may have left agent.toml, and a change of what it shares with the app is refused.
        "deploy" if words == WORKER_ALONE && lacks.database => vec![0, 1, 2, 3, 4],
        "deploy" if words == WORKER_ALONE && lacks.environment => vec![0, 1, 2, 3],
        "deploy" if words == WORKER_ALONE => vec![0, 1, 2],
        "deploy" | "deploy-sha" | "install" => {
            let digest = if verb == "deploy-sha" {
                parts.next().unwrap_or_default().to_owned()
            } else {
                known.digest(known.tag)
            };
            brings(verb, &digest, words.contains("--force"), lacks, before, known)
        }
        _ => vec![0],
    };
    if lacks.doubtful {
        codes.push(2);
    }
    codes
}

fn goes_back_to_held(look: &Look) -> bool {
    let to = look.status["rollback_to"].as_str().and_then(|image| image.split_once('@'));
    to.is_some_and(|(_, digest)| look.held(digest).is_some())
}

fn brings(verb: &str, digest: &str, force: bool, lacks: Lacks, before: &Look, known: &Known) -> Vec<i32> {
    let bad = known.version(&format!("@{digest}")).is_some_and(|version| BAD.contains(&version));
    if lacks.source {
        return vec![2];
    }
    match before.held(digest) {
        _ if lacks.database => vec![0, 1, 3, 4],
        _ if verb == "install" => vec![0, 1, 3],
        _ if lacks.registry && verb == "deploy" => vec![1],
        _ if lacks.registry => vec![0, 1, 3],
        Some(Held::RolledBack) if !force => vec![1],
        // With another environment it is tried.
        Some(_) if !force && bad => vec![1, 3],
        Some(_) if !force => vec![0, 1, 3],
        _ if lacks.environment => vec![1, 3],
        // The timer may have tried it first, and held it.
        _ if bad && known.site.auto => vec![1, 3],
        // A failing migration only fails where it runs: never for a digest that served.
        _ if bad => vec![3],
        _ => vec![0],
    }
}

/// Checks the effects and the report of an operation.
pub fn after(
    op: &Op,
    (before, after): (&Look, &Look),
    done: &Done,
    lacks: Lacks,
    known: &Known,
) -> Vec<String> {
    let mut broken = Vec::new();
    let disturbed = matches!(op, Op::Disturbed { .. } | Op::Both(..));
    if !disturbed {
        for (words, code) in &done.codes {
            let allowed = codes(words, lacks, before, known);
            if !allowed.contains(code) {
                broken.push(format!("`{words}` ends with {code}, not {allowed:?}: {}", tail(&done.said)));
            }
        }
    }
    let interrupted = matches!(op, Op::Disturbed { by: By::Interrupt, .. } | Op::Both(..));
    if interrupted && !lacks.database && done.codes.iter().any(|(_, code)| ![0, 1, 2, 3, 75].contains(code)) {
        broken.push(format!("{:?}: {}", done.codes, tail(&done.said)));
    }
    broken.extend(well(after));
    broken.extend(accessory::after(op, (before, after), done, lacks, known));
    if let Some((words, code)) = &done.verb {
        broken.extend(told(words, *code, before, after));
        broken.extend(brought(words, *code, (before, after), known));
        if words == "deploy" && *code == 0 {
            let nothing = before.history.len() == after.history.len();
            if let Some(planned) = done.planned_nothing.filter(|planned| *planned != nothing) {
                let (plan, deploy) = (
                    if planned { "nothing" } else { "something" },
                    if nothing { "nothing" } else { "something" },
                );
                broken.push(format!(
                    "`plan` announced {plan}, and `deploy` did {deploy}: {}",
                    tail(&done.said)
                ));
            }
        }
    }
    broken
}

/// If `status` reports a healthy host, it must be one.
pub fn well(look: &Look) -> Option<String> {
    let instances = look.status["instances"].as_array().map_or(&[][..], Vec::as_slice);
    let drained = instances.iter().any(|i| i["drained"] == true);
    let down = !look.redis.pin.is_empty() && !look.redis.running;
    (look.status_code == 0 && (drained || down || !look.serves())).then(|| {
        format!(
            "status exits with 0, the site gives {:?}, an accessory is down: {down}, status: {}",
            look.answers, look.status["instances"]
        )
    })
}

/// The newest run in the journal must be the operation, with its outcome.
fn told(words: &str, code: i32, before: &Look, after: &Look) -> Option<String> {
    let parts: Vec<&str> = words.split(' ').collect();
    let verb = if parts[0] == "accessory" { parts[..2].join("_") } else { parts[0].replace('-', "_") };
    let newest = after.history.first().filter(|_| after.history.len() > before.history.len())?;
    let ended = match &newest["outcome"] {
        Value::String(word) if word == "converged" => 0,
        Value::String(_) => 4,
        Value::Object(outcome) => match outcome.values().next()?["blame"].as_str()? {
            "release" => 3,
            _ => 1,
        },
        _ => return None,
    };
    let named = newest["verb"].as_str().is_some_and(|v| v.replace('-', "_") == verb);
    // A release that was refused after the repairs has no run of its own.
    let refused = code == 1 && newest["release"].is_null();
    (named && ended != code && !refused).then(|| {
        format!("`{words}` ended with {code}, history says {} of run {}", newest["outcome"], newest["run"])
    })
}

/// Checks what is committed afterwards.
fn brought(words: &str, code: i32, (before, after): (&Look, &Look), known: &Known) -> Vec<String> {
    let mut parts = words.split(' ');
    let verb = parts.next().unwrap_or_default();
    let digest = match verb {
        // The images stay.
        "deploy" if words == WORKER_ALONE => before.image().split_once('@').map_or("", |(_, d)| d).to_owned(),
        "deploy" => known.digest(known.tag),
        "deploy-sha" => parts.next().unwrap_or_default().to_owned(),
        "rollback" if words == "rollback" => {
            let to = before.status["rollback_to"].as_str().unwrap_or_default();
            to.split_once('@').map_or("", |(_, digest)| digest).to_owned()
        }
        _ => return Vec::new(),
    };
    let mut broken = Vec::new();
    match code {
        0 if !after.image().ends_with(&digest) => {
            broken.push(format!(
                "`{words}` ends with 0, {digest} was wanted, astra.env names {}",
                after.image()
            ));
        }
        // The same release with another environment may be held.
        0 if verb != "rollback" && after.held(&digest) == Some(Held::RolledBack) => {
            broken.push(format!("`{words}` ends with 0, and {digest} is held"));
        }
        1..=3 if (before.image(), before.release()) != (after.image(), after.release()) => {
            broken.push(format!(
                "`{words}` ends with {code}, and astra.env changes from release {} to {}",
                before.release(),
                after.release()
            ));
        }
        3 if after.held(&digest).is_none() && verb != "rollback" => {
            broken.push(format!("`{words}` ends with 3, and nothing of {digest} is held"));
        }
        _ => {}
    }
    broken
}

/// Checks the lost requests.
pub fn lost(
    op: &Op,
    (before, after): (&Look, &Look),
    lacks: Lacks,
    known: &Known,
    report: &Report,
) -> Option<String> {
    let site = &known.site;
    let runs = after.history.len().saturating_sub(before.history.len());
    let loads = after.history.iter().take(runs).flat_map(|run| run["plan"].as_array().into_iter().flatten());
    let loads = loads.filter(|step| step.as_str().is_some_and(|s| s.starts_with("load "))).count();
    let why = match op {
        _ if !before.serves() => "nothing served before",
        _ if lacks.database => "the database was away",
        Op::Systemctl(..) => "a unit was restarted or stopped by hand",
        // podman's service carries no container; dockerd carries all.
        Op::Kill(Victim::Podman) | Op::Disturbed { by: By::KillPodman, .. }
            if known.engine == Engine::Podman =>
        {
            ""
        }
        Op::Kill(_) | Op::Disturbed { by: By::KillConmon | By::KillPodman, .. } => "a process was killed",
        Op::Verb("caddy-upgrade") | Op::Disturbed { verb: "caddy-upgrade", .. } => "Caddy was restarted",
        Op::Hand(Hand::Marker) if site.instances == 1 => "the only instance was drained by hand",
        _ if site.instances == 1 && site.strategy == "rolling" => "rolling with one instance",
        Op::Edit(Edit::Instances(_) | Edit::Strategy(_), _)
            if site.instances == 1 && site.strategy == "rolling" =>
        {
            "rolling with one instance"
        }
        _ => "",
    };
    let failed = report.failed + report.websockets.failed;
    let allowed = if why.is_empty() { LOST_AT_A_LOAD * loads } else { usize::MAX };
    let errors = report.kinds.values().flat_map(|kind| &kind.errors);
    let errors: Vec<_> = errors.chain(&report.websockets.errors).take(3).collect();
    (failed > allowed)
        .then(|| format!("{failed} of {} requests were lost, {loads} loads: {errors:?}", report.total))
}

/// Checks that the timer did only what it may.
pub fn ticked(op: &Op, (before, after): (&Look, &Look), known: &Known) -> Vec<String> {
    let runs = after.history.len().saturating_sub(before.history.len());
    let tried = after.history.iter().take(runs).filter(|run| !run["release"].is_null());
    let tag = known.digest(known.tag);
    let mut broken = Vec::new();
    for run in tried {
        let image = run["release"]["image"].as_str().unwrap_or_default();
        let wrong = match () {
            () if !known.site.auto => "which is not automatic",
            () if before.held(&tag).is_some() => "which is held",
            () if before.image().ends_with(&tag) => "which was committed",
            () if before.status["pinned"] == true => "although another was pinned",
            () => continue,
        };
        let version = known.version(image).unwrap_or(image);
        broken.push(format!("the timer brought {version}, {wrong}: run {}, after {op}", run["run"]));
    }
    broken
}

/// The last lines.
pub fn tail(said: &str) -> String {
    let lines: Vec<&str> = said.lines().collect();
    lines[lines.len().saturating_sub(8)..].join("\n      ")
}
