//! Results of a campaign of sequences, line by line: a continued campaign repeats none of them.

use std::fs;
use std::iter;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::sequence::{Ended, Failure};
use crate::rows::{Row, append};

/// A sequence, with its tree and engine.
#[derive(Debug, Serialize, Deserialize)]
pub struct Line {
    pub commit: String,
    pub engine: String,
    pub seed: u64,
    pub site: String,
    #[serde(flatten)]
    pub ended: Ended,
    /// For a failure: the places of the operations that are enough for it.
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
                panic!("{}: {e}; `make campaign-new` forgets what was recorded", file.display())
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
            append(path, &line).unwrap();
        }
        println!("{}", line.row().to_string().trim_matches(['|', ' ']));
        self.lines.push(line);
    }

    /// Rows of a table: all sequences of an engine, then each that broke a promise.
    pub fn rows(&self, engine: &str) -> Vec<Row> {
        let of: Vec<_> = self.lines.iter().filter(|line| line.engine == engine).collect();
        let sum = |count: fn(&Ended) -> usize| of.iter().map(|line| count(&line.ended)).sum::<usize>();
        let broken: Vec<_> = of.iter().filter(|line| line.ended.failure.is_some()).collect();
        let all = Row::Sequences {
            engine: engine.into(),
            sequences: of.len(),
            operations: sum(|e| e.operations),
            requests: sum(|e| e.requests),
            lost: sum(|e| e.lost),
            broken: broken.len(),
            since: of.iter().rev().take_while(|line| line.ended.failure.is_none()).count(),
        };
        iter::once(all).chain(broken.iter().map(|line| line.row())).collect()
    }

    pub fn table(&self, engine: &str) -> String {
        self.rows(engine).iter().map(|row| format!("{row}\n")).collect()
    }

    /// How many of the last sequences of an engine broke a promise.
    pub fn broken(&self, engine: &str, last: usize) -> usize {
        let of = self.lines.iter().rev().filter(|line| line.engine == engine).take(last);
        of.filter(|line| line.ended.failure.is_some()).count()
    }
}

impl Line {
    fn row(&self) -> Row {
        let Self { engine, seed, site, ended, shrunk, .. } = self;
        let verdict = ended.failure.as_ref().map_or("kept".to_owned(), |failure| {
            let first = failure.broken.first().map_or("", String::as_str).lines().next().unwrap_or_default();
            let first: String = first.chars().take(160).map(|c| if c == '|' { '/' } else { c }).collect();
            format!("BROKEN at {} (enough: {shrunk:?}): {first}", failure.op)
        });
        Row::Sequence {
            engine: engine.clone(),
            seed: *seed,
            site: site.clone(),
            operations: ended.operations,
            seconds: ended.seconds,
            requests: ended.requests,
            lost: ended.lost,
            verdict,
        }
    }
}

#[test]
fn a_campaign_continues_and_judges_the_last_sequences_of_an_engine() {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("sequences-{}.jsonl", std::process::id()));
    let line = |engine: &str, seed, broken: bool| {
        let failure =
            Failure { at: Some(0), op: "deploy".into(), broken: vec!["x | y".into()], log: String::new() };
        let ended =
            Ended { operations: 15, requests: 100, failure: broken.then_some(failure), ..Ended::default() };
        Line {
            commit: "abc".into(),
            engine: engine.into(),
            seed,
            site: "a site".into(),
            ended,
            shrunk: vec![0],
        }
    };
    let mut tally = Tally::kept_in(file.clone());
    for line in [line("podman", 1, true), line("podman", 2, false), line("docker", 1, true)] {
        tally.add(line);
    }
    let resumed = Tally::kept_in(file.clone());
    fs::remove_file(file).unwrap();
    assert!(resumed.has(2, "podman") && !resumed.has(2, "docker") && !resumed.has(3, "podman"));
    assert_eq!(
        [resumed.broken("podman", 1), resumed.broken("podman", 60), resumed.broken("docker", 1)],
        [0, 1, 1]
    );
    let rows: Vec<String> = resumed.rows("podman").iter().map(Row::to_string).collect();
    assert_eq!(
        rows[0],
        "| podman, 2 sequences | 30 operations | 200 requests, 0 lost | 1 broke a promise, none of the last 1 |"
    );
    assert!(rows.len() == 2 && rows[1].ends_with("BROKEN at deploy (enough: [0]): x / y |"), "{rows:?}");
}
