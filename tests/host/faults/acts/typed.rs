//! Ways to type a command that no single line is.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::thread;

use nix::fcntl::OFlag;

use super::super::row::DEPLOY;
use super::super::site::Site;
use crate::harness::Output;

/// While a deploy runs, which has to succeed.
pub fn beside_a_deploy(site: &Site, line: &str, seconds: u64) -> Result<Output, String> {
    thread::scope(|scope| {
        let first = scope.spawn(|| site.command(DEPLOY, seconds));
        let locked = site.until("the first run holds the lock", || site.is_locked());
        let second = site.command(line, seconds);
        let first = first.join().unwrap();
        locked?;
        match first.code() {
            0 => Ok(second),
            code => Err(format!("the deploy beside it ends with {code}: {}", first.text())),
        }
    })
}

/// Standard output is a pipe that is full, and has no reader: a terminal under Ctrl-S.
pub fn into_a_full_pipe(site: &Site, line: &str, seconds: u64) -> Result<Output, String> {
    const PIPE: &str = "/run/full";
    site.sh(&format!("mkfifo {PIPE}"))?;
    let mut full = File::options()
        .read(true)
        .write(true)
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(site.at(PIPE))
        .map_err(|error| format!("{PIPE}: {error}"))?;
    loop {
        match full.write(&[0; 4096]) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => return Err(format!("{PIPE}: {error}")),
        }
    }
    let output = site.command(&format!("{line} >{PIPE}"), seconds);
    site.sh(&format!("rm {PIPE}"))?;
    Ok(output)
}
