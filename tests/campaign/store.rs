//! The directory of a campaign: the measured agent, the tools beside it, and the recorded results.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use astra_agent::host::facts::now;
use astra_agent::model::fingerprint::sha256;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::records::{Machine, Origin};
use crate::rows::append;
use crate::settings::{PROJECT, Settings};

/// Files that `new` deletes: everything but the build of the agent, which makes the next build quick.
const KEPT: [&str; 1] = ["build"];

/// The commit of an agent that was handed in.
pub const UNKNOWN: &str = "unknown";

pub struct Store {
    pub dir: PathBuf,
    machine: Machine,
}

impl Store {
    /// One campaign measures one agent: the committed one, built at the start of the campaign, or the one that
    /// is handed in.
    pub fn open(settings: &Settings) -> Result<Self> {
        let dir = &settings.dir;
        fs::create_dir_all(dir).with_context(|| format!("creating {}", dir.display()))?;
        let (agent, described) = (dir.join("astra-agent"), dir.join("machine.json"));
        let known: Option<Machine> = if described.exists() { Some(read_json(&described)?) } else { None };
        let machine = match (known, &settings.agent) {
            (Some(known), None) => known,
            (Some(known), Some(given)) => {
                ensure!(
                    known.sha256 == hash(given)?,
                    "{} is another agent than that of this campaign: `campaign new` forgets its results",
                    given.display()
                );
                known
            }
            (None, given) => {
                let commit = match given {
                    Some(given) => {
                        fs::copy(given, &agent).with_context(|| format!("copying {}", given.display()))?;
                        UNKNOWN.to_owned()
                    }
                    None => build(dir, &agent)?,
                };
                let machine = describe(&agent, commit)?;
                write_json(&described, &machine)?;
                machine
            }
        };
        ensure!(hash(&agent)? == machine.sha256, "{} has changed since the campaign began", agent.display());
        Ok(Self { dir: dir.clone(), machine })
    }

    pub fn agent(&self) -> PathBuf {
        self.dir.join("astra-agent")
    }

    /// A file in the directory.
    pub fn file(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.join(name)
    }

    /// An example of Cargo.toml, kept beside the agent: a campaign measures with one and the same.
    pub fn tool(&self, name: &str) -> Result<PathBuf> {
        let kept = self.dir.join(name);
        if !kept.exists() {
            let args = ["build", "--quiet", "--example", name, "--message-format", "json"];
            let output = Command::new("cargo").args(args).current_dir(PROJECT).output()?;
            let text = String::from_utf8(output.stdout)?;
            let mut built = text.lines().filter_map(|line| {
                let line: serde_json::Value = serde_json::from_str(line).ok()?;
                let built = line.pointer("/target/name")?.as_str()? == name;
                built.then(|| line.get("executable")?.as_str().map(PathBuf::from))?
            });
            let errors = String::from_utf8_lossy(&output.stderr);
            fs::copy(built.next_back().with_context(|| format!("building {name}: {errors}"))?, &kept)?;
        }
        Ok(kept)
    }

    /// The origin of a line that is recorded now.
    pub fn origin(&self) -> Origin {
        Origin { at: now(), commit: self.machine.commit.clone(), tree: tree() }
    }

    pub fn record(&self, part: &str, line: &impl Serialize) -> Result<()> {
        append(&self.file(format!("{part}.jsonl")), line).with_context(|| format!("recording {part}"))
    }

    pub fn lines<T: DeserializeOwned>(&self, part: &str) -> Result<Vec<T>> {
        lines(&self.dir, part)
    }
}

/// The recorded lines of a part; none if it was not run.
pub fn lines<T: DeserializeOwned>(dir: &Path, part: &str) -> Result<Vec<T>> {
    let file = dir.join(format!("{part}.jsonl"));
    if !file.exists() {
        return Ok(Vec::new());
    }
    let text = fs::read_to_string(&file)?;
    let parse = |(number, line)| {
        serde_json::from_str(line).with_context(|| {
            let place = format!("{}, line {}", file.display(), number + 1);
            format!("{place}: not a result of this program; `campaign new` forgets what was recorded")
        })
    };
    text.lines().enumerate().map(parse).collect()
}

/// Forgets the results: the next part starts a campaign.
pub fn forget(dir: &Path) -> Result<()> {
    if !dir.exists() {
        return Ok(());
    }
    // A directory that holds no campaign must not be emptied.
    ensure!(dir.join("machine.json").exists(), "{}: no campaign", dir.display());
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if KEPT.iter().any(|kept| path.ends_with(kept)) {
            continue;
        }
        if path.is_dir() { fs::remove_dir_all(path)? } else { fs::remove_file(path)? }
    }
    Ok(())
}

pub fn write_json(file: &Path, value: &impl Serialize) -> Result<()> {
    fs::write(file, serde_json::to_string_pretty(value)? + "\n")
        .with_context(|| format!("writing {}", file.display()))
}

pub fn read_json<T: DeserializeOwned>(file: &Path) -> Result<T> {
    let text = fs::read(file).with_context(|| format!("reading {}", file.display()))?;
    serde_json::from_slice(&text).with_context(|| {
        format!("{}: not written by this program; `campaign new` forgets what was recorded", file.display())
    })
}

pub fn git(words: &[&str]) -> Result<String> {
    let output = Command::new("git").args(["-C", PROJECT]).args(words).output()?;
    ensure!(output.status.success(), "git {words:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// The tree of the tools and of debug builds, without the pages that a campaign writes.
pub fn tree() -> String {
    let dirty = ["status", "--porcelain", "--", ".", ":!docs/proof.md", ":!docs/proof"];
    match (git(&["rev-parse", "--short", "HEAD"]), git(&dirty)) {
        (Ok(commit), Ok(dirty)) if dirty.is_empty() => commit,
        (Ok(commit), Ok(_)) => format!("{commit} + uncommitted changes"),
        _ => "no commit".into(),
    }
}

fn hash(file: &Path) -> Result<String> {
    Ok(sha256(&fs::read(file).with_context(|| format!("reading {}", file.display()))?))
}

/// Builds the agent as it is committed, and returns the commit: HEAD may move meanwhile.
fn build(dir: &Path, agent: &Path) -> Result<String> {
    let commit = git(&["rev-parse", "--short", "HEAD"])?;
    eprintln!("campaign: building the agent as it is committed");
    let src = dir.join("src");
    let _ = fs::remove_dir_all(&src);
    fs::create_dir(&src)?;
    let archive = dir.join("src.tar");
    git(&["archive", "-o", &archive.display().to_string(), &commit])?;
    run(Command::new("tar").arg("-xf").arg(&archive).arg("-C").arg(&src))?;
    let target = dir.join("build");
    run(Command::new("cargo")
        .args(["build", "--release", "--locked", "--bin", "astra-agent", "--manifest-path"])
        .arg(src.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(&target))?;
    fs::copy(target.join("release/astra-agent"), agent)?;
    Ok(commit)
}

/// Runs a command that must succeed.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("starting {command:?}"))?;
    ensure!(status.success(), "{command:?} ended with {status}");
    Ok(())
}

fn describe(agent: &Path, commit: String) -> Result<Machine> {
    let said = |program: &Path, words: &[&str]| -> Result<String> {
        let output = Command::new(program).args(words).output()?;
        ensure!(output.status.success(), "{} {words:?}: {}", program.display(), output.status);
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    };
    let proc = |file: &str, name: &str| -> Result<String> {
        let text = fs::read_to_string(file)?;
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.split_once(": "));
        Ok(line.map_or(String::new(), |(_, value)| value.trim().to_owned()))
    };
    let memory = proc("/proc/meminfo", "MemTotal")?;
    let kib: u64 = memory.trim_end_matches(" kB").trim().parse().unwrap_or_default();
    Ok(Machine {
        agent: said(agent, &["--version"])?,
        sha256: hash(agent)?,
        build: if commit == UNKNOWN { "a build that was handed in" } else { "release build" }.into(),
        commit,
        kernel: said(Path::new("uname"), &["-r"])?,
        cpus: std::thread::available_parallelism()?.get(),
        cpu: proc("/proc/cpuinfo", "model name")?,
        memory_gib: (kib + (1 << 19)) >> 20,
        rustc: said(Path::new("rustc"), &["--version"])?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::Tested;

    fn directory(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("campaign-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        dir
    }

    #[test]
    fn lines_are_read_as_they_were_recorded_and_others_are_refused() {
        let dir = directory("lines");
        let tested = Tested { command: "cargo test".into(), seconds: 7, ..Tested::default() };
        append(&dir.join("kills.jsonl"), &tested).unwrap();
        append(&dir.join("kills.jsonl"), &tested).unwrap();
        let read: Vec<Tested> = lines(&dir, "kills").unwrap();
        assert_eq!(read.iter().map(|line| line.seconds).collect::<Vec<_>>(), [7, 7]);
        assert_eq!(lines::<Tested>(&dir, "faults").unwrap().len(), 0);
        append(&dir.join("kills.jsonl"), &serde_json::json!({"part": "of another program"})).unwrap();
        let error = format!("{:#}", lines::<Tested>(&dir, "kills").unwrap_err());
        fs::remove_dir_all(dir).unwrap();
        assert!(
            error.contains("kills.jsonl, line 3: not a result") && error.contains("campaign new"),
            "{error}"
        );
    }

    #[test]
    fn only_a_campaign_is_forgotten_and_its_build_stays() {
        let dir = directory("forget");
        fs::create_dir(dir.join("build")).unwrap();
        fs::write(dir.join("load.jsonl"), "").unwrap();
        assert!(forget(&dir).is_err() && dir.join("load.jsonl").exists());
        fs::write(dir.join("machine.json"), "{}").unwrap();
        forget(&dir).unwrap();
        let left: Vec<_> = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        fs::remove_dir_all(&dir).unwrap();
        assert_eq!(left, ["build"]);
        assert!(forget(&dir).is_ok());
    }
}
