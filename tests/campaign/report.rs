//! Writes docs/proof.md and the tables in docs/proof/, only from the recorded results.

mod baseline;
mod cuts;
mod load;
mod summary;
mod tested;
#[cfg(test)]
mod tests;
mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::{Context, Result, ensure};

use crate::records::{Baseline, Block, Cuts, Line, Machine, Tested, Versions};
use crate::settings::Settings;
use crate::store::{UNKNOWN, git, lines, read_json, tree};

/// All that is recorded.
#[derive(Default)]
struct Records {
    machine: Machine,
    versions: Option<Versions>,
    load: Vec<Block>,
    baseline: Vec<Baseline>,
    cuts: Vec<Cuts>,
    tested: BTreeMap<&'static str, Vec<Tested>>,
    /// Whether all parts measured the same agent, in words.
    provenance: String,
}

#[derive(Debug, PartialEq)]
enum Verdict {
    NotRun,
    Kept,
    /// After so many attempts that failed.
    KeptAfter(usize),
    Broken,
}

struct Claim {
    text: &'static str,
    /// The page of its table.
    page: &'static str,
    verdict: Verdict,
    days: String,
}

pub fn run(settings: &Settings) -> Result<()> {
    let records = Records::read(settings)?;
    let tables = settings.proof.with_extension("");
    fs::create_dir_all(&tables)?;
    for (name, text) in records.pages() {
        let file = if name == "proof" { settings.proof.clone() } else { tables.join(format!("{name}.md")) };
        fs::write(&file, text).with_context(|| format!("writing {}", file.display()))?;
    }
    for claim in summary::claims(&records) {
        println!("{}\n    {:?} {}", claim.text, claim.verdict, claim.days);
    }
    println!("{}", settings.proof.display());
    Ok(())
}

impl Records {
    fn read(settings: &Settings) -> Result<Self> {
        let dir = &settings.dir;
        let machine = dir.join("machine.json");
        ensure!(machine.exists(), "{}: no campaign yet", dir.display());
        let versions = dir.join("versions.json");
        let mut records = Self {
            machine: read_json(&machine)?,
            versions: if versions.exists() { Some(read_json(&versions)?) } else { None },
            load: lines(dir, "load")?,
            baseline: lines(dir, "baseline")?,
            cuts: lines(dir, "cuts")?,
            ..Self::default()
        };
        for suite in tested::SUITES {
            records.tested.insert(suite.part, lines(dir, suite.part)?);
        }
        records.provenance = records.compare();
        Ok(records)
    }

    /// All pages, by their names.
    fn pages(&self) -> Vec<(&'static str, String)> {
        let section = |part: &str| {
            let suites = tested::SUITES.iter().filter(|suite| suite.page == part);
            suites.map(|suite| suite.section(self)).collect::<Vec<_>>().join("\n")
        };
        let parts = [
            ("load", format!("## Deploys in a row\n\n{}", load::page(self))),
            ("baseline", format!("## The same under other ways to deploy\n\n{}", baseline::page(self))),
            ("cuts", format!("## Power cuts\n\n{}", cuts::page(self))),
            ("kills", section("kills")),
            ("faults", section("faults")),
            ("operator", section("operator")),
            ("fuzz", section("fuzz")),
        ];
        let mut pages = vec![("proof", format!("# Proof\n\n{WRITTEN}\n{}", summary::page(self)))];
        let titled = |text: &str| {
            text.replacen("## ", "# ", 1).replacen("\n\n", &format!("\n\n{WRITTEN}{LINK}\n\n"), 1)
        };
        pages.extend(parts.map(|(name, text)| (name, titled(&text))));
        pages
    }

    /// Scripts may change between two parts, the agent may not: all parts must prove the same agent.
    fn compare(&self) -> String {
        let commit = self.machine.commit.as_str();
        if commit == UNKNOWN {
            return "**The agent was handed in:** its source is not known, and the kills and faults were those of the tree.".into();
        }
        let same = |tree: &str| {
            git(&["diff", "--quiet", commit, tree, "--", "agent", "Cargo.toml", "Cargo.lock"]).is_ok()
        };
        let mut trees: BTreeSet<&str> = BTreeSet::new();
        trees.extend(self.load.iter().map(|line| line.origin.tree.as_str()));
        trees.extend(self.baseline.iter().map(|line| line.origin.tree.as_str()));
        trees.extend(self.cuts.iter().map(|line| line.origin().tree.as_str()));
        trees.extend(self.tested.values().flatten().map(|line| line.origin.tree.as_str()));
        let others: Vec<&str> = trees.into_iter().filter(|tree| !same(tree)).collect();
        let mut text = match others.as_slice() {
            [] => "The agent's source is the same in every tree that the tables name.".to_owned(),
            others => format!(
                "**Not all parts are of this agent:** its source is another, or not known, in {}.",
                others.join(", ")
            ),
        };
        if git(&["diff", "--quiet", commit, "--", "agent", "Cargo.toml", "Cargo.lock"]).is_err() {
            text += &format!("\n**The agent has changed since:** this page was written at {}.", tree());
        }
        text
    }
}

const WRITTEN: &str =
    "<!-- Written by tests/campaign from recorded results. Do not edit: run `make campaign`. -->";
const LINK: &str = "\n[All claims](../proof.md)";
