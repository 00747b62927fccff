//! Files of the host: read with limits, written atomically. Paths are walked one directory at a time without
//! following symlinks, so that only root can redirect a write of root's.
//!
//! A test hands [`Files`] a temporary directory, and every absolute path is below it.

mod walk;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat, renameat};
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::{facts, failpoint};
use crate::model::observed::FileSeen;
use walk::Walk;

/// Largest file that is read, in bytes.
pub const CAP: u64 = 1024 * 1024;

/// Part of the name of a temporary file, `.NAME.astra-tmp-RANDOM`.
const MARK: &str = ".astra-tmp-";

/// The files below one root directory, which is `/` outside tests.
#[derive(Clone, Debug)]
pub struct Files {
    root: PathBuf,
}

impl Files {
    /// Files below `root`, which need not exist yet.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The file at the absolute `path`; `None` if it or a parent directory does not exist. Fails on a symlink
    /// anywhere in the path, on anything but a regular file, and on more than 1 MiB.
    ///
    /// # Errors
    ///
    /// The path breaks one of these rules, or the file cannot be read.
    pub fn read(&self, path: &Path) -> Result<Option<FileSeen>> {
        self.try_read(path).with_context(|| format!("reading {}", path.display()))
    }

    fn try_read(&self, path: &Path) -> Result<Option<FileSeen>> {
        let (parent, name) = split(path)?;
        let Some(dir) = self.walk().existing(parent)? else { return Ok(None) };
        // O_NONBLOCK: opening a FIFO must not block; it has no effect on a regular file.
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
        let file = match openat(&dir, name, flags, Mode::empty()) {
            Ok(fd) => File::from(fd),
            Err(Errno::ENOENT) => return Ok(None),
            Err(Errno::ELOOP) => bail!("it is a symlink, which is never followed"),
            Err(error) => return Err(error.into()),
        };
        let meta = file.metadata()?;
        if !meta.is_file() {
            bail!("it is not a regular file");
        }
        let mut bytes = Vec::new();
        file.take(CAP + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > CAP {
            bail!("it is larger than 1 MiB");
        }
        Ok(Some(FileSeen { bytes, mode: meta.permissions().mode() & 0o7777 }))
    }

    /// Replaces `path` by `bytes` with permission bits `mode`: after a crash at any moment it is either the
    /// old file or the new one, and the new one once this has returned (rename(2), fsync(2)). Every parent
    /// directory must exist, be root's (or the current user's), and not be writable by group or others.
    ///
    /// # Errors
    ///
    /// A parent directory breaks these rules, or the disk is full or read-only.
    pub fn write_atomic(&self, path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
        self.try_write(path, bytes, mode).with_context(|| format!("writing {}", path.display()))
    }

    fn try_write(&self, path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
        let (parent, name) = split(path)?;
        let dir = self.walk().trusted(parent)?;
        let mut temp = OsString::from(".");
        temp.push(name);
        temp.push(MARK);
        temp.push(facts::random::<6>()?.iter().map(|b| format!("{b:02x}")).collect::<String>());
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mut file = File::from(openat(&dir, temp.as_os_str(), flags, Mode::from_bits_truncate(0o600))?);
        let written = (|| -> Result<()> {
            // The umask restricts the mode that open(2) gets, and the mode must be set before the first byte
            // is written.
            fchmod(&file, Mode::from_bits_truncate(mode & 0o7777))?;
            file.write_all(bytes)?;
            file.sync_all()?;
            failpoint::reach("rename", 0, &name.to_string_lossy());
            Ok(renameat(&dir, temp.as_os_str(), &dir, name)?)
        })();
        if written.is_err() {
            // Best effort: recover removes remaining ones (see `leftovers`).
            let _ = unlinkat(&dir, temp.as_os_str(), UnlinkatFlags::NoRemoveDir);
        }
        written?;
        dir.sync_all().context("making the rename last (fsync of the directory)")
    }

    /// Removes a file; `false` if it did not exist. Checks parent directories as for writing.
    ///
    /// # Errors
    ///
    /// A parent directory breaks the rules of writing, or the file cannot be removed.
    pub fn remove(&self, path: &Path) -> Result<bool> {
        self.try_remove(path).with_context(|| format!("removing {}", path.display()))
    }

    fn try_remove(&self, path: &Path) -> Result<bool> {
        let (parent, name) = split(path)?;
        if self.walk().existing(parent)?.is_none() {
            return Ok(false);
        }
        let dir = self.walk().trusted(parent)?;
        match unlinkat(&dir, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) => {}
            Err(Errno::ENOENT) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        dir.sync_all()?;
        Ok(true)
    }

    /// Makes sure that the directory `path` exists with permission bits `mode`. Missing parents are created
    /// with the same bits; existing ones are checked as for writing.
    ///
    /// # Errors
    ///
    /// A parent directory breaks the rules of writing, or `path` is no directory.
    pub fn make_dir(&self, path: &Path, mode: u32) -> Result<()> {
        let bits = Mode::from_bits_truncate(mode & 0o7777);
        self.walk()
            .made(path, bits)
            // A correct directory is not changed: the file system may be read-only.
            .and_then(|dir| match dir.metadata()?.mode() & 0o7777 == mode & 0o7777 {
                true => Ok(()),
                false => Ok(fchmod(&dir, bits)?),
            })
            .with_context(|| format!("making the directory {}", path.display()))
    }

    /// The `paths` that certainly do not exist; symlinks are followed. A run has its own /tmp, /dev and
    /// /proc, so paths in there are not reported.
    pub fn missing<'p>(&self, paths: impl Iterator<Item = &'p Path>) -> BTreeSet<PathBuf> {
        let own = |path: &Path| ["/tmp", "/var/tmp", "/dev", "/proc"].iter().any(|dir| path.starts_with(dir));
        let gone = |path: &&Path| {
            if own(path) {
                return false;
            }
            let seen = std::fs::metadata(self.below(path));
            seen.is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
        };
        paths.filter(gone).map(Path::to_owned).collect()
    }

    /// Names in the directory `path`, sorted; empty if it does not exist. Names that are not UTF-8 are never
    /// the agent's, and left out. At most 100,000.
    ///
    /// # Errors
    ///
    /// The directory cannot be read, or has more names.
    pub fn list(&self, path: &Path) -> Result<Vec<String>> {
        self.try_list(path).with_context(|| format!("listing {}", path.display()))
    }

    fn try_list(&self, path: &Path) -> Result<Vec<String>> {
        let Some(dir) = self.walk().existing(path)? else { return Ok(Vec::new()) };
        let mut names = Vec::new();
        for entry in
            nix::dir::Dir::openat(&dir, ".", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?.iter()
        {
            match entry?.file_name().to_str() {
                Ok("." | "..") | Err(_) => {}
                Ok(_) if names.len() >= 100_000 => bail!("it has more than 100,000 entries"),
                Ok(name) => names.push(name.to_owned()),
            }
        }
        names.sort();
        Ok(names)
    }

    /// Every file of the directory `path` that [`Files::read`] can read, by full path. Others
    /// (subdirectories, symlinks) are left out.
    ///
    /// # Errors
    ///
    /// The directory cannot be read.
    pub fn read_dir(&self, path: &Path) -> Result<BTreeMap<PathBuf, FileSeen>> {
        let paths = self.list(path)?.into_iter().map(|name| path.join(name));
        Ok(paths.filter_map(|file| Some((file.clone(), self.try_read(&file).ok()??))).collect())
    }

    /// Temporary files of interrupted writes in `dirs`.
    ///
    /// # Errors
    ///
    /// A directory cannot be read.
    pub fn leftovers<'a>(&self, dirs: impl IntoIterator<Item = &'a Path>) -> Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for dir in dirs {
            let names = self.list(dir)?;
            found
                .extend(names.iter().filter(|n| n.starts_with('.') && n.contains(MARK)).map(|n| dir.join(n)));
        }
        Ok(found)
    }

    /// Writes the file system of `path` to disk (syncfs(2)). Blocks uninterruptibly, perhaps for minutes:
    /// call it from a thread of its own (blocking.rs), with a timeout.
    ///
    /// # Errors
    ///
    /// The path cannot be opened, or the kernel reports a failed write.
    pub fn sync_fs(&self, path: &Path) -> Result<()> {
        File::open(self.below(path))
            .map_err(anyhow::Error::from)
            .and_then(|dir| Ok(nix::unistd::syncfs(&dir)?))
            .with_context(|| format!("writing the file system of {} to disk", path.display()))
    }

    /// Bytes that root may still write to the file system of `path`, also if `path` does not exist yet
    /// (statvfs(3), `f_bavail`: without the blocks reserved for root).
    ///
    /// # Errors
    ///
    /// The file system does not answer statvfs(3).
    pub fn free_bytes(&self, path: &Path) -> Result<u64> {
        let mut at = self.below(path);
        while !at.exists() && at.pop() {}
        let seen = nix::sys::statvfs::statvfs(&at)
            .with_context(|| format!("asking for the free space of {}", at.display()))?;
        Ok(seen.blocks_available().saturating_mul(seen.fragment_size()))
    }

    /// Owner (uid) and permission bits of the file, directory or socket at `path`; `None` if it is missing.
    ///
    /// # Errors
    ///
    /// A parent directory cannot be searched.
    pub fn owner(&self, path: &Path) -> Result<Option<(u32, u32)>> {
        match std::fs::symlink_metadata(self.below(path)) {
            Ok(meta) => Ok(Some((meta.uid(), meta.mode() & 0o7777))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("looking at {}", path.display())),
        }
    }

    /// When the file at `path` was last written; `None` if it is missing.
    ///
    /// # Errors
    ///
    /// A parent directory cannot be searched.
    pub fn modified(&self, path: &Path) -> Result<Option<SystemTime>> {
        match std::fs::symlink_metadata(self.below(path)).and_then(|meta| meta.modified()) {
            Ok(at) => Ok(Some(at)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("looking at {}", path.display())),
        }
    }

    fn walk(&self) -> Walk<'_> {
        Walk::new(&self.root)
    }

    pub(super) fn below(&self, path: &Path) -> PathBuf {
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }
}

fn split(path: &Path) -> Result<(&Path, &std::ffi::OsStr)> {
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) if path.is_absolute() && !name.as_bytes().contains(&0) => {
            Ok((parent, name))
        }
        _ => bail!("it is not the absolute path of a file"),
    }
}

#[cfg(test)]
mod tests;
