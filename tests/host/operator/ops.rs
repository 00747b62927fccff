//! The operator's operations: each is drawn without a look at the host, so that any of them can be left out.

use std::fmt::{self, Display};

use super::accessory::Change;
use super::draw::{Draw, Site, Worker};
use super::judge::WORKER_ALONE;

/// An operation, with everything that it needs.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// A push under the tracked tag, then `deploy`.
    Deploy {
        version: &'static str,
        force: bool,
    },
    DeploySha(&'static str),
    /// A push without a verb: the timer may deploy it.
    Push(&'static str),
    Rollback,
    /// To the release that many commits ago.
    RollbackTo(usize),
    Verb(&'static str),
    EnvSet(&'static str, String),
    /// Another configuration, and the verb after it.
    Edit(Edit, Option<&'static str>),
    /// A file changed by hand.
    Hand(Hand),
    /// systemctl WORD UNIT.
    Systemctl(&'static str, &'static str),
    Reboot,
    PowerCut,
    Kill(Victim),
    /// A verb, followed after some milliseconds by a signal or a power cut.
    Disturbed {
        version: &'static str,
        verb: &'static str,
        after: u64,
        by: By,
    },
    /// The agent's binary is replaced.
    NewBinary,
    /// … while a verb waits for another one.
    NewBinaryMeanwhile,
    /// An image that does not run now is removed: the rollback target's, or Caddy's tag.
    Prune(&'static str),
    Registry(bool),
    Database(bool),
    Source(bool),
    Both(&'static str, &'static str),
    /// An operation on the accessory.
    Accessory(Change),
}

#[derive(Clone, Debug, PartialEq)]
pub enum Edit {
    Instances(u16),
    BasePort(u16),
    Strategy(&'static str),
    Auto(bool),
    Generated(bool),
    Source(bool),
    Required(bool),
    Cron(bool),
    Literal(&'static str, String),
    Behaviour(&'static str, &'static str),
    StopTimeout(&'static str),
    /// A worker of this role that inherits the environment, or none.
    Worker(Option<(bool, u16)>),
    Broken(bool),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Hand {
    /// A variable of the user's own.
    EnvLine,
    /// An invalid line.
    EnvGarbage,
    Caddyfile,
    AppUnit,
    LostUnit,
    Marker,
    Trial,
    LastImage,
    Stranger,
    /// A file of the release is lost.
    LostFile,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Victim {
    Conmon,
    App,
    Caddy,
    Podman,
    Worker,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum By {
    Kill,
    Interrupt,
    Cut,
    KillConmon,
    KillPodman,
}

pub const GOOD: [&str; 5] = ["v1", "v2", "v3", "ignores-term", "dies-on-term"];
pub const BAD: [&str; 4] = ["migrate-fails", "exits", "not-ready", "never-ready"];

impl Op {
    pub fn draw(draw: &mut Draw, site: &Site) -> Self {
        let good = ["v1", "v2", "v3"];
        match draw.below(100) {
            0..16 => Op::Deploy { version: draw.pick(&good), force: false },
            16..19 => Op::Deploy { version: draw.pick(&GOOD[3..]), force: false },
            19..26 => Op::Deploy { version: draw.pick(&BAD), force: draw.one_in(4) },
            26..29 => Op::DeploySha(draw.pick(&good)),
            29..32 => Op::Push(draw.pick(&["v1", "v2", "v3", "exits", "not-ready"])),
            32..38 => Op::Rollback,
            38..40 => Op::RollbackTo(1 + draw.below(3)),
            40..44 => Op::Verb(draw.pick(&["reconcile", "recover", "install", "deploy"])),
            44..46 => Op::Verb("caddy-upgrade"),
            46..48 => Op::Verb(if site.cron { "cron run row" } else { "reconcile" }),
            48..51 => Op::EnvSet("OPERATOR_NOTE", format!("note-{}", draw.below(1000))),
            51..67 => {
                let edit = Edit::draw(draw, site);
                let then = match edit {
                    Edit::Broken(true) => Some(draw.pick(&["deploy", "rollback", "recover"])),
                    _ => draw.pick(&[Some("deploy"), Some("deploy"), Some("reconcile"), None, None]),
                };
                Op::Edit(edit, then)
            }
            67..74 => Op::Hand(draw.pick(&[
                Hand::EnvLine,
                Hand::EnvGarbage,
                Hand::Caddyfile,
                Hand::AppUnit,
                Hand::LostUnit,
                Hand::Marker,
                Hand::Trial,
                Hand::LastImage,
                Hand::Stranger,
            ])),
            74..78 => {
                let unit =
                    draw.pick(&["astra-app@1", "astra-app@1", "astra-caddy", "astra-app@1 astra-caddy"]);
                Op::Systemctl(draw.pick(&["restart", "restart", "stop"]), unit)
            }
            78 => Op::Reboot,
            79 => Op::PowerCut,
            80..83 => Op::Kill(draw.pick(&[Victim::Conmon, Victim::App, Victim::Caddy, Victim::Podman])),
            83..90 => Op::Disturbed {
                version: draw.pick(&["v1", "v2", "v3", "not-ready"]),
                verb: draw.pick(&["deploy", "deploy", "deploy", "rollback", "reconcile", "caddy-upgrade"]),
                after: 200 + draw.below(12_000) as u64,
                by: draw.pick(&[By::Kill, By::Kill, By::Interrupt, By::Cut, By::KillConmon, By::KillPodman]),
            },
            90 => Op::NewBinary,
            91 => Op::NewBinaryMeanwhile,
            92..94 => Op::Prune(draw.pick(&["back", "caddy"])),
            94 => Op::Registry(draw.one_in(2)),
            95 => Op::Database(draw.one_in(2)),
            96 => Op::Source(draw.one_in(2)),
            _ => {
                let words =
                    ["deploy", "rollback", "reconcile", "env set OPERATOR_NOTE", "cron run row", "recover"];
                Op::Both(draw.pick(&["deploy", "deploy --force"]), draw.pick(&words))
            }
        }
    }

    /// Operations on a site with a worker.
    pub fn of_worker(draw: &mut Draw, count: usize) -> Vec<Op> {
        let one = |draw: &mut Draw| match draw.below(7) {
            0 => Op::Kill(Victim::Worker),
            1 => Op::Systemctl(draw.pick(&["restart", "stop"]), "astra-worker@1"),
            2 | 3 => Op::Hand(Hand::LostFile),
            _ => {
                let worker = (!draw.one_in(4)).then(|| (draw.one_in(2), 1 + draw.below(3) as u16));
                let then =
                    draw.pick(&[Some("deploy"), Some("deploy"), Some(WORKER_ALONE), Some("reconcile"), None]);
                Op::Edit(Edit::Worker(worker), then)
            }
        };
        (0..count).map(|_| one(draw)).collect()
    }

    /// A sequence of `length` or a few more: outages end after a while.
    pub fn sequence(draw: &mut Draw, site: &Site, length: usize) -> Vec<Op> {
        let good = ["v1", "v2", "v3"];
        let mut ops: Vec<Op> = Vec::new();
        while ops.len() < length {
            let op = Op::draw(draw, site);
            // An outage ends at once or one operation later.
            let back = match op {
                Op::Registry(false) => Some(Op::Registry(true)),
                Op::Database(false) => Some(Op::Database(true)),
                Op::Source(false) => Some(Op::Source(true)),
                Op::Edit(Edit::Broken(true), _) => Some(Op::Edit(Edit::Broken(false), None)),
                Op::Edit(Edit::Literal("DATABASE_NAME", _), _) => {
                    Some(Op::Edit(Edit::Literal("DATABASE_NAME", "astra".into()), Some("deploy")))
                }
                Op::Registry(true) | Op::Database(true) | Op::Source(true) => continue,
                _ => None,
            };
            // A failing release together with a new variable is a combination that chance alone would rarely
            // draw.
            if let Op::Edit(Edit::Generated(true) | Edit::Literal("FEATURE", _), then) = &op
                && then.is_none()
            {
                let bad = draw.pick(&["not-ready", "exits", "never-ready"]);
                ops.extend([op, Op::Deploy { version: bad, force: false }]);
                ops.push(Op::Deploy { version: draw.pick(&good), force: false });
                continue;
            }
            ops.push(op);
            if let Some(back) = back {
                let between = draw.below(3);
                for _ in 0..between {
                    ops.push(Op::draw(draw, site));
                }
                ops.push(back);
            }
        }
        ops
    }
}

impl Edit {
    fn draw(draw: &mut Draw, site: &Site) -> Self {
        match draw.below(15) {
            0 | 1 => Edit::Instances(draw.pick(&[1, 2, 3])),
            2 => Edit::BasePort(draw.pick(&[8000, 8100, 8200])),
            3 => Edit::Strategy(draw.pick(&["rolling", "surge"])),
            4 => Edit::Auto(draw.one_in(2)),
            5 | 13 if !site.generated => Edit::Generated(true),
            5 | 13 => Edit::Instances(draw.pick(&[1, 2, 3])),
            6 => Edit::Source(!site.source),
            7 => Edit::Required(!site.required),
            8 => Edit::Cron(!site.cron),
            9 => Edit::Literal(
                draw.pick(&["FEATURE", "LIMIT", "ASTRA_PORT"]),
                format!("{}", 9000 + draw.below(90)),
            ),
            10 => Edit::Literal("DATABASE_NAME", "no-such-database".into()),
            11 => Edit::Behaviour("APP_READY_STATUS", draw.pick(&["200", "204"])),
            12 => Edit::StopTimeout(draw.pick(&["5s", "10s", "150s"])),
            _ => Edit::Broken(true),
        }
    }

    pub fn apply(&self, site: &mut Site) {
        match self.clone() {
            Edit::Instances(n) => site.instances = n,
            Edit::BasePort(port) => site.base_port = port,
            Edit::Strategy(strategy) => site.strategy = strategy,
            Edit::Auto(auto) => site.auto = auto,
            Edit::Generated(generated) => site.generated = generated,
            Edit::Source(source) => site.source = source,
            Edit::Required(required) => site.required = required,
            Edit::Cron(cron) => site.cron = cron,
            Edit::Literal(key, value) => _ = site.literals.insert(key, value),
            Edit::Behaviour(key, value) => _ = site.behaviour.insert(key, value),
            Edit::StopTimeout(time) => site.stop_timeout = time,
            Edit::Worker(worker) => {
                site.worker = worker.map(|(inherits, role)| Worker { inherits, role });
            }
            Edit::Broken(broken) => site.broken = broken,
        }
    }
}

impl Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Op::Deploy { version, force: false } => write!(f, "deploy {version}"),
            Op::Deploy { version, force: true } => write!(f, "deploy {version} --force"),
            Op::DeploySha(version) => write!(f, "deploy-sha {version}"),
            Op::Push(version) => write!(f, "push {version}"),
            Op::Rollback => write!(f, "rollback"),
            Op::RollbackTo(back) => write!(f, "rollback --to {back} commits ago"),
            Op::Verb(words) => write!(f, "{words}"),
            Op::EnvSet(key, _) => write!(f, "env set {key}"),
            Op::Edit(edit, then) => write!(f, "agent.toml {edit:?}, then {}", then.unwrap_or("nothing")),
            Op::Hand(what) => write!(f, "by hand: {what:?}"),
            Op::Systemctl(word, unit) => write!(f, "systemctl {word} {unit}"),
            Op::Reboot => write!(f, "reboot"),
            Op::PowerCut => write!(f, "power cut"),
            Op::Kill(victim) => write!(f, "SIGKILL of {victim:?}"),
            Op::Disturbed { version, verb, after, by } => {
                write!(f, "{verb} with {version} pushed, {by:?} after {after} ms")
            }
            Op::NewBinary => write!(f, "new agent"),
            Op::NewBinaryMeanwhile => write!(f, "new agent while a run waits for another"),
            Op::Prune(what) => write!(f, "image removed: {what}"),
            Op::Registry(up) => write!(f, "registry {}", if *up { "comes" } else { "goes" }),
            Op::Database(up) => write!(f, "database {}", if *up { "comes" } else { "goes" }),
            Op::Source(up) => write!(f, "file source {}", if *up { "comes" } else { "goes" }),
            Op::Accessory(change) => write!(f, "{change}"),
            Op::Both(one, two) => write!(f, "{one} and {two} at once"),
        }
    }
}
