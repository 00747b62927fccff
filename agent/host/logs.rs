//! The last log lines of a unit, for an error message. The systemd journal has no socket to read it from, so
//! `journalctl` runs as a transient unit, like everything that has to be a child process.

use std::io::{PipeReader, Read};
use std::os::fd::AsFd;
use std::time::Duration;

use anyhow::{Context, Result};

use super::Host;
use super::transient::{Transient, run_transient};
use crate::model::text::clean;

const LINES: usize = 8;
const LONGEST_LINE: usize = 300;
const LARGEST: u64 = 64 << 10;
const PATIENCE: Duration = Duration::from_secs(5);

impl Host {
    /// What `unit` and its container wrote last, oldest first; empty when the journal says nothing. Only since
    /// the start under way began, and without the remarks of systemd and podman about it.
    pub(super) async fn last_words(&self, unit: &str, container: Option<&str>) -> Vec<String> {
        match tokio::time::timeout(PATIENCE, self.journalctl(unit, container)).await {
            Ok(Ok(lines)) => lines,
            _ => Vec::new(),
        }
    }

    async fn journalctl(&self, unit: &str, container: Option<&str>) -> Result<Vec<String>> {
        let (read, write) = std::io::pipe().context("making a pipe")?;
        let name = format!("astra-agent-logs-{}.service", std::process::id());
        let since = format!("--since=-{}s", self.since.get().elapsed().as_secs() + 1);
        let mut argv = ["/usr/bin/journalctl", "--quiet", "--no-pager", "--output=cat", "--lines=40", &since]
            .map(str::to_owned)
            .to_vec();
        // What a process of the unit wrote itself: an attached container, or podman about its own failure.
        argv.extend([format!("_SYSTEMD_UNIT={unit}"), "_TRANSPORT=stdout".to_owned()]);
        // What conmon wrote for a detached container (podman-run(1), --log-driver=journald).
        argv.extend(
            container.into_iter().flat_map(|name| ["+".to_owned(), format!("CONTAINER_NAME={name}")]),
        );
        let run = run_transient(
            &self.systemd,
            Transient {
                name: &name,
                description: &format!("last log lines of {unit}"),
                argv: &argv,
                properties: "",
                env: &[],
                stdout: write.as_fd(),
                stderr: write.as_fd(),
                on_failure: "",
                success_exit: &[1],
                stop_timeout: PATIENCE,
            },
        )
        .await?;
        // The other end belongs to journalctl now: ours would keep the pipe open for ever.
        drop(write);
        let text = tokio::task::spawn_blocking(move || read_all(read));
        run.wait().await?;
        let text = text.await??;
        Ok(tail(&text))
    }
}

fn read_all(read: PipeReader) -> Result<String> {
    let mut bytes = Vec::new();
    read.take(LARGEST).read_to_end(&mut bytes).context("reading log lines")?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn tail(text: &str) -> Vec<String> {
    let lines: Vec<&str> = text.lines().filter(|l| !l.trim().is_empty()).collect();
    let first = lines.len().saturating_sub(LINES);
    lines.get(first..).unwrap_or_default().iter().map(|l| clean(l, LONGEST_LINE)).collect()
}
