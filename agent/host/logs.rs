//! The last log lines of a unit, for an error message. The systemd journal cannot be read through a socket,
//! so `journalctl` runs as a transient unit, like every child process.

use std::io::{PipeReader, Read};
use std::os::fd::AsFd;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use serde::Deserialize;

use super::Host;
use super::blocking;
use super::transient::{Transient, run_transient};
use crate::model::text::clean;

const LINES: usize = 8;
const LONGEST_LINE: usize = 300;
/// Number of entries, podman's events included.
const READ: &str = "--lines=100";
const LARGEST: u64 = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(5);
/// The fields that entries are selected by.
const FIELDS: &str =
    "--output-fields=MESSAGE,SYSLOG_IDENTIFIER,PODMAN_EVENT,CONTAINER_NAME,_SYSTEMD_INVOCATION_ID";

/// The start whose log lines are wanted.
#[derive(Clone, Debug)]
pub(super) struct Start {
    at: SystemTime,
    /// Invocation id of the previous start, whose last lines may arrive late.
    before: String,
}

impl Start {
    /// A start that begins now, after the invocation `before` (empty if there was none).
    pub(super) fn now(before: &str) -> Self {
        Self { at: SystemTime::now(), before: before.to_owned() }
    }
}

/// The log lines of a unit, from its app or from the engine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct LastWords {
    /// Oldest first.
    pub lines: Vec<String>,
    /// Lines of the engine and its runtime, not of the app.
    pub engine: Vec<String>,
}

impl Host {
    /// The lines of `unit` since this process began.
    pub async fn last_lines(&self, unit: &str) -> Vec<String> {
        self.last_words(unit, None).await.lines
    }

    /// The last lines of `unit` and its container, oldest first; empty if the journal has none. Only since
    /// the current start, and without remarks of systemd and podman about it.
    pub(super) async fn last_words(&self, unit: &str, container: Option<&str>) -> LastWords {
        let since = self.start.borrow().clone();
        match tokio::time::timeout(PATIENCE, self.journalctl(unit, container, &since)).await {
            Ok(Ok(text)) => read(&text, &since.before),
            _ => LastWords::default(),
        }
    }

    async fn journalctl(&self, unit: &str, container: Option<&str>, since: &Start) -> Result<String> {
        let (read, write) = std::io::pipe().context("making a pipe")?;
        let name = format!("astra-agent-logs-{}.service", std::process::id());
        let at = since.at.duration_since(UNIX_EPOCH).unwrap_or_default();
        let since = format!("--since=@{}.{:06}", at.as_secs(), at.subsec_micros());
        let mut argv =
            ["/usr/bin/journalctl", "--quiet", "--no-pager", "--all", "--output=json", FIELDS, READ, &since]
                .map(str::to_owned)
                .to_vec();
        // Written by a process of the unit: an attached container, conmon, or podman about its own failure.
        argv.push(format!("_SYSTEMD_UNIT={unit}"));
        // Written by conmon for a detached container (podman-run(1), --log-driver=journald).
        argv.extend(
            container.into_iter().flat_map(|name| ["+".to_owned(), format!("CONTAINER_NAME={name}")]),
        );
        let run = run_transient(
            &self.systemd,
            Transient {
                name: &name,
                description: &format!("last log lines of {unit}"),
                argv: &argv,
                limit: None,
                env: &[],
                stdout: write.as_fd(),
                stderr: write.as_fd(),
                on_failure: "",
                success_exit: &[1],
                stop_timeout: PATIENCE,
            },
        )
        .await?;
        // journalctl has the other end; keeping this one open would keep the pipe open.
        drop(write);
        let text = blocking::spawn(move || read_all(read)).context("reading log lines")?;
        run.wait().await?;
        text.await?
    }
}

fn read_all(read: PipeReader) -> Result<String> {
    let mut bytes = Vec::new();
    read.take(LARGEST).read_to_end(&mut bytes).context("reading log lines")?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// An entry of `journalctl --output=json`.
#[derive(Deserialize)]
struct Seen {
    #[serde(rename = "MESSAGE", default)]
    message: Message,
    #[serde(rename = "SYSLOG_IDENTIFIER", default)]
    identifier: String,
    #[serde(rename = "PODMAN_EVENT")]
    event: Option<serde_json::Value>,
    #[serde(rename = "CONTAINER_NAME")]
    container: Option<serde_json::Value>,
    #[serde(rename = "_SYSTEMD_INVOCATION_ID", default)]
    invocation: String,
}

/// A string, or bytes if it is not UTF-8 or has control characters.
#[derive(Deserialize)]
#[serde(untagged)]
enum Message {
    Text(String),
    Bytes(Vec<u8>),
    Other(serde::de::IgnoredAny),
}

impl Default for Message {
    fn default() -> Self {
        Self::Text(String::new())
    }
}

impl Seen {
    fn text(&self) -> String {
        match &self.message {
            Message::Text(text) => text.clone(),
            Message::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Message::Other(_) => String::new(),
        }
    }

    /// Written by the engine, not by the app.
    fn is_engine(&self) -> bool {
        self.container.is_none() && matches!(self.identifier.as_str(), "podman" | "conmon" | "docker")
    }
}

/// The lines that explain a failure, from entries as journalctl prints them.
fn read(entries: &str, before: &str) -> LastWords {
    let mut words = LastWords::default();
    for entry in entries.lines().filter_map(|line| serde_json::from_str::<Seen>(line).ok()) {
        let earlier = !before.is_empty() && entry.invocation == before;
        if earlier || entry.event.is_some() {
            continue;
        }
        let text = entry.text();
        let text = match entry.identifier.as_str() {
            // conmon's own warnings do not help here; on a failure of the runtime it passes on the runtime's
            // message.
            "conmon" if entry.is_engine() => match text.split_once("runtime stderr: ") {
                Some((_, said)) => said.to_owned(),
                None => continue,
            },
            _ => text,
        };
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            let line = clean(line.trim_end(), LONGEST_LINE);
            // podman repeats what conmon got from the runtime.
            if entry.is_engine() {
                words.lines.retain(|said| !(words.engine.contains(said) && line.contains(said.as_str())));
                words.engine.push(line.clone());
            }
            words.lines.push(line);
        }
    }
    words.lines.drain(..words.lines.len().saturating_sub(LINES));
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(identifier: &str, message: &str, more: &str) -> String {
        let message = serde_json::to_string(message).unwrap();
        format!(r#"{{"MESSAGE":{message},"SYSLOG_IDENTIFIER":"{identifier}"{more}}}"#)
    }

    #[test]
    fn only_the_lines_of_the_failed_start_are_shown() {
        let said = [
            entry("astra-app-1", "goodbye", r#","CONTAINER_NAME":"astra-app-1","_SYSTEMD_INVOCATION_ID":"old""#),
            entry("podman", "2026-11-25 container died 73e8", r#","PODMAN_EVENT":"died""#),
            entry("conmon", "conmon 73e8 <nwarn>: Failed to open cgroups file: memory.events", ""),
            entry("astra-app-1", "cannot reach the database", r#","CONTAINER_NAME":"astra-app-1""#),
            r#"{"MESSAGE":[27,91,109,98,97,100],"SYSLOG_IDENTIFIER":"astra-app-1","CONTAINER_NAME":"astra-app-1"}"#.into(),
            r#"{"MESSAGE":null,"SYSLOG_IDENTIFIER":"astra-app-1"}"#.into(),
        ];
        let words = read(&said.join("\n"), "old");
        assert_eq!(words.lines, ["cannot reach the database", " [mbad"]);
        assert_eq!(words.engine, [""; 0]);
    }

    #[test]
    fn the_engine_s_own_error_is_shown_once() {
        let said = [
            entry(
                "conmon",
                "conmon 6e37 <nwarn>: runtime stderr: opening file `memory.max`: No such file",
                "",
            ),
            entry("conmon", "conmon 6e37 <error>: Failed to create container: exit status 1", ""),
            entry("podman", "Error: crun: opening file `memory.max`: No such file: OCI runtime error", ""),
        ];
        let words = read(&said.join("\n"), "");
        assert_eq!(words.lines, ["Error: crun: opening file `memory.max`: No such file: OCI runtime error"]);
        assert_eq!(words.engine.len(), 2);
        // Without podman's line, the runtime's own remains.
        assert_eq!(read(&said[0], "").lines, ["opening file `memory.max`: No such file"]);
    }

    #[test]
    fn the_last_lines_of_a_long_log_are_kept() {
        let said: Vec<String> = (0..20).map(|n| entry("astra-migrate", &format!("line {n}"), "")).collect();
        let words = read(&said.join("\n"), "");
        assert_eq!(words.lines.first().map(String::as_str), Some("line 12"));
        assert_eq!(words.lines.len(), LINES);
    }
}
