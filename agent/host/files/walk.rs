//! Opens a directory one component at a time: `openat(…, O_NOFOLLOW | O_DIRECTORY)` on each name, so that no
//! symlink is ever followed (openat(2)).

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, mkdirat};

use crate::model::problem::Problem;

const STEP: OFlag =
    OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// A walk from a root directory.
pub(super) struct Walk<'a> {
    root: &'a Path,
}

impl<'a> Walk<'a> {
    pub(super) fn new(root: &'a Path) -> Self {
        Self { root }
    }

    /// The directory, with any owner; `None` if a part of the path does not exist.
    pub(super) fn existing(&self, path: &Path) -> Result<Option<File>> {
        self.walk(path, false, None)
    }

    /// The directory, if every component of the path is trusted. Fails if one does not exist.
    pub(super) fn trusted(&self, path: &Path) -> Result<File> {
        self.walk(path, true, None)?
            .with_context(|| format!("the directory {} does not exist", path.display()))
    }

    /// Like [`Walk::trusted`], and creates missing components with `mode`.
    pub(super) fn made(&self, path: &Path, mode: Mode) -> Result<File> {
        self.walk(path, true, Some(mode))?
            .with_context(|| format!("the directory {} vanished", path.display()))
    }

    fn walk(&self, path: &Path, trusted: bool, make: Option<Mode>) -> Result<Option<File>> {
        let mut here = File::open(self.root).with_context(|| format!("opening {}", self.root.display()))?;
        let mut seen = self.root.to_path_buf();
        if trusted {
            check(&here, &seen)?;
        }
        for part in path.components() {
            let name = match part {
                Component::RootDir => continue,
                Component::Normal(name) => name,
                _ => bail!("{} is not a plain absolute path", path.display()),
            };
            seen.push(name);
            let step = match openat(&here, name, STEP, Mode::empty()) {
                Err(Errno::ENOENT) => match make {
                    None => return Ok(None),
                    Some(mode) => {
                        match mkdirat(&here, name, mode) {
                            Ok(()) | Err(Errno::EEXIST) => here.sync_all()?,
                            Err(error) => return Err(error.into()),
                        }
                        openat(&here, name, STEP, Mode::empty())
                    }
                },
                other => other,
            };
            here = match step {
                Ok(fd) => File::from(fd),
                Err(Errno::ELOOP | Errno::ENOTDIR) => {
                    let seen = seen.display();
                    bail!(Problem::host(
                        "files",
                        format!("{seen} is a symlink or no directory, which is never followed"),
                        format!("`ls -ld {seen}`; make it a directory of root again"),
                    ))
                }
                Err(error) => return Err(error).with_context(|| format!("opening {}", seen.display())),
            };
            if trusted {
                check(&here, &seen)?;
            }
        }
        Ok(Some(here))
    }
}

/// Owned by root (or the current user, which for the agent is root), and writable only by its owner. The
/// sticky bit of a directory like /tmp does not help: others may still create a file under our name.
fn check(dir: &File, path: &Path) -> Result<()> {
    let (meta, shown) = (dir.metadata()?, path.display());
    if meta.uid() != 0 && meta.uid() != nix::unistd::geteuid().as_raw() {
        let what = format!("the directory {shown} belongs to user {}, not to root", meta.uid());
        bail!(Problem::host("files", what, format!("`chown root: {shown}`")));
    }
    if meta.mode() & 0o022 != 0 {
        let mode = meta.mode() & 0o7777;
        let what = format!("the directory {shown} is writable by its group or others (mode {mode:o})");
        let fix = format!("look for what is not yours in it, then `chmod go-w {shown}`");
        bail!(Problem::host("files", what, fix));
    }
    Ok(())
}
