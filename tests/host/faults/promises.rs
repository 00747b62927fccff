//! The promises for all rows: both instances serve the committed release, files are unchanged, there are no
//! leftovers.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use super::site::Site;
use crate::site::ENV_FILE;

/// Limit until the host has recovered by itself.
const ITSELF: Duration = Duration::from_secs(30);

/// Lines of astra.env that follow the release.
const RELEASE: [&str; 7] = [
    "APP_IMAGE=",
    "ASTRA_RELEASE=",
    "APP_ARGS=",
    "APP_COMMAND=",
    "ASTRA_APP_PORT=",
    "ASTRA_CONFIG_KEYS=",
    "ASTRA_ENV=",
];
/// Files whose mode and owner must not change.
const GUARDED: [&str; 6] =
    ["/etc/astra", ENV_FILE, "/etc/astra/agent.toml", "/run/astra", "/run/astra/drain", "/run/astra/caddy"];
/// Directories whose files must not change.
const KEPT: [&str; 3] = ["/etc/astra", "/etc/systemd/system", "/etc/tmpfiles.d"];
/// Files there that follow the release.
const CHANGING: [&str; 2] = ["astra.env", "last_app_image"];
const CONTAINERS: [&str; 3] = ["astra-app-1 running", "astra-app-2 running", "astra-caddy running"];

impl Site {
    /// The promises that do not hold.
    pub fn missing(&self) -> Vec<String> {
        let mut missing = Vec::new();
        for instance in [1, 2] {
            let answer = self.host.sh(&format!("curl -sSf -m 5 localhost:800{instance}/"));
            if !answer.stdout.starts_with(&format!("{} ", self.serves)) {
                missing.push(format!("instance {instance} is not {}: {}", self.serves, answer.text()));
            }
        }
        let digest = self.host.digest(&self.serves);
        match self.image() {
            Ok(image) if image.ends_with(&digest) => {}
            Ok(image) => missing.push(format!("committed is {image}, not {} ({digest})", self.serves)),
            Err(error) => missing.push(error),
        }
        let files = self.files();
        let changed = files.iter().filter(|line| !self.files.contains(line));
        missing.extend(changed.map(|line| format!("changed: {line}")));
        let lost = self.files.iter().filter(|line| !files.contains(line));
        missing.extend(lost.map(|line| format!("was: {line}")));
        missing.extend(self.traces().into_iter().map(|trace| format!("left behind: {trace}")));
        missing
    }

    /// The same, after the time that the host may take to recover.
    pub fn missing_at_last(&self) -> Vec<String> {
        let end = Instant::now() + ITSELF;
        loop {
            let missing = self.missing();
            if missing.is_empty() || Instant::now() >= end {
                return missing;
            }
            thread::sleep(Duration::from_millis(500));
        }
    }

    /// Everything that must be unchanged, one line each.
    pub fn files(&self) -> Vec<String> {
        let env = self.read(ENV_FILE).unwrap_or_default();
        let own = env.lines().filter(|line| !RELEASE.iter().any(|name| line.starts_with(name)));
        let mut lines = vec![format!("{ENV_FILE} {}", sum(&own.collect::<Vec<_>>()))];
        for path in GUARDED {
            let it = fs::symlink_metadata(self.at(path));
            let shown = it.map(|it| format!("mode {:o}, uid {}", it.mode(), it.uid()));
            lines.push(format!("{path} {}", shown.unwrap_or_else(|error| error.to_string())));
        }
        let files = KEPT.iter().flat_map(|directory| self.below(directory));
        let kept = files.filter(|path| {
            let name = path.rsplit('/').next().unwrap();
            self.is_file(path) && !CHANGING.contains(&name)
        });
        let accounts = ["/etc/shadow", "/etc/passwd"].map(String::from);
        for path in kept.chain(accounts) {
            lines.push(format!("{path} {}", sum(&fs::read(self.at(&path)).ok())));
        }
        lines
    }

    /// Leftovers that no run may have.
    fn traces(&self) -> Vec<String> {
        let name_has = |path: &str, part: &str| path.rsplit('/').next().unwrap().contains(part);
        let run = self.below("/run/astra").into_iter();
        let mut traces: Vec<String> =
            run.filter(|path| name_has(path, "trial") || path.contains("/drain/")).collect();
        let places = ["/etc/astra", "/run/astra", "/etc/systemd/system", "/var/lib/astra-agent"];
        let written = places.iter().flat_map(|directory| self.below(directory));
        traces.extend(written.filter(|path| name_has(path, "astra-tmp")));
        let containers = self.host.sh("podman ps -a --format '{{.Names}} {{.ListContainer.State}}'").stdout;
        traces.extend(containers.lines().filter(|line| !CONTAINERS.contains(line)).map(String::from));
        if self.is_locked() {
            traces.push("the lock is held".into());
        }
        for line in [
            "systemctl list-units --plain --no-legend 'astra-agent-*.service' --state=activating,active,deactivating",
            "journalctl -q --no-pager _COMM=astra-agent -g 'panicked at' -n 3",
        ] {
            traces.extend(self.host.sh(line).stdout.lines().map(String::from));
        }
        traces
    }

    /// All paths below a directory of the host; no symlink is followed.
    fn below(&self, directory: &str) -> Vec<String> {
        let mut directories = vec![PathBuf::from(directory)];
        let mut found = Vec::new();
        while let Some(directory) = directories.pop() {
            // Files may go meanwhile.
            let Ok(entries) = fs::read_dir(self.at(directory.to_str().unwrap())) else { continue };
            for entry in entries.map_while(Result::ok) {
                let path = directory.join(entry.file_name());
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    directories.push(path.clone());
                }
                found.push(path.to_str().unwrap().to_owned());
            }
        }
        found.sort();
        found
    }
}

fn sum(content: &impl Hash) -> String {
    let mut hasher = DefaultHasher::new();
    content.hash(&mut hasher);
    format!("{:x}", hasher.finish())
}
