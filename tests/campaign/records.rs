//! The lines of a campaign's results, `target/campaign/*.jsonl`, and its two files about the machine and the
//! hosts.

use std::fmt::{self, Display};

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::replay::Made;
use crate::rows::Row;
use crate::traffic::Report;

/// When a line was recorded, the commit of the measured agent, and the tree of the tools that measured it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Origin {
    pub at: String,
    pub commit: String,
    pub tree: String,
}

impl Origin {
    pub fn day(&self) -> &str {
        self.at.get(..10).unwrap_or_default()
    }
}

/// A line that tells its origin.
pub trait Line {
    fn origin(&self) -> &Origin;
}

/// The operations on the host while a block of load is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Strategy {
    /// Nothing: the losses of the site and of the generator themselves.
    None,
    Rolling,
    Surge,
    /// No deploy, but changes of the strategy.
    Change,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Mixed,
    /// Only quick POSTs.
    Quick,
}

/// A block of deploys in a row, and the load that was sent meanwhile: load.jsonl.
#[derive(Debug, Serialize, Deserialize)]
pub struct Block {
    #[serde(flatten)]
    pub origin: Origin,
    pub strategy: Strategy,
    pub kind: Kind,
    /// Its number among the blocks of a strategy.
    pub number: usize,
    pub deploys: usize,
    /// Changes of the strategy.
    pub changes: usize,
    pub failed_deploys: Vec<FailedDeploy>,
    /// Seconds of each deploy, and of each that pulled and migrated.
    pub seconds: Vec<f64>,
    pub pulled_seconds: Vec<f64>,
    /// Places in `report.websockets.cuts` of those whose own container had not just ended.
    pub cut_elsewhere: Vec<usize>,
    pub report: Report,
}

impl Block {
    /// A block in which nothing has happened yet.
    pub fn new(origin: Origin, strategy: Strategy, kind: Kind, number: usize) -> Self {
        Self {
            origin,
            strategy,
            kind,
            number,
            deploys: 0,
            changes: 0,
            failed_deploys: Vec::new(),
            seconds: Vec::new(),
            pulled_seconds: Vec::new(),
            cut_elsewhere: Vec::new(),
            report: Report::default(),
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub struct FailedDeploy {
    pub code: i32,
    pub log: String,
}

/// A way to deploy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    Agent,
    Careful,
    AutoUpdate,
    Plain,
}

/// A release that is deployed, or a disturbance of a deploy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Case {
    Good,
    NeverReady,
    Exits,
    MigrationFails,
    Killed,
    PowerCut,
    RollbackOffline,
}

/// One case of the comparison: baseline.jsonl.
#[derive(Debug, Serialize, Deserialize)]
pub struct Baseline {
    #[serde(flatten)]
    pub origin: Origin,
    pub way: Way,
    pub case: Case,
    /// `None`: the power was cut before the command ended.
    pub code: Option<i32>,
    pub took: Option<f64>,
    /// The start of the command, in seconds since 1970.
    pub begun: f64,
    /// Seconds that were observed after the command.
    pub watch: u64,
    /// The version that each instance serves in the end.
    pub instances: Vec<String>,
    pub report: Report,
}

/// The logged deploy, and a cut in it: cuts.jsonl.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Cuts {
    Deploy(Deploy),
    Cut(Cut),
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Deploy {
    #[serde(flatten)]
    pub origin: Origin,
    pub seed: u64,
    /// The entry of the log that writes the next astra.env.
    pub commit_at: usize,
    pub flushes: usize,
    pub since_commit: usize,
    pub log_bytes: u64,
    pub qemu: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Cut {
    #[serde(flatten)]
    pub origin: Origin,
    /// The entry of the log that is the last flush.
    pub mark: usize,
    pub since_commit: bool,
    pub made: Made,
    pub serves: String,
    pub ready: String,
    pub broken: Vec<String>,
}

/// A run of cargo tests: kills.jsonl, faults.jsonl, operator-ENGINE.jsonl, fuzz.jsonl.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Tested {
    #[serde(flatten)]
    pub origin: Origin,
    pub command: String,
    pub build: String,
    /// The exit code of cargo.
    pub status: i32,
    pub seconds: u64,
    pub passed: usize,
    pub failed: Vec<String>,
    pub log: String,
    pub rows: Vec<Row>,
}

/// The measured agent and the machine: machine.json.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    pub commit: String,
    /// Its version and the hash of the binary.
    pub agent: String,
    pub sha256: String,
    pub build: String,
    pub kernel: String,
    pub cpus: usize,
    pub cpu: String,
    pub memory_gib: u64,
    pub rustc: String,
}

/// The software on the hosts: versions.json.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Versions {
    pub debian: String,
    pub systemd: String,
    pub podman: String,
    pub postgresql: String,
    pub caddy: String,
}

impl Line for Block {
    fn origin(&self) -> &Origin {
        &self.origin
    }
}

impl Line for Baseline {
    fn origin(&self) -> &Origin {
        &self.origin
    }
}

impl Line for Cuts {
    fn origin(&self) -> &Origin {
        match self {
            Self::Deploy(deploy) => &deploy.origin,
            Self::Cut(cut) => &cut.origin,
        }
    }
}

impl Line for Cut {
    fn origin(&self) -> &Origin {
        &self.origin
    }
}

impl Line for Tested {
    fn origin(&self) -> &Origin {
        &self.origin
    }
}

/// As in JSON and in names of files.
fn name(value: &impl Serialize, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let value = serde_json::to_value(value).map_err(|_| fmt::Error)?;
    f.write_str(value.as_str().unwrap_or_default())
}

impl Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        name(self, f)
    }
}

impl Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        name(self, f)
    }
}

impl Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        name(self, f)
    }
}
