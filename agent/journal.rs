//! Floor 3: the record of runs. One file of JSON lines a run. A torn last line counts as not written; any
//! other damage means that the file cannot be trusted.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};

mod forget;

use crate::model::entry::{Entry, RunId, Stamped};
use crate::model::history::{History, RunRecord};

/// Runs to keep; older files are removed when a run is opened.
const KEPT_RUNS: usize = 500;
/// The newest runs are always kept, for users who look them up.
const RECENT_RUNS: usize = 100;
/// A larger file is not a journal of the agent: a run has some hundred entries.
const LARGEST_FILE: u64 = 4 << 20;

/// The directory of run files.
#[derive(Clone, Debug)]
pub struct Journal {
    dir: PathBuf,
}

/// The file of a run, open for appending.
#[derive(Debug)]
pub struct RunFile {
    /// The number in its name, `NNNNNN.jsonl`.
    pub id: RunId,
    file: File,
    /// Start of a torn line that could not be truncated yet.
    torn: Option<u64>,
}

impl Journal {
    /// `dir` need not exist yet.
    pub fn at(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// All runs, oldest first. [`History::damaged`] names files that cannot be read.
    ///
    /// # Errors
    ///
    /// The journal's directory cannot be read.
    pub fn history(&self) -> Result<History> {
        let mut runs = Vec::new();
        let mut damaged = None;
        for id in self.ids()? {
            match self.read(id) {
                Ok(run) => runs.push(run),
                Err(error) => damaged = Some(format!("{error:#}")),
            }
        }
        Ok(History { damaged, ..History::of(runs) })
    }

    /// The runs from number `first` on, oldest first: to follow a run under way.
    ///
    /// # Errors
    ///
    /// The journal's directory or one of these runs cannot be read.
    pub fn runs_from(&self, first: RunId) -> Result<Vec<RunRecord>> {
        self.ids()?.into_iter().filter(|id| *id >= first).map(|id| self.read(id)).collect()
    }

    /// Opens the file of a new run, after pruning old ones.
    ///
    /// # Errors
    ///
    /// The file cannot be created, e.g. on a full disk.
    pub fn open(&self) -> Result<RunFile> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.dir)
            .with_context(|| format!("creating {}", self.dir.display()))?;
        // A directory that others may write cannot be trusted.
        if fs::metadata(&self.dir)?.permissions().mode() & 0o077 != 0 {
            fs::set_permissions(&self.dir, fs::Permissions::from_mode(0o700))
                .with_context(|| format!("closing {} to others", self.dir.display()))?;
        }
        let ids = self.ids()?;
        self.forget(&ids)?;
        let id = ids.last().map_or(1, |last| last + 1);
        let path = self.path(id);
        let file = OpenOptions::new()
            .append(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .with_context(|| format!("creating {}", path.display()))?;
        sync_dir(&self.dir)?;
        Ok(RunFile { id, file, torn: None })
    }

    /// Opens a cut-off run for appending.
    ///
    /// # Errors
    ///
    /// The file is missing, or cannot be opened for writing.
    pub fn reopen(&self, id: RunId) -> Result<RunFile> {
        let path = self.path(id);
        let whole = whole_lines(&read_capped(&path)?);
        let file = OpenOptions::new()
            .append(true)
            .open(&path)
            .with_context(|| format!("opening {}", path.display()))?;
        // The next entry would be appended to a torn last line.
        file.set_len(whole).with_context(|| format!("cutting the torn line of {}", path.display()))?;
        Ok(RunFile { id, file, torn: None })
    }

    fn path(&self, id: RunId) -> PathBuf {
        self.dir.join(format!("{id:06}.jsonl"))
    }

    fn ids(&self) -> Result<Vec<RunId>> {
        let entries = match fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error).with_context(|| format!("listing {}", self.dir.display())),
        };
        let mut ids: Vec<RunId> = Vec::new();
        for entry in entries {
            let name = entry.with_context(|| format!("listing {}", self.dir.display()))?.file_name();
            let id: Option<RunId> =
                name.to_str().and_then(|n| n.strip_suffix(".jsonl")).and_then(|n| n.parse().ok());
            ids.extend(id);
        }
        ids.sort_unstable();
        Ok(ids)
    }

    /// Removes runs without effect on today's history, oldest first. The others stay, whatever their number.
    fn forget(&self, ids: &[RunId]) -> Result<()> {
        let Some(surplus) = ids.len().checked_sub(KEPT_RUNS).filter(|n| *n > 0) else { return Ok(()) };
        let history = self.history()?;
        // The content of a damaged file is unknown, and so is its effect together with others.
        if history.damaged.is_some() {
            return Ok(());
        }
        for id in forget::forgettable(&history.runs, surplus, RECENT_RUNS) {
            let path = self.path(id);
            fs::remove_file(&path).with_context(|| format!("removing {}", path.display()))?;
        }
        Ok(())
    }

    fn read(&self, id: RunId) -> Result<RunRecord> {
        let path = self.path(id);
        let bytes = read_capped(&path)?;
        let entries = parse(&bytes).with_context(|| format!("reading {}", path.display()))?;
        Ok(RunRecord { id, entries })
    }
}

impl RunFile {
    /// Appends an entry; with `durable` it is on disk when this returns. If it does not fit, no part of it
    /// remains, to which the next one would be appended.
    ///
    /// # Errors
    ///
    /// The entry was not written, e.g. on a full disk.
    pub fn append(&mut self, entry: &Entry, durable: bool) -> Result<()> {
        let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let stamped = Stamped { at: u64::try_from(at).unwrap_or(u64::MAX), entry: entry.clone() };
        let mut line = serde_json::to_vec(&stamped).context("encoding a journal entry")?;
        line.push(b'\n');
        self.write(&line).with_context(|| format!("writing journal of run {}", self.id))?;
        if durable {
            self.file.sync_data().with_context(|| format!("flushing journal of run {}", self.id))?;
        }
        Ok(())
    }

    fn write(&mut self, line: &[u8]) -> std::io::Result<()> {
        if let Some(whole) = self.torn {
            self.file.set_len(whole)?;
            self.torn = None;
        }
        let whole = self.file.metadata()?.len();
        let written = self.file.write_all(line);
        if written.is_err() && self.file.set_len(whole).is_err() {
            self.torn = Some(whole);
        }
        written
    }
}

/// The entries of a file. A last line without newline counts as not written.
///
/// # Errors
///
/// A line is not an entry, or the first one does not open a run.
pub fn parse(bytes: &[u8]) -> Result<Vec<Stamped>> {
    let whole = usize::try_from(whole_lines(bytes)).unwrap_or(0);
    let mut entries = Vec::new();
    let lines = bytes.get(..whole).unwrap_or_default().split(|b| *b == b'\n').filter(|l| !l.is_empty());
    for (number, line) in lines.enumerate() {
        entries.push(serde_json::from_slice(line).with_context(|| format!("line {}", number + 1))?);
    }
    if entries.first().is_some_and(|first: &Stamped| !matches!(first.entry, Entry::Opened { .. })) {
        bail!("line 1: the run does not begin with an `opened` entry");
    }
    Ok(entries)
}

fn whole_lines(bytes: &[u8]) -> u64 {
    bytes.iter().rposition(|b| *b == b'\n').map_or(0, |at| at as u64 + 1)
}

fn read_capped(path: &Path) -> Result<Vec<u8>> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK)
        .open(path)
        .with_context(|| format!("opening {}", path.display()))?;
    let meta = file.metadata().with_context(|| format!("looking at {}", path.display()))?;
    if !meta.is_file() {
        bail!("{} is not a regular file", path.display());
    }
    if meta.len() > LARGEST_FILE {
        bail!("{} has {} bytes: not a journal of the agent", path.display(), meta.len());
    }
    let mut bytes = Vec::new();
    file.take(LARGEST_FILE).read_to_end(&mut bytes).with_context(|| format!("reading {}", path.display()))?;
    Ok(bytes)
}

fn sync_dir(dir: &Path) -> Result<()> {
    File::open(dir).and_then(|d| d.sync_all()).with_context(|| format!("flushing {}", dir.display()))
}

#[cfg(test)]
mod tests;
