//! One sequence: a host of its own, operation after operation, with the checks after each.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::accessory::{self, Change};
use super::act::{Done, Operator};
use super::draw::{Accessory, Draw, Site, Worker};
use super::judge::{self, Lacks};
use super::look::Look;
use super::ops::{By, Op};
use super::whole::{self, Memory};
use crate::harness::{Engine, Host};

/// A longer run counts as hung.
const LONGEST: Duration = Duration::from_secs(900);

/// The site and operations of a seed.
pub struct Drawn {
    pub seed: u64,
    pub site: Site,
    pub ops: Vec<Op>,
}

impl Drawn {
    pub fn new(seed: u64, length: usize) -> Self {
        let mut draw = Draw::new(seed);
        let site = Site::draw(&mut draw);
        let mut ops = Op::sequence(&mut draw, &site, length);
        let mut site = site;
        // Drawn apart, so that a seed of before draws the same operations.
        let mut draw = Draw::new(!seed);
        if draw.one_in(2) {
            site.worker = Some(Worker { inherits: draw.one_in(2), role: 1 });
            for op in Op::of_worker(&mut draw, length.div_ceil(4)) {
                let at = draw.below(ops.len() + 1);
                ops.insert(at, op);
            }
        }
        let mut draw = Draw::new(!seed.rotate_left(32));
        if draw.one_in(3) {
            site.accessory = Some(Accessory { setting: 1, unready: false });
            if site.network == "bridge" && draw.one_in(2) {
                site.network = "site";
            }
            for op in Op::of_accessory(&mut draw, length.div_ceil(3)) {
                let at = draw.below(ops.len() + 1);
                ops.insert(at, op);
            }
        }
        Self { seed, site, ops }
    }
}

/// A broken promise.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Failure {
    /// The operation after which it was found: its place in the whole sequence; none: the first install.
    pub at: Option<usize>,
    pub op: String,
    pub broken: Vec<String>,
    /// The commands so far.
    pub log: String,
}

impl Failure {
    /// The same for the same defect, without figures and names.
    pub fn kind(&self) -> String {
        let first = self.broken.first().map_or("", String::as_str);
        first.chars().filter(|c| !c.is_ascii_digit()).take(45).collect()
    }
}

/// The result of a sequence.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Ended {
    pub operations: usize,
    pub requests: usize,
    pub lost: usize,
    pub seconds: f64,
    pub failure: Option<Failure>,
}

/// Runs the operations at these places, on a fresh host.
pub fn run(drawn: &Drawn, places: &[usize], engine: Engine) -> Ended {
    let begun = Instant::now();
    let mut ended = Ended::default();
    let mut at = None;
    let mut operator = None;
    let caught = catch_unwind(AssertUnwindSafe(|| {
        let host = Host::boot_with(&format!("op-{}", drawn.seed % 1_000_000), engine);
        let operator = operator.insert(Operator::new(host, drawn.site.clone()));
        let mut memory = Memory::default();
        let mut broken = first(operator, &mut memory);
        for &place in places {
            if !broken.is_empty() {
                break;
            }
            at = Some(place);
            let op = &drawn.ops[place];
            operator.log += &format!("  {place}: {op}\n");
            println!("  {}: {place}: {op}", drawn.seed);
            broken = step(op, operator, &mut memory, &mut ended);
            ended.operations += 1;
        }
        broken
    }));
    let broken = caught.unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<String>().cloned();
        let said = said.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
        vec![format!("the test itself gives up: {}", said.unwrap_or_default())]
    });
    if !broken.is_empty() {
        let op = at.map_or("the first install".into(), |place| drawn.ops[place].to_string());
        let log = operator.as_ref().map(|o| o.log.clone()).unwrap_or_default();
        let said = operator.as_ref().map(said).unwrap_or_default();
        ended.failure = Some(Failure { at, op, broken, log: log + &said });
    }
    ended.seconds = begun.elapsed().as_secs_f64();
    ended
}

/// The host's logs of its last minutes.
fn said(operator: &Operator) -> String {
    // podman logs each container's life in events of three lines.
    let look = "astra-agent history -n 6; astra-agent status; journalctl -q --no-pager -o short-precise -n 300 | \
                grep 'astra\\|caddy' | grep -v ' podman\\[\\| conmon\\[\\|mount: \\|cron-' | tail -n 40 | cut -c1-250; \
                ss -Htlnp | cut -c1-120";
    let said = operator.host.sh(look);
    format!("{}{}", said.stdout, said.stderr).lines().map(|line| format!("    | {line}\n")).collect()
}

fn first(operator: &mut Operator, memory: &mut Memory) -> Vec<String> {
    let done = operator.install();
    if done.codes.iter().any(|(_, code)| *code != 0) {
        return vec![format!("the first install fails: {}", judge::tail(&done.said))];
    }
    if let Err(broken) = settle(operator, memory) {
        return broken;
    }
    let lost = operator.count(true);
    lost.into_iter().chain(whole::untold(operator, Lacks::of(operator))).collect()
}

fn step(op: &Op, operator: &mut Operator, memory: &mut Memory, ended: &mut Ended) -> Vec<String> {
    let Some(before) = operator.seen.take() else { return vec!["nothing was seen before".into()] };
    let lacks = Lacks::of(operator);
    // A reboot ends the load, which shares the host's network.
    let goes_down = matches!(op, Op::Reboot | Op::PowerCut | Op::Disturbed { by: By::Cut, .. });
    let load = (!goes_down && before.serves()).then(|| {
        let sockets = if operator.site.server == "asgi" && operator.site.instances == 2 { 2 } else { 0 };
        operator.host.load(25).quick().websockets(sockets).start()
    });
    let unsaved =
        (before.redis.running && op.stops_accessory_in_order()).then(|| operator.count(false)).flatten();
    let done = operator.act(op, &before);
    // Operations of the timer during this one are judged by the state of that time.
    let during = both(lacks, Lacks::of(operator));
    let mut broken = unsaved.into_iter().chain(quiet(operator)).collect::<Vec<_>>();
    let mut after = match look(operator) {
        Ok(after) => after,
        Err(cut) => return vec![cut],
    };
    // The site was asked a moment before `status`: in between a killed Caddy may have come back.
    if judge::well(&after).is_some() {
        sleep(Duration::from_secs(1));
        after = match look(operator) {
            Ok(after) => after,
            Err(cut) => return vec![cut],
        };
    }
    broken.extend(judge::after(op, (&before, &after), &done, during, operator));
    broken.extend(empty_plan(&done, operator));

    operator.tick();
    broken.extend(quiet(operator));
    operator.repair(op);
    if matches!(op, Op::Hand(_) | Op::Accessory(Change::Unready)) {
        operator.tick();
    }
    match settle(operator, memory) {
        Ok(whole) => {
            broken.extend(judge::ticked(op, (&after, &whole), operator));
            broken.extend(accessory::ticked((&after, &whole), &done));
            if whole.redis.running {
                broken.extend(operator.count(true));
            }
            if let Some(load) = load {
                let report = load.stop();
                ended.requests += report.total;
                ended.lost += report.failed;
                broken.extend(judge::lost(op, (&before, &whole), during, operator, &report));
            }
            broken.extend(whole::untold(operator, Lacks::of(operator)));
        }
        Err(missing) => broken.extend(missing),
    }
    broken
}

/// A site that does not answer in time is asked once more.
fn look(operator: &Operator) -> Result<Look, String> {
    let look = Look::at(&operator.host)?;
    if look.answers.contains("000") { Look::at(&operator.host) } else { Ok(look) }
}

/// Something unavailable before or after an operation was unavailable during it.
fn both(one: Lacks, two: Lacks) -> Lacks {
    Lacks { registry: one.registry || two.registry, database: one.database || two.database, ..two }
}

/// After a successful deploy of all services there is nothing to do.
fn empty_plan(done: &Done, operator: &Operator) -> Option<String> {
    let (words, code) = done.verb.as_ref()?;
    let whole =
        words.starts_with("deploy") && !words.starts_with("deploy-sha") && words != judge::WORKER_ALONE;
    if !whole || *code != 0 {
        return None;
    }
    let plan = operator.host.sh("astra-agent plan");
    (plan.stdout.trim() != "nothing to do").then(|| {
        format!("after a good deploy `plan` ends with {}: {}{}", plan.code(), plan.stdout, plan.stderr)
    })
}

/// Waits until no run is under way.
fn quiet(operator: &Operator) -> Option<String> {
    let begun = Instant::now();
    while operator.busy() {
        if begun.elapsed() > LONGEST {
            return Some(format!("a run does not end in {LONGEST:?}"));
        }
        sleep(Duration::from_millis(300));
    }
    None
}

/// Waits until the host is whole.
fn settle(operator: &mut Operator, memory: &mut Memory) -> Result<Look, Vec<String>> {
    let lacks = Lacks::of(operator);
    let limit = Duration::from_secs_f64(60.0 + operator.site.start() * f64::from(operator.site.instances));
    let begun = Instant::now();
    // On a busy machine a look alone may take longer than the limit.
    for looks in 1.. {
        let look = Look::at(&operator.host).map_err(|cut| vec![cut])?;
        let missing = whole::missing(&look, lacks, operator, memory);
        if missing.is_empty() {
            operator.seen = Some(look.clone());
            return Ok(look);
        }
        if looks > 3 && begun.elapsed() > limit {
            return Err(missing);
        }
        sleep(Duration::from_secs(1));
    }
    unreachable!("looks have no end")
}
