//! The accessory of a site: a Redis that counts, and the operations on it. `promises` checks it.

mod promises;

use std::fmt::{self, Display};

use super::act::{Done, Operator};
use super::draw::{Accessory, Draw};
use super::ops::{By, Op, Victim};
use crate::harness::Engine;
pub use promises::{after, codes, missing, ticked};

/// An operation on it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Change {
    Restart,
    /// … while the registry is down.
    RestartAlone,
    /// A push under its tag, then `accessory upgrade`.
    Upgrade(&'static str),
    /// A push without a verb.
    Push(&'static str),
    /// Another setting, and `accessory restart` after it.
    Setting(u16, bool),
    /// A readiness command that fails, then `accessory restart`.
    Unready,
    /// SIGKILL of its container.
    Kill,
    /// Its container is removed by hand.
    Remove,
}

pub const UNIT: &str = "astra-redis@1";
pub const RESTART: &str = "accessory restart redis";
pub const UPGRADE: &str = "accessory upgrade redis";
/// Versions in the registry: the tag of agent.toml, a newer one, and one that ends at once.
pub const TAGS: [&str; 3] = ["7", "8", "broken"];

/// Without a snapshot after each number only an orderly stop keeps it.
const COUNT: &str = "ENGINE exec astra-redis-1 redis-cli incr operator";
const SAVE: &str = "ENGINE exec astra-redis-1 redis-cli save";

impl Op {
    /// Operations on a site with an accessory.
    pub fn of_accessory(draw: &mut Draw, count: usize) -> Vec<Op> {
        let one = |draw: &mut Draw| match draw.below(16) {
            0 | 1 => Op::Accessory(Change::Restart),
            2 => Op::Accessory(Change::RestartAlone),
            3..6 => Op::Accessory(Change::Upgrade(draw.pick(&TAGS[..2]))),
            6 | 7 => Op::Accessory(Change::Upgrade("broken")),
            8 => Op::Accessory(Change::Push(draw.pick(&TAGS))),
            9 | 10 => Op::Accessory(Change::Setting(draw.below(100) as u16, draw.one_in(2))),
            11 => Op::Accessory(Change::Unready),
            12 => Op::Accessory(draw.pick(&[Change::Kill, Change::Remove])),
            13 => Op::Systemctl(draw.pick(&["restart", "stop"]), UNIT),
            14 => Op::Both(draw.pick(&["deploy", "deploy --force"]), draw.pick(&[RESTART, UPGRADE])),
            _ => Op::Disturbed {
                version: draw.pick(&["v1", "v2", "v3"]),
                verb: draw.pick(&[RESTART, UPGRADE]),
                after: 50 + draw.below(1500) as u64,
                by: draw.pick(&[By::Kill, By::Interrupt, By::Cut]),
            },
        };
        let mut ops: Vec<Op> = Vec::new();
        while ops.len() < count {
            let op = one(draw);
            // systemd counts its restarts, and three of them are a problem for `doctor`.
            if op != Op::Accessory(Change::Kill) || !ops.contains(&op) {
                ops.push(op);
            }
        }
        ops
    }

    /// Whether it may take the accessory's container away.
    fn reaches_accessory(&self, engine: Engine) -> bool {
        let own = |words: &str| words.starts_with("accessory ");
        match self {
            Op::Accessory(change) => !matches!(change, Change::Push(_) | Change::Setting(_, false)),
            Op::Systemctl(_, units) => *units == UNIT,
            Op::Reboot | Op::PowerCut | Op::Disturbed { by: By::Cut, .. } => true,
            // dockerd carries all containers.
            Op::Kill(Victim::Podman) | Op::Disturbed { by: By::KillPodman, .. }
                if engine == Engine::Docker =>
            {
                true
            }
            Op::Disturbed { verb, .. } => own(verb),
            Op::Both(one, two) => own(one) || own(two),
            _ => false,
        }
    }

    /// Whether the accessory, if this takes it away, gets SIGTERM and its time to save.
    pub fn stops_accessory_in_order(&self) -> bool {
        match self {
            Op::Accessory(change) => !matches!(change, Change::Kill | Change::Remove),
            Op::Systemctl(..) | Op::Reboot | Op::Both(..) => true,
            _ => false,
        }
    }
}

impl Operator {
    pub fn change(&mut self, change: Change, done: &mut Done) {
        match change {
            Change::Restart => self.verb(RESTART, done),
            Change::RestartAlone => {
                self.sh("systemctl stop docker-registry");
                self.verb(RESTART, done);
                if self.registry {
                    self.start_registry();
                }
            }
            Change::Upgrade(tag) => {
                self.push_redis(tag);
                self.verb(UPGRADE, done);
            }
            Change::Push(tag) => self.push_redis(tag),
            Change::Setting(setting, now) => {
                self.site.accessory = self.site.accessory.map(|own| Accessory { setting, ..own });
                self.write_config();
                if now {
                    self.verb(RESTART, done);
                }
            }
            Change::Unready => {
                self.set_unready(true);
                self.verb(RESTART, done);
            }
            Change::Kill => _ = self.sh("ENGINE kill astra-redis-1"),
            Change::Remove => _ = self.sh("ENGINE rm -f astra-redis-1"),
        }
    }

    pub fn set_unready(&mut self, unready: bool) {
        self.site.accessory = self.site.accessory.map(|own| Accessory { unready, ..own });
        self.write_config();
    }

    /// A push fails while the registry is down.
    fn push_redis(&mut self, tag: &'static str) {
        if self.registry {
            self.host.tag_in("redis", "7", &self.known.redis[tag]);
            self.log += &format!("    # push {tag} as 7\n");
            self.redis_tag = tag;
        }
    }

    /// Lets the accessory count on, from the number that it must have kept.
    pub fn count(&mut self, saves: bool) -> Option<String> {
        self.site.accessory?;
        let said = self.sh(COUNT);
        let next = self.known.count + 1;
        if said.trim() != next.to_string() {
            return Some(format!("the accessory counts {}, not {next}: it has lost data", said.trim()));
        }
        self.known.count = next;
        let said = if saves { self.sh(SAVE) } else { "OK".into() };
        (said.trim() != "OK").then(|| format!("the accessory does not save: {said}"))
    }
}

impl Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::Restart => write!(f, "{RESTART}"),
            Change::RestartAlone => write!(f, "{RESTART} without the registry"),
            Change::Upgrade(tag) => write!(f, "{UPGRADE} to {tag}"),
            Change::Push(tag) => write!(f, "push redis {tag}"),
            Change::Setting(_, now) => {
                write!(f, "agent.toml: a setting of redis, then {}", if *now { RESTART } else { "nothing" })
            }
            Change::Unready => write!(f, "agent.toml: redis is never ready, then {RESTART}"),
            Change::Kill => write!(f, "SIGKILL of redis"),
            Change::Remove => write!(f, "redis is removed by hand"),
        }
    }
}
