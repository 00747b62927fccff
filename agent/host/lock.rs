//! One mutating run at a time: a kernel lock on a file, released when its holder dies. Taken by the
//! reconciler.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::fcntl::{Flock, FlockArg, OFlag};
use serde::{Deserialize, Serialize};

use super::facts;

/// The lock (flock(2), `LOCK_EX`). Released when dropped, and at the end of the process. The descriptor is
/// close-on-exec: a child that inherits it would hold the lock forever.
#[derive(Debug)]
pub struct Lock {
    file: Flock<File>,
    holder: Held,
}

/// The holder of the lock, as written inside the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("another run holds the lock: `{command}` by {actor}, process {pid}, since {since}")]
pub struct Held {
    /// 0 if the holder could not be read.
    pub pid: u32,
    /// The holder's command line; it holds no secrets.
    pub command: String,
    /// Login name of the user, `systemd` for a timer's run.
    pub actor: String,
    /// RFC 3339, UTC.
    pub since: String,
    /// SIGINT ends the holder at once with nothing to undo, so that a user's command need not wait.
    #[serde(default)]
    pub yields: bool,
}

/// Why the lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process has it.
    #[error(transparent)]
    Held(#[from] Held),
    /// The file could not be opened, locked or written.
    #[error(transparent)]
    Other(#[from] anyhow::Error),
}

impl Lock {
    /// Takes the lock at `path` without waiting, and writes `command`, `actor`, the process id and the time
    /// into it as one line of JSON. The file is created with mode 0600; its directory must exist.
    ///
    /// # Errors
    ///
    /// Another process holds it, or the file cannot be opened or written.
    pub fn try_take(path: &Path, command: &str, actor: &str) -> Result<Self, LockError> {
        let file = open(path).with_context(|| format!("opening the lock {}", path.display()))?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) => {
                let (command, actor) = (command.to_owned(), actor.to_owned());
                let (pid, since) = (std::process::id(), facts::now());
                let lock = Self { file, holder: Held { pid, command, actor, since, yields: false } };
                lock.sign(&lock.holder).with_context(|| format!("writing the lock {}", path.display()))?;
                Ok(lock)
            }
            Err((mut file, nix::errno::Errno::EWOULDBLOCK)) => Err(LockError::Held(holder(&mut file))),
            Err((_, error)) => {
                Err(anyhow::Error::new(error).context(format!("locking {}", path.display())).into())
            }
        }
    }
}

impl Lock {
    /// From here on SIGINT ends the holder with nothing to undo.
    ///
    /// # Errors
    ///
    /// The lock's file cannot be written.
    pub fn yield_when_asked(&self) -> Result<()> {
        self.sign(&Held { yields: true, ..self.holder.clone() }).context("writing the lock")
    }

    /// From here on the holder has something to finish or to undo.
    ///
    /// # Errors
    ///
    /// The lock's file cannot be written.
    pub fn hold(&self) -> Result<()> {
        self.sign(&self.holder).context("writing the lock")
    }

    fn sign(&self, holder: &Held) -> Result<()> {
        let mut line = serde_json::to_vec(holder)?;
        line.push(b'\n');
        let mut file: &File = &self.file;
        file.set_len(0)?;
        file.rewind()?;
        Ok(file.write_all(&line)?)
    }

    /// The current holder of the lock at `path`. Does not take the lock even briefly: a run that starts
    /// meanwhile would fail on it (proc_locks(5)).
    pub fn holder_of(path: &Path) -> Option<Held> {
        use std::os::unix::fs::MetadataExt;
        let mut file = File::options().read(true).custom_flags(OFlag::O_NOFOLLOW.bits()).open(path).ok()?;
        let inode = file.metadata().ok()?.ino().to_string();
        let locks = std::fs::read_to_string("/proc/locks").ok()?;
        let ours = |line: &str| {
            let mut fields = line.split_whitespace();
            // A line with `->` is a waiting process.
            fields.nth(1) == Some("FLOCK")
                && fields.nth(3).and_then(|id| id.rsplit(':').next()) == Some(&inode)
        };
        locks.lines().any(ours).then(|| holder(&mut file))
    }
}

/// Sends SIGINT to a holder that yields; `false` if it could not be sent.
pub fn ask_to_stop(holder: &Held) -> bool {
    let pid = i32::try_from(holder.pid).ok().filter(|pid| *pid > 0).map(nix::unistd::Pid::from_raw);
    pid.is_some_and(|pid| nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).is_ok())
}

fn open(path: &Path) -> std::io::Result<File> {
    File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC).bits())
        .open(path)
}

/// Reads the holder. A new holder may not have written yet, so this retries for a tenth of a second.
fn holder(file: &mut File) -> Held {
    for _ in 0..10 {
        let mut text = String::new();
        let read = file.rewind().and_then(|()| Read::by_ref(file).take(64 * 1024).read_to_string(&mut text));
        if let (Ok(_), Ok(held)) = (read, serde_json::from_str(text.trim())) {
            return held;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let unknown = || "unknown".to_owned();
    Held { pid: 0, command: unknown(), actor: unknown(), since: "an unknown time".to_owned(), yields: false }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    #[test]
    fn one_holder_which_is_named() {
        let path = std::env::temp_dir().join(format!("astra-lock-{}", std::process::id()));
        let first = Lock::try_take(&path, "astra-agent deploy", "eve").unwrap();
        match Lock::try_take(&path, "astra-agent rollback", "eve") {
            Err(LockError::Held(held)) => {
                assert_eq!((held.pid, held.command.as_str()), (std::process::id(), "astra-agent deploy"));
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(Lock::holder_of(&path).map(|held| held.pid), Some(std::process::id()));
        let yields = || Lock::holder_of(&path).map(|held| held.yields);
        assert_eq!(yields(), Some(false));
        first.yield_when_asked().unwrap();
        assert_eq!(yields(), Some(true));
        first.hold().unwrap();
        assert_eq!(yields(), Some(false));
        let flags = nix::fcntl::fcntl(&*first.file, nix::fcntl::FcntlArg::F_GETFD).unwrap();
        assert_eq!(flags & nix::fcntl::FdFlag::FD_CLOEXEC.bits(), 1, "{}", first.file.as_raw_fd());
        drop(first);
        assert_eq!(Lock::holder_of(&path), None);
        // A shorter text replaces a longer one completely.
        drop(Lock::try_take(&path, "x", "eve").unwrap());
        assert!(std::fs::read_to_string(&path).unwrap().contains(r#""command":"x""#));
        std::fs::remove_file(path).unwrap();
    }
}
