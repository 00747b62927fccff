//! Threads of this test that keep a fault up until the cure.

use std::fs::File;
use std::os::unix::fs::symlink;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::fcntl::{AT_FDCWD, FcntlArg, RenameFlags, fcntl, renameat2};
use nix::libc;

use super::super::row::Done;
use super::super::site::Site;

/// Ended when dropped.
pub struct Helper {
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Helper {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Site {
    /// Repeats an act until the cure.
    pub fn helper(&self, mut act: impl FnMut() + Send + 'static) {
        let ends = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&ends);
        let thread = thread::spawn(move || {
            while !told.load(Ordering::Relaxed) {
                act();
            }
        });
        self.helpers.lock().unwrap().push(Helper { ends, thread: Some(thread) });
    }

    /// Exchanges a file and a symlink to `target` in a loop.
    pub fn swap_with_link(&self, path: &str, link: &str, target: &str) -> Done {
        let (one, two) = (self.at(path), self.at(link));
        symlink(target, &two).map_err(|error| format!("{link}: {error}"))?;
        self.helper(move || {
            let _ = renameat2(AT_FDCWD, &one, AT_FDCWD, &two, RenameFlags::RENAME_EXCHANGE);
            thread::sleep(Duration::from_millis(1));
        });
        self.until("the link is in place", || self.is_link(path))
    }

    /// Holds a lock of fcntl(2) on the whole file for some seconds, as the engine does.
    pub fn hold_lock(&self, path: &str, seconds: u64) -> Done {
        let file = self.open(File::options().read(true).write(true), path)?;
        // From the first byte (0) to the end (0).
        let lock = libc::flock {
            l_type: libc::F_WRLCK as libc::c_short,
            l_whence: libc::SEEK_SET as libc::c_short,
            l_start: 0,
            l_len: 0,
            l_pid: 0,
        };
        fcntl(&file, FcntlArg::F_SETLKW(&lock)).map_err(|error| format!("{path}: {error}"))?;
        self.pause(seconds)
    }
}
