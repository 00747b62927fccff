//! A test host (tests/host/host), and traffic on it. The harness of the tests does not fit: it panics, and takes
//! its binaries from cargo's variables for tests. A host ends when it is dropped, or with this program.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail, ensure};

use crate::records::Versions;
use crate::settings::{PROJECT, Settings};
use crate::store::{Store, write_json};
use crate::traffic::Report;

/// Seconds; a command that hangs fails.
const LIMIT: &str = "900";
const REGISTRY: &str = "http://127.0.0.1:5000/v2";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

const VERSIONS: &str = r#"
. /etc/os-release
jq -n --arg debian "$VERSION" --arg systemd "$(systemctl --version | sed -n '1s/systemd \([0-9]*\).*/\1/p')" \
    --arg podman "$(podman version -f '{{.Client.Version}}')" --arg postgresql "$(psql --version | cut -d' ' -f3)" \
    --arg caddy "$(podman exec astra-caddy caddy version | cut -d' ' -f1)" '$ARGS.named'"#;

pub struct Host {
    name: String,
    boot: Child,
}

/// The result of a command.
pub struct Output {
    command: String,
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Output {
    /// Its standard output, if it succeeded.
    pub fn ok(self) -> Result<String> {
        let Self { command, code, stdout, stderr } = self;
        ensure!(code == 0, "`{command}` ended with {code}:\n{stdout}{stderr}");
        Ok(stdout)
    }

    pub fn text(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

impl Host {
    /// Boots a fresh host, or one with the disk that is given.
    pub fn boot(settings: &Settings, store: &Store, name: &str, disk: Option<&Path>) -> Result<Self> {
        let name = format!("{}-{name}", settings.hosts);
        // The host of a campaign that was killed may still be ending.
        cli().args(["off", &name]).status()?;
        let mut command = cli();
        command.args(["boot", &name, "--bin"]).arg(store.agent());
        if let Some(disk) = disk {
            command.arg("--on").arg(disk);
        }
        // The host lives while the other end of its standard input is open.
        let mut boot = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut leader = String::new();
        let stdout = boot.stdout.take().context("no standard output")?;
        BufReader::new(stdout).read_line(&mut leader)?;
        let host = Self { name, boot };
        ensure!(!leader.is_empty(), "{} does not boot: tests/host/host says why, above", host.name);
        Ok(host)
    }

    pub fn sh(&self, command: &str) -> Result<Output> {
        self.sh_with(command, "")
    }

    /// With standard input.
    pub fn sh_with(&self, command: &str, stdin: &str) -> Result<Output> {
        let mut child = Command::new("timeout")
            .arg(LIMIT)
            .arg(HOST)
            .args(["sh", &self.name, command])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        // A command need not read its input.
        let _ = child.stdin.take().context("no standard input")?.write_all(stdin.as_bytes());
        let output = child.wait_with_output()?;
        Ok(Output {
            command: command.into(),
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into(),
            stderr: String::from_utf8_lossy(&output.stderr).into(),
        })
    }

    /// Writes a file.
    pub fn write(&self, path: &str, content: &str) -> Result<()> {
        self.sh_with(&format!("mkdir -p $(dirname {path}) && cat >{path}"), content)?.ok().map(drop)
    }

    /// Repeats a command until it succeeds.
    pub fn wait(&self, command: &str, limit: Duration) -> Result<()> {
        let begun = Instant::now();
        loop {
            let output = self.sh(command)?;
            if output.code == 0 {
                return Ok(());
            }
            ensure!(begun.elapsed() < limit, "after {limit:?} still: {}", output.ok().err().context(LIMIT)?);
            sleep(Duration::from_millis(300));
        }
    }

    /// Installs the site of the tests with the agent, and these `services`.
    pub fn install(&self, store: &Store, services: &str) -> Result<()> {
        let config = std::fs::read_to_string(Path::new(PROJECT).join("tests/host/agent.toml"))? + services;
        self.sh("install -d -m 0700 /etc/astra /etc/astra/agent.d")?.ok()?;
        self.write("/etc/astra/agent.toml", &config)?;
        let words = "echo canary-db-pw-7f3a | astra-agent env set DATABASE_PASSWORD && astra-agent install";
        self.sh(words)?.ok()?;
        let versions = store.file("versions.json");
        if !versions.exists() {
            let versions_here: Versions = serde_json::from_str(&self.sh(VERSIONS)?.ok()?)?;
            write_json(&versions, &versions_here)?;
        }
        Ok(())
    }

    /// The last step of a build pipeline: astra:latest stands for this tag.
    pub fn push(&self, tag: &str) -> Result<()> {
        self.push_to("astra", tag)
    }

    /// The same in another repository, where the image of that tag of astra is `latest`.
    pub fn push_to(&self, repository: &str, tag: &str) -> Result<()> {
        self.sh(&format!(
            "set -eo pipefail; manifest=$(mktemp)
             curl -sSf -H 'Accept: {MANIFEST}' {REGISTRY}/astra/manifests/{tag} >$manifest
             for blob in $(jq -r '.config.digest, .layers[].digest' $manifest); do
                 curl -sSf -o /dev/null -X POST \"{REGISTRY}/{repository}/blobs/uploads/?mount=$blob&from=astra\"
             done
             curl -sSf -X PUT -H 'Content-Type: {MANIFEST}' --data-binary @$manifest \\
                 {REGISTRY}/{repository}/manifests/latest; rm $manifest"
        ))?
        .ok()
        .map(drop)
    }

    /// Removes the image of a tag from the host.
    pub fn forget(&self, tag: &str) -> Result<()> {
        self.sh(&format!(
            "image=127.0.0.1:5000/astra@$(curl -sSfI -H 'Accept: {MANIFEST}' {REGISTRY}/astra/manifests/{tag} |
                 sed -n 's/\\r$//; s/^docker-content-digest: //Ip')
             ! podman image exists $image || podman rmi $image"
        ))?
        .ok()
        .map(drop)
    }

    /// Cuts the power and boots again: the disk stays, /run is empty.
    pub fn reboot(&self) -> Result<()> {
        let status = cli().args(["reboot", &self.name]).stdout(Stdio::null()).status()?;
        ensure!(status.success(), "rebooting {}", self.name);
        Ok(())
    }

    /// Traffic until `stop`, or until dropped.
    pub fn load(&self, settings: &Settings, store: &Store, quick: bool) -> Result<Load> {
        let generator = store.tool("load")?;
        let leader = cli().args(["leader", &self.name]).output()?;
        let leader = String::from_utf8(leader.stdout)?;
        let websockets = if quick { 0 } else { settings.websockets };
        // Only the network is the host's; it ends with this program.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "nsenter", "--net", "--target", leader.trim(), "--"])
            .arg(generator)
            .args(["--rate", &settings.rate.to_string(), "--websockets", &websockets.to_string()])
            .args(["--seconds", "86400"])
            .args(quick.then_some("--quick"))
            .stdout(Stdio::piped())
            .spawn()?;
        Ok(Load { child: Some(child) })
    }

    /// Caddy's log, for failed requests: the host will be gone.
    pub fn explain(&self, store: &Store, report: &Report, name: &str) -> Result<()> {
        if report.failed > 0 {
            let log = self.sh("journalctl -q -o cat CONTAINER_NAME=astra-caddy")?;
            std::fs::write(store.file(format!("{name}-caddy.log")), log.text())?;
        }
        Ok(())
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        drop(self.boot.stdin.take());
        let _ = self.boot.wait();
    }
}

pub struct Load {
    child: Option<Child>,
}

impl Load {
    /// Sends nothing more, and waits for the remaining answers.
    pub fn stop(mut self) -> Result<Report> {
        let Some(child) = self.child.take() else { bail!("stopped twice") };
        Command::new("kill").arg(child.id().to_string()).status()?;
        let output = child.wait_with_output()?;
        ensure!(output.status.success(), "the load generator ended with {}", output.status);
        serde_json::from_slice(&output.stdout).context("reading the report of the load generator")
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

const HOST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/host/host");

fn cli() -> Command {
    Command::new(HOST)
}

/// Seconds since 1970.
pub fn clock() -> f64 {
    SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_secs_f64()
}

/// Seconds since then, to a tenth.
pub fn since(begun: Instant) -> f64 {
    (begun.elapsed().as_secs_f64() * 10.0).round() / 10.0
}

pub fn seconds(seconds: u64) {
    sleep(Duration::from_secs(seconds));
}
