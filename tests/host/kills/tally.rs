//! Results of a campaign of cuts. Each cut is recorded with its verdict before any assertion, so that a
//! continued campaign loses nothing, above all no violation.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;
use std::{env, iter};

use serde::{Deserialize, Serialize};

use crate::recovery::Restored;
use crate::report::Report;
use crate::rows::{Row, append, record};

/// The promise: seconds, plus the time that the app needs to start.
const PROMISE: f64 = 15.0;

/// A cut-off run and its result.
#[derive(Debug, Serialize, Deserialize)]
pub struct Cut {
    run: String,
    at: String,
    from: String,
    /// The version that serves now; none: the host did not recover.
    to: Option<String>,
    seconds: f64,
    /// The promise that was broken.
    violation: Option<String>,
}

impl Cut {
    /// Checks the result of a cut; `start` is the app's start time.
    pub fn judge(
        (run, at, from): (&str, String, &str),
        killed: SystemTime,
        back: Result<Restored, String>,
        start: f64,
    ) -> Self {
        let (to, seconds, violation) = match back {
            Ok(Restored { version, seconds }) => {
                let late = seconds >= PROMISE + start;
                (Some(version), seconds, late.then(|| format!("whole only after {seconds:.1} s")))
            }
            Err(broken) => (None, killed.elapsed().unwrap_or_default().as_secs_f64(), Some(broken)),
        };
        Self { run: run.into(), at, from: from.into(), to, seconds, violation }
    }
}

/// The visitors' results during a number of cuts.
#[derive(Debug, Serialize, Deserialize)]
struct Traffic {
    cuts: usize,
    requests: usize,
    failed: usize,
    errors: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Found {
    Cut(Cut),
    Traffic(Traffic),
}

/// A line of the file: the result, and the tree that was tested.
#[derive(Debug, Serialize, Deserialize)]
struct Line {
    commit: String,
    seed: Option<u64>,
    #[serde(flatten)]
    found: Found,
}

pub struct Tally {
    what: &'static str,
    commit: String,
    pub seed: Option<u64>,
    lines: Vec<Line>,
    file: Option<PathBuf>,
}

impl Tally {
    pub fn new(what: &'static str, seed: Option<u64>) -> Self {
        Self { what, commit: String::new(), seed, lines: Vec::new(), file: None }
    }

    /// Continues the file, with its seed unless another one is given. One campaign judges one tree: lines of
    /// another are refused.
    pub fn kept_in(
        what: &'static str,
        file: &Path,
        commit: String,
        seed: Option<u64>,
    ) -> Result<Self, String> {
        let text = if file.exists() { fs::read_to_string(file).unwrap() } else { String::new() };
        let mut lines: Vec<Line> = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let refuse = |why: String| {
                let line = format!("{}, line {}: {why}", file.display(), number + 1);
                format!("{line}; `make campaign-new` forgets what was recorded")
            };
            let line: Line =
                serde_json::from_str(line).map_err(|e| refuse(format!("not a line of these tests ({e})")))?;
            if line.commit != commit {
                return Err(refuse(format!("recorded at commit {}, and this is {commit}", line.commit)));
            }
            lines.push(line);
        }
        let seed = seed.or_else(|| lines.iter().rev().find_map(|line| line.seed));
        Ok(Self { what, commit, seed, lines, file: Some(file.to_owned()) })
    }

    pub fn cuts(&self) -> impl Iterator<Item = &Cut> {
        self.lines.iter().filter_map(|line| match &line.found {
            Found::Cut(cut) => Some(cut),
            Found::Traffic(_) => None,
        })
    }

    fn traffic(&self) -> impl Iterator<Item = &Traffic> {
        self.lines.iter().filter_map(|line| match &line.found {
            Found::Traffic(traffic) => Some(traffic),
            Found::Cut(_) => None,
        })
    }

    /// Number of cuts of a verb so far.
    pub fn cuts_of(&self, verb: &str) -> usize {
        self.cuts().filter(|cut| cut.run.split(' ').next() == Some(verb)).count()
    }

    /// Records a cut, and returns whether it kept the promise.
    pub fn add(&mut self, cut: Cut) -> bool {
        let Cut { run, at, from, to, seconds, violation } = &cut;
        let number = self.cuts().count() + 1;
        let to = to.as_deref().unwrap_or("?");
        let verdict = if violation.is_none() { "whole" } else { "VIOLATION" };
        println!("{number:>4}  {run}, killed {at}: {from} -> {to}, {verdict} after {seconds:.1} s");
        let kept = violation.is_none();
        self.write(Found::Cut(cut));
        kept
    }

    /// Records the requests sent during the last cuts.
    pub fn add_traffic(&mut self, cuts: usize, report: &Report) -> bool {
        let errors = report.kinds.iter().flat_map(|(kind, of)| of.errors.iter().map(move |e| (kind, e)));
        let errors = errors.map(|(kind, e)| format!("{kind} at {:.1} s: {}", e.at, e.error)).collect();
        let (requests, failed) = (report.total, report.failed);
        self.write(Found::Traffic(Traffic { cuts, requests, failed, errors }));
        failed == 0
    }

    fn write(&mut self, found: Found) {
        let line = Line { commit: self.commit.clone(), seed: self.seed, found };
        if let Some(path) = &self.file {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            append(path, &line).unwrap();
        }
        self.lines.push(line);
    }

    /// Rows of a table: all cuts, then those at each crash point, then the traffic.
    pub fn rows(&self) -> Vec<Row> {
        let mut points: BTreeMap<u32, Vec<&Cut>> = BTreeMap::new();
        for cut in self.cuts() {
            let point = cut.at.strip_prefix("at C").and_then(|at| at.split(',').next()?.parse().ok());
            point.into_iter().for_each(|point| points.entry(point).or_default().push(cut));
        }
        let mut seeds: BTreeSet<u64> = self.lines.iter().filter_map(|line| line.seed).collect();
        seeds.extend(self.seed.filter(|_| seeds.is_empty()));
        let seeds: Vec<String> = seeds.iter().map(u64::to_string).collect();
        let seeds = if seeds.is_empty() { String::new() } else { format!(", seed {}", seeds.join(" and ")) };
        let all: Vec<&Cut> = self.cuts().collect();
        let each = points.iter().map(|(point, cuts)| row(&format!("C{point}"), cuts));
        let traffic = (self.traffic().count() > 0).then(|| {
            let sum = |of: fn(&Traffic) -> usize| self.traffic().map(of).sum::<usize>();
            // Traffic before an interruption was not recorded.
            let (during, kills) = (sum(|t| t.cuts), all.len());
            Row::Traffic { requests: sum(|t| t.requests), failed: sum(|t| t.failed), during, kills }
        });
        iter::once(row(&format!("{}{seeds}", self.what), &all)).chain(each).chain(traffic).collect()
    }

    /// All violations ever found.
    pub fn broken(&self) -> Vec<String> {
        let cuts = self.cuts().filter_map(|cut| {
            let violation = cut.violation.as_ref()?;
            Some(format!("{}, killed {}, {} before: {violation}", cut.run, cut.at, cut.from))
        });
        let lost = self.traffic().filter(|t| t.failed > 0);
        cuts.chain(lost.map(|t| format!("{} of {} requests failed: {:#?}", t.failed, t.requests, t.errors)))
            .collect()
    }

    /// Prints the table, and fails if a promise was broken, now or earlier.
    #[track_caller]
    pub fn conclude(&self) {
        // Start a new line after the test's name.
        println!();
        self.rows().iter().for_each(|row| record(row).unwrap());
        let broken = self.broken();
        assert!(broken.is_empty(), "{} violations:\n{}", broken.len(), broken.join("\n"));
    }
}

/// One row of the table.
fn row(what: &str, cuts: &[&Cut]) -> Row {
    let back: Vec<_> = cuts.iter().filter_map(|cut| Some((cut, cut.to.as_ref()?))).collect();
    let undone = back.iter().filter(|(cut, to)| cut.from == **to).count();
    let violations = cuts.iter().filter(|cut| cut.violation.is_some()).count();
    let slowest = back.iter().map(|(cut, _)| cut.seconds).fold(0.0, f64::max);
    let (what, kills, committed) = (what.into(), cuts.len(), back.len() - undone);
    Row::Kills { what, kills, undone, committed, violations, slowest }
}

/// The tested tree: the commit, and a `+` if the tree differs from it. Documents do not count: the campaign
/// writes one of them.
pub fn commit() -> String {
    let git = |words: &[&str]| {
        let output =
            Command::new("git").args(["-C", env!("CARGO_MANIFEST_DIR")]).args(words).output().unwrap();
        assert!(output.status.success(), "git {words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let dirty = !git(&["status", "--porcelain", "--", ".", ":!docs"]).is_empty();
    git(&["rev-parse", "--short", "HEAD"]) + if dirty { "+" } else { "" }
}

#[test]
fn a_violation_stays_in_a_continued_campaign() {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("tally-{}.jsonl", std::process::id()));
    let open = |commit: &str, seed| Tally::kept_in("blind", &file, commit.into(), seed);
    let judge = |back| Cut::judge(("deploy", "after 1 s".into(), "v1"), SystemTime::now(), back, 2.0);
    let whole = |seconds| Ok(Restored { seconds, version: "v2".into() });

    let mut tally = open("abc", Some(7)).unwrap();
    assert!(tally.add(judge(whole(16.9))));
    assert!(tally.add_traffic(1, &Report { total: 50, ..Report::default() }));
    assert_eq!(tally.broken(), [""; 0]);
    assert!(!tally.add(judge(whole(17.0))));
    assert!(!tally.add(judge(Err("nothing serves".into()))));
    assert!(!tally.add_traffic(2, &Report { total: 70, failed: 1, ..Report::default() }));

    let resumed = open("abc", None).unwrap();
    assert_eq!((resumed.seed, resumed.cuts_of("deploy"), resumed.broken().len()), (Some(7), 3, 3));
    let rows = "| blind, seed 7 | 3 kills: 0 undone, 2 committed, 1 neither | 2 violations | whole after 17.0 s at most |\n\
                | traffic meanwhile | 120 requests, during 3 of 3 kills | 1 failed |  |";
    let lines: Vec<String> = resumed.rows().iter().map(Row::to_string).collect();
    assert_eq!(lines.join("\n"), rows);

    let refused = open("abc+", None).map(|_| ()).unwrap_err();
    assert!(refused.contains("line 1: recorded at commit abc, and this is abc+"), "{refused}");
    fs::write(&file, "{\"run\": \"deploy\"}\n").unwrap();
    assert!(open("abc", None).is_err_and(|e| e.contains("not a line") && e.contains("campaign-new")));
    fs::remove_file(&file).unwrap();
}
