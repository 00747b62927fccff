//! The host on which the rows are met, one after the other.

use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::acts::disk::small_disk;
use super::acts::helper::Helper;
use super::registry::Proxy;
use super::row::Done;
use crate::harness::{Host, Output};
use crate::site::{CONFIG_FILE, PASSWORD, config_with};

/// Limit in seconds of a command that is not under test.
const COMMAND: u64 = 90;
const CONDITION: Duration = Duration::from_secs(60);

/// The configuration that each row begins with.
pub const KEPT_CONFIG: &str = "/root/agent.toml";

/// Directories that are small file systems of their own here, so that they can be full or read-only.
const SMALL_PLACES: [(&str, &str); 3] = [
    ("/var/lib/containers/storage", "size=900M"),
    ("/etc/astra", "size=1M,nr_inodes=300"),
    ("/var/lib/astra-agent", "size=4M,nr_inodes=2000"),
];

pub struct Site {
    pub host: Host,
    pub proxy: Proxy,
    /// The root of the host's files, on this machine.
    pub root: PathBuf,
    /// The committed tag.
    pub serves: String,
    /// The files that must not change.
    pub files: Vec<String>,
    /// A text that a row's first act keeps for its last.
    pub kept: Mutex<String>,
    /// Ended before the cure.
    pub helpers: Mutex<Vec<Helper>>,
    scripts: AtomicU32,
}

impl Site {
    pub fn new(number: usize) -> Self {
        let config = config_with([
            ("127.0.0.1:5000/astra", "127.0.0.1:5001/astra"),
            ("timeout = \"60s\"", "timeout = \"15s\""),
            ("[\"./migrate.sh\"]", "[\"./migrate.sh\"]\ntimeout = \"20s\""),
            ("soak = \"1s\"", "soak = \"0s\"\ndrain_timeout = \"8s\"\nmin_free = \"60M\""),
            ("instances = 2", "instances = 2\nstop_timeout = \"5s\""),
        ]);
        let host = Host::boot(&format!("faults-{number}"));
        for (place, size) in SMALL_PLACES {
            host.sh(&format!(
                "install -d -m 0700 {place} && mount -t tmpfs -o {size},mode=0700 tmpfs {place}"
            ))
            .ok();
        }
        host.write(
            "/etc/containers/registries.conf.d/20-faults.conf",
            "[[registry]]\nlocation = \"127.0.0.1:5001\"\ninsecure = true\n",
        );
        host.write(CONFIG_FILE, &config);
        host.sh_with("astra-agent env set DATABASE_PASSWORD", PASSWORD).ok();
        host.put(&small_disk(), "/root/disk.ext4");
        let proxy = Proxy::start(&host.leader());
        host.agent(["install"]).ok();
        // Both are known from here on: there is a rollback target, and a change needs neither pull nor
        // migration.
        host.deploy("v2").ok();
        host.sh(&format!("cp {CONFIG_FILE} {KEPT_CONFIG}")).ok();
        let root = PathBuf::from(format!("/proc/{}/root", host.leader()));
        let (kept, helpers) = (Mutex::default(), Mutex::default());
        let (serves, scripts) = ("v2".into(), AtomicU32::new(0));
        let mut site = Self { host, proxy, root, serves, files: Vec::new(), kept, helpers, scripts };
        site.files = site.files();
        site
    }

    /// Runs a shell line with a limit in seconds. Output goes to files: a pipe would stay open in any process that
    /// survives, and block this test. The line is in a file, so that no `pkill -f` finds itself.
    pub fn command(&self, line: &str, seconds: u64) -> Output {
        let at = format!("/root/typed-{}", self.scripts.fetch_add(1, Ordering::Relaxed));
        self.host.sh_with(
            &format!(
                "cat >{at}; timeout -k 5 {seconds} bash {at} >{at}.out 2>{at}.err </dev/null; c=$?; \
                 cat {at}.out; cat {at}.err >&2; rm {at} {at}.*; exit $c"
            ),
            line,
        )
    }

    /// The standard output of a command that succeeds, without the last line's end.
    pub fn ask(&self, line: &str) -> Result<String, String> {
        let output = self.command(line, COMMAND);
        match output.code() {
            0 => Ok(output.stdout.trim_end().into()),
            code => Err(format!("{line}: ends with {code}: {}", output.text())),
        }
    }

    /// Runs one command that succeeds.
    pub fn sh(&self, line: &str) -> Done {
        self.ask(line).map(drop)
    }

    /// Runs one command that fails.
    pub fn fails(&self, line: &str) -> Done {
        match self.ask(line) {
            Ok(said) => Err(format!("{line}: succeeds: {said}")),
            Err(_) => Ok(()),
        }
    }

    /// Waits for a condition; `what` describes it.
    pub fn until(&self, what: &str, holds: impl Fn() -> bool) -> Done {
        let end = Instant::now() + CONDITION;
        while !holds() {
            if Instant::now() > end {
                return Err(format!("never: {what}"));
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    pub fn pause(&self, seconds: u64) -> Done {
        thread::sleep(Duration::from_secs(seconds));
        Ok(())
    }
}
