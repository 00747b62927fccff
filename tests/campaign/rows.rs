//! Rows that the cargo tests of a campaign record: one line of JSON each, in the file that ASTRA_RECORDS names.
//! Shared by #[path]: tests/host and tests/fuzz.rs write them, the campaign reads them.

use std::env;
use std::fmt::{self, Display};
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// One row of a table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "row", rename_all = "kebab-case")]
pub enum Row {
    /// A group of kills.
    Kills { what: String, kills: usize, undone: usize, committed: usize, violations: usize, slowest: f64 },
    /// The requests sent during so many of the kills.
    Traffic { requests: usize, failed: usize, during: usize, kills: usize },
    /// A fault that was provoked, and the verdict.
    Fault {
        id: String,
        what: String,
        outcome: String,
        code: i32,
        seconds: f64,
        requests: usize,
        lost: usize,
        verdict: String,
    },
    /// Faults that were not provoked, and the reason.
    NotCovered { ids: String, why: String },
    /// All sequences of the random operator on an engine.
    Sequences {
        engine: String,
        sequences: usize,
        operations: usize,
        requests: usize,
        lost: usize,
        broken: usize,
        /// Sequences since the last one that broke a promise.
        since: usize,
    },
    /// One sequence of the random operator.
    Sequence {
        engine: String,
        seed: u64,
        site: String,
        operations: usize,
        seconds: f64,
        requests: usize,
        lost: usize,
        verdict: String,
    },
    /// A target of the fuzzer.
    Fuzz { target: String, inputs: u64, seed: u64 },
}

impl Row {
    /// The cells that a reader sees.
    pub fn cells(&self) -> Vec<String> {
        match self {
            Self::Kills { what, kills, undone, committed, violations, slowest } => {
                let neither = match kills - undone - committed {
                    0 => String::new(),
                    lost => format!(", {lost} neither"),
                };
                vec![
                    what.clone(),
                    format!("{kills} kills: {undone} undone, {committed} committed{neither}"),
                    format!("{violations} violations"),
                    format!("whole after {slowest:.1} s at most"),
                ]
            }
            Self::Traffic { requests, failed, during, kills } => vec![
                "traffic meanwhile".into(),
                format!("{requests} requests, during {during} of {kills} kills"),
                format!("{failed} failed"),
                String::new(),
            ],
            Self::Fault { id, what, outcome, code, seconds, requests, lost, verdict } => vec![
                id.clone(),
                what.clone(),
                format!("{outcome} {code}"),
                format!("{seconds:.1} s"),
                format!("{lost}/{requests}"),
                verdict.clone(),
            ],
            Self::NotCovered { ids, why } => {
                let mut cells = vec![ids.clone(), why.clone(), "not covered".into()];
                cells.resize(6, String::new());
                cells
            }
            Self::Sequences { engine, sequences, operations, requests, lost, broken, since } => vec![
                format!("{engine}, {sequences} sequences"),
                format!("{operations} operations"),
                format!("{requests} requests, {lost} lost"),
                format!("{broken} broke a promise, none of the last {since}"),
            ],
            Self::Sequence { engine, seed, site, operations, seconds, requests, lost, verdict } => vec![
                format!("{engine}, seed {seed}: {site}"),
                format!("{operations} operations in {seconds:.0} s"),
                format!("{requests} requests, {lost} lost"),
                verdict.clone(),
            ],
            Self::Fuzz { target, inputs, seed } => {
                vec![target.clone(), format!("{inputs} inputs"), format!("FUZZ_SEED={seed}")]
            }
        }
    }
}

impl Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "| {} |", self.cells().join(" | "))
    }
}

/// The file of the rows, in a campaign.
fn file() -> Option<PathBuf> {
    env::var_os("ASTRA_RECORDS").map(PathBuf::from)
}

/// The directory of the campaign that runs this test.
pub fn campaign() -> Option<PathBuf> {
    Some(file()?.parent()?.to_owned())
}

/// Prints the row, and records it in a campaign.
pub fn record(row: &Row) -> io::Result<()> {
    println!("{row}");
    match file() {
        Some(file) => append(&file, row),
        None => Ok(()),
    }
}

/// Appends a line in one write: it is complete or missing.
pub fn append(file: &Path, line: &impl Serialize) -> io::Result<()> {
    let line = format!("{}\n", serde_json::to_string(line)?);
    OpenOptions::new().create(true).append(true).open(file)?.write_all(line.as_bytes())
}
