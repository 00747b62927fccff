//! A test's handle on its own host. Failures here panic with all known details, so that a test only contains
//! its expectations.

use std::env;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio, exit, id};
use std::time::{Duration, Instant};

use crate::report::Report;

const CLI: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/host/host");
/// Seconds; a command that hangs fails its test only.
const COMMAND_LIMIT: &str = "300";
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// The container engine of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    Podman,
    Docker,
}

impl Engine {
    /// Name of its client.
    pub fn client(self) -> &'static str {
        match self {
            Self::Podman => "podman",
            Self::Docker => "docker",
        }
    }

    /// The field for the state in the format of `ps`. podman 4.3 has "Up 4 seconds ago" as `.State`.
    pub fn state(self) -> &'static str {
        match self {
            Self::Podman => "{{.ListContainer.State}}",
            Self::Docker => "{{.State}}",
        }
    }
}

/// A booted host. Removed when dropped, or when the test process dies.
pub struct Host {
    name: String,
    pub engine: Engine,
    boot: Child,
}

/// The result of a command.
#[derive(Default)]
pub struct Output {
    command: String,
    code: i32,
    pub stdout: String,
    pub stderr: String,
}

/// An HTTP answer.
#[derive(Debug, PartialEq)]
pub struct Answer {
    pub status: u16,
    pub body: String,
}

impl Host {
    /// Boots a fresh host with podman, and the agent of this build in /usr/local/bin.
    pub fn boot(name: &str) -> Self {
        Self::boot_with(name, Engine::Podman)
    }

    pub fn boot_with(name: &str, engine: Engine) -> Self {
        if env::var("ASTRA_SKIP_HOST_TESTS").is_ok_and(|v| v == "1") {
            eprintln!("host tests skipped: ASTRA_SKIP_HOST_TESTS=1");
            exit(0);
        }
        // The same test may run in two terminals at the same time.
        let name = format!("{name}-{}", id());
        // Another agent than that of this build, to compare.
        let agent = env::var("ASTRA_AGENT").unwrap_or_else(|_| env!("CARGO_BIN_EXE_astra-agent").into());
        let mut boot = cli()
            .args(["boot", &name, "--engine", engine.client(), "--bin", &agent])
            // The host lives while the other end is open.
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("starting tests/host/host");
        let mut leader = String::new();
        BufReader::new(boot.stdout.take().unwrap()).read_line(&mut leader).unwrap();
        assert!(!leader.is_empty(), "no test host: tests/host/host says why, one line above");
        Self { name, engine, boot }
    }

    /// Runs a shell command in the host.
    pub fn sh(&self, command: &str) -> Output {
        self.sh_with(command, "")
    }

    /// With standard input, which no command line shows.
    pub fn sh_with(&self, command: &str, stdin: &str) -> Output {
        self.sh_within(COMMAND_LIMIT, command, stdin)
    }

    /// With a limit of its own, in seconds.
    pub fn sh_within(&self, limit: &str, command: &str, stdin: &str) -> Output {
        let mut child = Command::new("timeout")
            .arg(limit)
            .arg(CLI)
            .args(["sh", &self.name, command])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("starting tests/host/host");
        // A command need not read its input.
        let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
        let output = child.wait_with_output().unwrap();
        Output {
            command: command.into(),
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into(),
            stderr: String::from_utf8_lossy(&output.stderr).into(),
        }
    }

    /// Runs the agent; its arguments need no quotes.
    pub fn agent<const N: usize>(&self, words: [&str; N]) -> Output {
        let words = words.map(|word| format!("'{}'", word.replace('\'', r"'\''")));
        self.sh(&format!("astra-agent {}", words.join(" ")))
    }

    pub fn write(&self, path: &str, content: &str) {
        self.sh_with(&format!("mkdir -p $(dirname {path}) && cat >{path}"), content).ok();
    }

    pub fn read(&self, path: &str) -> String {
        self.sh(&format!("cat {path}")).ok().stdout
    }

    /// Copies a file of this machine into the host.
    pub fn put(&self, file: &Path, path: &str) {
        let leader = cli().args(["leader", &self.name]).output().unwrap();
        let root = format!("/proc/{}/root", String::from_utf8(leader.stdout).unwrap().trim());
        // Replaced by rename: a running binary must not be overwritten.
        std::fs::copy(file, format!("{root}{path}.new")).unwrap();
        std::fs::rename(format!("{root}{path}.new"), format!("{root}{path}")).unwrap();
    }

    /// Runs the command until it succeeds.
    pub fn wait(&self, command: &str, limit: Duration) -> Output {
        let start = Instant::now();
        loop {
            let output = self.sh(command);
            if output.code == 0 || start.elapsed() > limit {
                return output.ok();
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// GET on port 80, like a visitor.
    pub fn get(&self, path: &str) -> Answer {
        let output = self.sh(&format!("curl -sS -m 30 -w '\\n%{{http_code}}' 'http://localhost{path}'")).ok();
        let (body, status) = output.stdout.rsplit_once('\n').unwrap();
        Answer { status: status.parse().unwrap(), body: body.into() }
    }

    /// Cuts the power and boots again: the disk stays, /run is empty.
    pub fn reboot(&self) {
        let status = cli().args(["reboot", &self.name]).stdout(Stdio::null()).status().unwrap();
        assert!(status.success(), "rebooting {}", self.name);
    }

    /// Process id of its systemd, for nsenter.
    pub fn leader(&self) -> String {
        let leader = cli().args(["leader", &self.name]).output().unwrap();
        String::from_utf8(leader.stdout).unwrap().trim().to_owned()
    }

    /// The digest of a tag of the app's image in the registry: `sha256:…`.
    pub fn digest(&self, tag: &str) -> String {
        self.digest_in("astra", tag)
    }

    /// The same of another repository.
    pub fn digest_in(&self, repository: &str, tag: &str) -> String {
        let manifest = manifest(repository, tag);
        let head = self.sh(&format!("curl -sSfI -H 'Accept: {MANIFEST}' {manifest}")).ok().stdout;
        let header = |line: &str| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case("docker-content-digest").then(|| value.trim().to_owned())
        };
        head.lines().find_map(header).unwrap_or_else(|| panic!("no digest in {head}"))
    }

    /// Points a tag at the image of another one: a push of the tracked tag.
    pub fn tag(&self, tag: &str, from: &str) {
        self.tag_in("astra", tag, from);
    }

    /// The same in another repository; `from` may be a digest.
    pub fn tag_in(&self, repository: &str, tag: &str, from: &str) {
        let [from, to] = [from, tag].map(|tag| manifest(repository, tag));
        self.sh(&format!(
            "set -o pipefail; curl -sSf -H 'Accept: {MANIFEST}' {from} | \
             curl -sSf -X PUT -H 'Content-Type: {MANIFEST}' --data-binary @- {to}"
        ))
        .ok();
    }

    /// Traffic for this host: `host.load(500).start()`, and later `.stop()`.
    pub fn load(&self, rate: u32) -> LoadBuilder<'_> {
        LoadBuilder { host: self, rate, websockets: 10, quick: false, gets: false, below: "" }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        drop(self.boot.stdin.take());
        let _ = self.boot.wait();
    }
}

impl Output {
    #[track_caller]
    pub fn ok(self) -> Self {
        let Output { command, code, stdout, stderr } = &self;
        assert_eq!(*code, 0, "{command}\n{stdout}{stderr}");
        self
    }

    pub fn code(&self) -> i32 {
        self.code
    }

    /// Standard output and error, as a terminal shows them, except for their order.
    pub fn text(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

pub struct LoadBuilder<'a> {
    host: &'a Host,
    rate: u32,
    websockets: usize,
    quick: bool,
    gets: bool,
    below: &'a str,
}

impl<'a> LoadBuilder<'a> {
    /// Every path begins with this prefix.
    pub fn below(self, below: &'a str) -> Self {
        Self { below, ..self }
    }

    pub fn websockets(self, websockets: usize) -> Self {
        Self { websockets, ..self }
    }

    /// Only quick POSTs: a drained instance has no requests at once, and none is retried.
    pub fn quick(self) -> Self {
        Self { quick: true, websockets: 0, ..self }
    }

    /// Only GET /, without WebSockets.
    pub fn gets(self) -> Self {
        Self { gets: true, websockets: 0, ..self }
    }

    pub fn start(self) -> Load {
        let load = example("load");
        // Only the network is the host's: the generator needs nothing else, and must not outlive the test.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "nsenter", "--net", "--target", &self.host.leader(), "--"])
            .arg(load)
            .args(["--rate", &self.rate.to_string()])
            .args(["--websockets", &self.websockets.to_string()])
            .args(["--below", self.below])
            .args(self.quick.then_some("--quick"))
            .args(self.gets.then_some("--gets"))
            .stdout(Stdio::piped())
            .spawn()
            .expect("starting the load generator");
        Load { child: Some(child) }
    }
}

/// A program of the tests, beside target/DIR/deps, where this test lies.
pub fn example(name: &str) -> PathBuf {
    let path = env::current_exe().unwrap().parent().unwrap().with_file_name("examples").join(name);
    assert!(path.exists(), "{} is missing: cargo build --example {name}", path.display());
    path
}

/// Traffic until `stop`, or until dropped.
pub struct Load {
    child: Option<Child>,
}

impl Load {
    /// Sends nothing more, and waits for the remaining answers.
    pub fn stop(mut self) -> Report {
        let child = self.child.take().unwrap();
        Command::new("kill").arg(child.id().to_string()).status().unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "the load generator ended with {}", output.status);
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Address of a manifest in the registry of a host.
fn manifest(repository: &str, tag: &str) -> String {
    format!("http://127.0.0.1:5000/v2/{repository}/manifests/{tag}")
}

fn cli() -> Command {
    Command::new(CLI)
}
