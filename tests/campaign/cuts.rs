//! Power cuts during a deploy, on a disk that loses unflushed writes. A host's disk (ext4) logs every write and
//! flush while it deploys v2 over v1. Then, for flushes chosen at random over the deploy, some of them around the
//! commit, `replay` restores the disk as a cut would leave it, and a host boots from it and checks itself
//! (cuts/check.sh).

mod disk;
mod marks;

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::records::{Cut, Cuts, Deploy};
use crate::replay::{Log, Random};
use crate::settings::Settings;
use crate::store::{Store, read_json, run as must, write_json};
use disk::{OnDisk, base, copy, log_deploy};

const CHECK: &str = include_str!("cuts/check.sh");

/// The flushes of the logged deploy, and those to cut at.
#[derive(Default, Serialize, Deserialize)]
struct Marks {
    all: Vec<usize>,
    chosen: BTreeSet<usize>,
}

pub fn run(settings: &Settings, store: &Store) -> Result<()> {
    need("qemu-storage-daemon", "qemu-system-common")?;
    let work = store.file("cuts");
    fs::create_dir_all(&work)?;
    base(settings, store, &work.join("base.raw"))?;
    let file = work.join("marks.json");
    let (deploy, mut marks) = match deploy(store)? {
        Some(deploy) if file.exists() => (deploy, read_json(&file)?),
        _ => logged(settings, store, &work)?,
    };
    marks::choose(&mut marks.chosen, &marks.all, deploy.commit_at, settings.cuts, deploy.seed);
    write_json(&file, &marks)?;
    let done: BTreeSet<usize> = cuts(store)?.iter().map(|cut| cut.mark).collect();
    let left: Vec<usize> = marks.chosen.difference(&done).copied().collect();
    cut_at(settings, store, &work, &deploy, &left)?;
    let kept = cuts(store)?.iter().all(|cut| cut.broken.is_empty());
    ensure!(kept, "a promise was broken: {}/cut-*.out", work.display());
    Ok(())
}

/// The last deploy that was logged.
fn deploy(store: &Store) -> Result<Option<Deploy>> {
    let lines = store.lines("cuts")?.into_iter().rev();
    Ok(lines.into_iter().find_map(|line| if let Cuts::Deploy(deploy) = line { Some(deploy) } else { None }))
}

/// The cuts in it.
fn cuts(store: &Store) -> Result<Vec<Cut>> {
    let mut cuts = Vec::new();
    for line in store.lines("cuts")? {
        match line {
            Cuts::Deploy(_) => cuts.clear(),
            Cuts::Cut(cut) => cuts.push(cut),
        }
    }
    Ok(cuts)
}

fn logged(settings: &Settings, store: &Store, work: &Path) -> Result<(Deploy, Marks)> {
    let clock = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    let seed = settings.seed.unwrap_or_else(|| Random(clock.as_nanos() as u64).next() >> 32);
    let (deploy, all) = log_deploy(settings, store, work, seed)?;
    eprintln!(
        "campaign: cuts: {} flushes in the deploy, {} since the commit began",
        deploy.flushes, deploy.since_commit
    );
    write_json(&work.join("marks.json"), &Marks { all: all.clone(), chosen: BTreeSet::new() })?;
    store.record("cuts", &Cuts::Deploy(deploy.clone()))?;
    Ok((deploy, Marks { all, chosen: BTreeSet::new() }))
}

fn cut_at(settings: &Settings, store: &Store, work: &Path, deploy: &Deploy, left: &[usize]) -> Result<()> {
    if left.is_empty() {
        return Ok(());
    }
    let log = Log::open(File::open(work.join("write.log"))?)?;
    let whole = work.join("disk.raw");
    copy(&work.join("base.raw"), &whole)?;
    let mut from = 0;
    for &mark in left {
        // The replay of a cut wrote some entries after the mark: the next replay writes them again completely.
        let disk = OpenOptions::new().write(true).open(&whole)?;
        let made = log.cut(&disk, from, mark, deploy.seed + mark as u64)?;
        from = mark + 1;
        let this = work.join("cut.raw");
        copy(&whole, &this)?;
        let out = work.join(format!("cut-{mark}.out"));
        let said = checked(settings, store, &this)?;
        fs::write(&out, &said)?;
        fs::remove_file(this)?;
        let cut = Cut { made, mark, since_commit: mark >= deploy.commit_at, ..read(&said, store) };
        if !cut.broken.is_empty() {
            eprintln!("{said}");
        }
        eprintln!(
            "campaign: cuts: flush {}: serves {}, {} broken",
            cut.made.flushes,
            cut.serves,
            cut.broken.len()
        );
        store.record("cuts", &Cuts::Cut(cut))?;
    }
    Ok(fs::remove_file(whole)?)
}

/// Boots from the disk, and returns what the host says about itself.
fn checked(settings: &Settings, store: &Store, disk: &Path) -> Result<String> {
    let on = match OnDisk::boot(settings, store, disk, disk) {
        Ok(on) => on,
        Err(error) => {
            disk::until_free(disk)?;
            return Ok(format!("broken: it does not boot: {error}\n"));
        }
    };
    let said = on.host()?.sh_with("timeout 300 bash -s", CHECK)?.text();
    on.off()?;
    Ok(said)
}

/// The findings of check.sh.
fn read(said: &str, store: &Store) -> Cut {
    let value =
        |name: &str| said.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().to_owned();
    let mut broken: Vec<String> =
        said.lines().filter_map(|line| line.strip_prefix("broken: ")).map(str::to_owned).collect();
    if !said.lines().any(|line| line == "checked: all") {
        broken.push("the host did not get to the end of its check".into());
    }
    let made = crate::replay::Made { flushes: 0, under_way: 0, kept: 0, lost: 0 };
    let (serves, ready) = (value("serves: "), value("ready: "));
    Cut { origin: store.origin(), mark: 0, since_commit: false, made, serves, ready, broken }
}

/// Installs the package of a command that is missing.
fn need(command: &str, package: &str) -> Result<()> {
    let found = Command::new("sh").args(["-c", &format!("command -v {command}")]).output()?;
    if found.status.success() {
        return Ok(());
    }
    must(Command::new("apt-get").args(["-q", "update"]))?;
    must(Command::new("apt-get").args(["-q", "install", "-y", "--no-install-recommends", package]))
        .with_context(|| format!("{command} is missing"))
}
