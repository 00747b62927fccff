//! What a campaign of sequences found, line by line: one that goes on later does none of them again.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::sequence::Ended;

/// A sequence, and with which tree and engine it ran.
#[derive(Debug, Serialize, Deserialize)]
pub struct Line {
    pub commit: String,
    pub engine: String,
    pub seed: u64,
    pub site: String,
    #[serde(flatten)]
    pub ended: Ended,
    /// Of a failure: the places of the operations that are enough for it.
    pub shrunk: Vec<usize>,
}

#[derive(Default)]
pub struct Tally {
    lines: Vec<Line>,
    file: Option<PathBuf>,
}

impl Tally {
    pub fn kept_in(file: PathBuf) -> Self {
        let text = if file.exists() { fs::read_to_string(&file).unwrap() } else { String::new() };
        let lines = text.lines().map(|line| {
            serde_json::from_str(line).unwrap_or_else(|e| {
                panic!("{}: {e}; `tests/campaign/run new` forgets what was recorded", file.display())
            })
        });
        Self { lines: lines.collect(), file: Some(file) }
    }

    pub fn has(&self, seed: u64, engine: &str) -> bool {
        self.lines.iter().any(|line| line.seed == seed && line.engine == engine)
    }

    pub fn add(&mut self, line: Line) {
        if let Some(path) = &self.file {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
            file.write_all(format!("{}\n", serde_json::to_string(&line).unwrap()).as_bytes()).unwrap();
        }
        println!("{}", line.row().trim_matches(['|', ' ']));
        self.lines.push(line);
    }

    /// Rows of a table: all sequences of an engine, then each that broke a promise.
    pub fn rows(&self) -> Vec<String> {
        let mut engines: Vec<_> = self.lines.iter().map(|line| line.engine.as_str()).collect();
        engines.sort_unstable();
        engines.dedup();
        let mut rows = Vec::new();
        for engine in engines {
            let of: Vec<_> = self.lines.iter().filter(|line| line.engine == engine).collect();
            let sum = |count: fn(&Ended) -> usize| of.iter().map(|line| count(&line.ended)).sum::<usize>();
            let broken = of.iter().filter(|line| line.ended.failure.is_some()).count();
            let since = of.iter().rev().take_while(|line| line.ended.failure.is_none()).count();
            rows.push(format!(
                "| {engine}, {} sequences | {} operations | {} requests, {} lost | {broken} broke a promise; none of the last {since} |",
                of.len(),
                sum(|e| e.operations),
                sum(|e| e.requests),
                sum(|e| e.lost),
            ));
            rows.extend(of.iter().filter(|line| line.ended.failure.is_some()).map(|line| line.row()));
        }
        rows
    }

    pub fn broken(&self) -> usize {
        self.lines.iter().filter(|line| line.ended.failure.is_some()).count()
    }
}

impl Line {
    fn row(&self) -> String {
        let Self { engine, seed, site, ended, shrunk, .. } = self;
        let verdict = ended.failure.as_ref().map_or("kept".to_owned(), |failure| {
            let first = failure.broken.first().map_or("", String::as_str).lines().next().unwrap_or_default();
            let first: String = first.chars().take(160).map(|c| if c == '|' { '/' } else { c }).collect();
            format!("BROKEN at {} (enough: {shrunk:?}): {first}", failure.op)
        });
        format!(
            "| {engine}, seed {seed}: {site} | {} operations in {:.0} s | {} requests, {} lost | {verdict} |",
            ended.operations, ended.seconds, ended.requests, ended.lost
        )
    }
}
