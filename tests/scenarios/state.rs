//! The state of the fake host, which all fakes share, and the faults that a scenario asks for.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::Notify;

use crate::http::{Server, UnixServer};
use crate::imds::aws::Vault;

#[derive(Clone)]
pub struct Shared(Arc<Mutex<State>>);

/// One host.
pub struct State {
    pub root: PathBuf,
    pub health_port: u16,
    pub units: BTreeMap<String, Unit>,
    pub enabled: BTreeSet<String>,
    /// The units that were enabled at the last reload: systemd 252 tells no newer ones.
    pub enabled_at_reload: BTreeSet<String>,
    /// Unit files as systemd read them last.
    pub loaded: BTreeMap<PathBuf, Vec<u8>>,
    pub connections: Vec<zbus::Connection>,
    pub subscribed: Vec<zbus::Connection>,
    pub last_job: u32,
    pub last_invocation: u128,
    /// Instances that listen, by unit.
    pub apps: BTreeMap<String, Server>,
    /// By name.
    pub containers: BTreeMap<String, Container>,
    /// `repository@digest` of the local images.
    pub local: BTreeSet<String>,
    pub networks: BTreeSet<String>,
    /// Images, local or not, by digest.
    pub images: BTreeMap<String, Image>,
    /// `shop:latest` → digest.
    pub tags: BTreeMap<String, String>,
    /// Facts of the EC2 instance, by category, and the address of the service that has them.
    pub facts: BTreeMap<String, String>,
    pub imds: String,
    /// Secrets and parameters in AWS, at the same address.
    pub vault: Vault,
    pub caddy: Caddy,
    /// Log lines of units, as entries of `journalctl --output=json`.
    pub said: BTreeMap<String, Vec<String>>,
    /// Every call that changes the host, oldest first.
    pub calls: Vec<String>,
    pub faults: Vec<Fault>,
    /// The call to wait for, and who waits.
    pub awaited: Option<(String, Arc<Notify>)>,
}

/// A unit, with the names of org.freedesktop.systemd1(5).
#[derive(Clone, Default)]
pub struct Unit {
    pub active: &'static str,
    pub sub: &'static str,
    pub result: &'static str,
    pub restarts: u32,
    pub invocation: u128,
    /// waitid(2).
    pub main: (i32, i32),
    pub job: Option<(u32, String)>,
    /// Counts starts and stops: a task that belongs to an earlier one changes nothing.
    pub life: u32,
}

pub struct Container {
    pub labels: BTreeMap<String, String>,
    /// The variables of its env file.
    pub env: BTreeMap<String, String>,
    /// The files of the release in it: path there, and content.
    pub files: BTreeMap<String, String>,
    pub state: &'static str,
}

/// The behaviour of an image.
#[derive(Clone)]
pub struct Image {
    pub app: App,
    pub migration: Migration,
}

#[derive(Clone)]
pub enum App {
    Ready,
    /// Ends with this code before READY.
    Exits(i32),
    /// READY, ready too if it `listens`, and ends after a time: waitid(2).
    Dies {
        after: Duration,
        main: (i32, i32),
        listens: bool,
    },
    /// Is ready, and answers this status after a time.
    Turns(Duration, u16),
    /// Accepts connections, and answers nothing.
    Hangs,
    /// READY, and this status from then on.
    Answers(u16),
    Redirects,
    /// READY, but nothing listens.
    Silent,
    /// Never READY.
    Starts,
    /// The process that starts it is killed by this signal.
    Killed(i32),
}

#[derive(Clone)]
pub enum Migration {
    Passes,
    Exits(i32),
    /// Until it is stopped.
    Runs,
    Killed(i32),
}

#[derive(Default)]
pub struct Caddy {
    /// The Caddyfile in force; `None`: it does not run.
    pub runs: Option<String>,
    pub socket: Option<UnixServer>,
    pub routes: Vec<Server>,
    /// It looks for no marker.
    pub blind: bool,
    pub hangs: bool,
    /// The next connections to health routes that are closed without an answer.
    pub cuts: u32,
    /// Answers to visitors so far, and those of them with status 500.
    pub answered: (u64, u64),
    /// Those with status 500 of ten answers.
    pub errors: u64,
}

/// A fault of one call, such as `StartUnit astra-app@1.service` or `POST /images/create`.
pub struct Fault {
    pub call: String,
    pub how: How,
    /// Calls that pass before it, and calls that fail then.
    pub after: u32,
    pub times: u32,
}

#[derive(Clone)]
pub enum How {
    /// The job ends with this result.
    Ends(&'static str),
    /// As above, after a time.
    EndsLate(Duration, &'static str),
    /// TimeoutStartSec= of the unit passes: its job fails, its own result is `timeout`.
    TimesOut,
    /// The job waits for another unit: no process of its own begins.
    Waits,
    /// The job takes so long, and does its work then.
    Late(Duration),
    /// D-Bus answers with this error.
    Refused(&'static str),
    /// The engine, the registry or Caddy answers with this status and message.
    Status(u16, &'static str),
    /// A message within the stream of a pull.
    Says(&'static str),
    HangsUp,
    /// No answer; a job that never ends.
    Hangs,
}

impl Unit {
    pub fn fail(&mut self, result: &'static str, main: (i32, i32)) {
        (self.active, self.sub, self.result, self.main) = ("failed", "failed", result, main);
    }
}

impl Shared {
    pub fn new(state: State) -> Self {
        Self(Arc::new(Mutex::new(state)))
    }

    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }
}

impl State {
    /// Records a call that changes the host.
    pub fn note(&mut self, call: String) {
        if self.awaited.as_ref().is_some_and(|(awaited, _)| call.starts_with(awaited.as_str()))
            && let Some((_, waiter)) = self.awaited.take()
        {
            waiter.notify_one();
        }
        self.calls.push(call);
    }

    /// The fault of this call, if there is one.
    pub fn fault(&mut self, call: &str) -> Option<How> {
        let fault = self.faults.iter_mut().find(|f| call.starts_with(&f.call) && f.times > 0)?;
        if fault.after > 0 {
            fault.after -= 1;
            return None;
        }
        fault.times -= 1;
        Some(fault.how.clone())
    }

    pub fn unit(&mut self, name: &str) -> &mut Unit {
        self.units.entry(name.to_owned()).or_insert_with(|| Unit {
            active: "inactive",
            sub: "dead",
            result: "success",
            ..Unit::default()
        })
    }

    /// The unit, if its start or stop number `life` is the last one.
    pub fn unit_in(&mut self, name: &str, life: u32) -> Option<&mut Unit> {
        Some(self.unit(name)).filter(|unit| unit.life == life)
    }

    /// Writes a log line: `by` is `podman`, or the name of a container for its app's own.
    pub fn say(&mut self, unit: &str, by: &str, text: &str) {
        let mut entry = serde_json::json!({"MESSAGE": text, "SYSLOG_IDENTIFIER": by});
        if by != "podman" {
            entry["CONTAINER_NAME"] = by.into();
        }
        self.said.entry(unit.to_owned()).or_default().push(entry.to_string());
    }

    pub fn text(&self, path: &str) -> String {
        std::fs::read_to_string(self.root.join(path.trim_start_matches('/'))).unwrap_or_default()
    }

    pub fn is_there(&self, path: &str) -> bool {
        self.root.join(path.trim_start_matches('/')).exists()
    }
}

/// The digest of the image with this name.
pub fn digest(name: &str) -> String {
    let hex: String = name.bytes().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex:0<64}")
}
