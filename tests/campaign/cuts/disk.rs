//! The disks of the power cuts: one of a host that serves v1, and the log of all writes of a deploy on it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::host::Host;
use crate::records::Deploy;
use crate::replay::Log;
use crate::settings::Settings;
use crate::store::{Store, run};

const SERVICES: &str = include_str!("services.toml");
const ALL_READY: &str =
    "for port in 8001 8002 8101; do curl -sfo /dev/null localhost:$port/readyz || exit; done";
/// Must be the same after every cut.
const SUM: &str = "grep -E '^(SECRET_KEY|DATABASE_|ALLOWED_HOSTS)' /etc/astra/astra.env | sort | sha256sum >/root/env.sum; sync";
const LIMIT: Duration = Duration::from_secs(60);

/// A host with this disk. Its end waits until the disk is unmounted.
pub struct OnDisk {
    host: Option<Host>,
    disk: PathBuf,
}

impl OnDisk {
    /// `disk` is what is booted from, `file` the file that a loop device holds.
    pub fn boot(settings: &Settings, store: &Store, disk: &Path, file: &Path) -> Result<Self> {
        let host = Host::boot(settings, store, "cuts", Some(disk))?;
        Ok(Self { host: Some(host), disk: file.into() })
    }

    pub fn host(&self) -> Result<&Host> {
        self.host.as_ref().context("the host is off")
    }

    pub fn off(mut self) -> Result<()> {
        self.host = None;
        until_free(&self.disk)
    }
}

/// Waits until no loop device holds this file.
pub fn until_free(file: &Path) -> Result<()> {
    until("a loop device holds the disk", || {
        let held = Command::new("losetup").arg("-j").arg(file).output()?;
        Ok(held.stdout.is_empty())
    })
}

fn until(problem: &str, done: impl Fn() -> Result<bool>) -> Result<()> {
    let begun = Instant::now();
    while !done()? {
        ensure!(begun.elapsed() < LIMIT, "after {LIMIT:?} still: {problem}");
        sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// A copy without the blocks that are empty.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    run(Command::new("cp").arg("--sparse=always").args([from, to]))
}

/// Makes the disk of a host that serves v1.
pub fn base(settings: &Settings, store: &Store, base: &Path) -> Result<()> {
    if base.exists() {
        return Ok(());
    }
    let new = base.with_extension("tmp");
    File::create(&new)?.set_len(4 << 30)?;
    run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&new))?;
    let on = OnDisk::boot(settings, store, &new, &new)?;
    on.host()?.push_to("front", "v1")?;
    on.host()?.install(store, SERVICES)?;
    on.host()?.sh(SUM)?.ok()?;
    on.off()?;
    Ok(fs::rename(new, base)?)
}

/// The daemon that logs the writes to a disk, and the loop device on it.
struct Logged {
    daemon: Child,
    device: Option<String>,
    disk: PathBuf,
}

impl Logged {
    fn start(work: &Path) -> Result<Self> {
        let at = |name: &str| work.join(name);
        clear(&at("disk"))?;
        for name in ["write.log", "disk"] {
            File::create(at(name))?;
        }
        let _ = fs::remove_file(at("pid"));
        let file = |node: &str, name: &str| {
            format!("driver=file,filename={},node-name={node},cache.no-flush=on", at(name).display())
        };
        let export =
            format!("type=fuse,id=disk,node-name=disk,mountpoint={},writable=on", at("disk").display());
        // Ends with this program.
        let daemon = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "qemu-storage-daemon", "--pidfile"])
            .arg(at("pid"))
            .args(["--blockdev", &file("file", "deploy.raw"), "--blockdev", &file("log", "write.log")])
            .args(["--blockdev", "driver=blklogwrites,file=file,log=log,log-sector-size=512,node-name=disk"])
            .args(["--export", &export])
            .spawn()?;
        let mut logged = Self { daemon, device: None, disk: at("disk") };
        // It writes its pid once the disk is there.
        until("qemu-storage-daemon does not export the disk", || Ok(at("pid").exists()))?;
        // Not --direct-io: over FUSE (Linux 6.18, qemu 7.2) it writes the wrong blocks, as fsck shows.
        let device = Command::new("losetup").args(["-f", "--show"]).arg(&logged.disk).output()?;
        ensure!(device.status.success(), "losetup: {}", String::from_utf8_lossy(&device.stderr));
        logged.device = Some(String::from_utf8(device.stdout)?.trim().to_owned());
        Ok(logged)
    }

    fn device(&self) -> Result<&Path> {
        self.device.as_deref().map(Path::new).context("no loop device")
    }

    /// Completes the log.
    fn stop(mut self) -> Result<()> {
        self.detach()?;
        until_free(&self.disk)?;
        run(Command::new("kill").arg(self.daemon.id().to_string()))?;
        self.daemon.wait()?;
        Ok(())
    }

    fn detach(&mut self) -> Result<()> {
        match self.device.take() {
            Some(device) => run(Command::new("losetup").args(["-d", &device])),
            None => Ok(()),
        }
    }
}

/// Removes the loop device and the mount that a killed campaign has left.
fn clear(disk: &Path) -> Result<()> {
    let held = Command::new("losetup").arg("-j").arg(disk).output()?;
    for device in String::from_utf8(held.stdout)?.lines().filter_map(|line| line.split(':').next()) {
        run(Command::new("losetup").args(["-d", device]))?;
    }
    // Usually there is none.
    Command::new("umount").arg("-l").arg(disk).output()?;
    Ok(())
}

impl Drop for Logged {
    fn drop(&mut self) {
        let _ = self.detach();
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

/// Logs the writes of a deploy of v2 over v1: the log, its flushes, and the line to record.
pub fn log_deploy(
    settings: &Settings,
    store: &Store,
    work: &Path,
    seed: u64,
) -> Result<(Deploy, Vec<usize>)> {
    eprintln!("campaign: cuts: logging the writes of a deploy");
    copy(&work.join("base.raw"), &work.join("deploy.raw"))?;
    let log = work.join("write.log");
    let logged = Logged::start(work)?;
    let on = OnDisk::boot(settings, store, logged.device()?, &work.join("none"))?;
    let host = on.host()?;
    host.sh("systemctl stop 'astra-agent-*.timer'")?.ok()?;
    host.wait(ALL_READY, LIMIT)?;
    host.push("v2")?;
    host.push_to("front", "v2")?;
    host.sh("sed -i '/^content/s/v1/v2/' /etc/astra/agent.toml")?.ok()?;
    // Writes of the boot are not part of the test.
    host.sh("sync")?.ok()?;
    let begin = fs::metadata(&log)?.len();
    host.sh("astra-agent deploy")?.ok()?;
    let end = fs::metadata(&log)?.len();
    let committed = host.sh("grep -m 1 '^APP_IMAGE=' /etc/astra/astra.env; sync")?.ok()?;
    on.off()?;
    logged.stop()?;
    for name in ["deploy.raw", "disk", "pid"] {
        let _ = fs::remove_file(work.join(name));
    }
    let replay = Log::open(File::open(&log)?)?;
    let marks = replay.marks(begin..=end);
    ensure!(!marks.is_empty(), "no flush in the deploy");
    // The file that becomes astra.env is written just before the commit.
    let commit_at = replay.line(begin, committed.trim())?;
    let since_commit = marks.iter().filter(|mark| **mark >= commit_at).count();
    let version = String::from_utf8(Command::new("qemu-storage-daemon").arg("--version").output()?.stdout)?;
    let qemu = version.split("version ").nth(1).and_then(|rest| rest.split_whitespace().next());
    let line = Deploy {
        origin: store.origin(),
        seed,
        commit_at,
        flushes: marks.len(),
        since_commit,
        log_bytes: fs::metadata(&log)?.len(),
        qemu: qemu.unwrap_or("?").to_owned(),
    };
    Ok((line, marks))
}
