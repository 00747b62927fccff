//! Records what the running Caddy was started with and what it has loaded since. Caddy itself does not report
//! it: its `/config` is JSON, and every version makes different JSON from the same Caddyfile. The record is
//! valid for one invocation of the unit. Called by observe.rs and perform.rs.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::is_refusal;
use crate::host::{Host, failpoint};
use crate::model::caddyfile::{leaving_marker, own_address_in};
use crate::model::fingerprint::sha256;
use crate::model::name::{CADDY_ENV, CADDY_TRIAL_ENV, CADDY_UNIT, CADDYFILE, WORKING, unit_file};
use crate::model::observed::{CaddyRuns, Observed, service_section};

const NOTE: &str = "/run/astra/caddy.json";
/// Limit for one answer of Caddy during a snapshot.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(2);

/// Wait after a load. A health check of the new config may hit the end of the old one (`shutdown_delay` in
/// the Caddyfile) and fail: requests then wait for the next check. A second load meanwhile would fail the
/// waiting requests.
const CHECKED: Duration = Duration::from_secs(4);
/// From the start of Caddy's unit until it answers.
const START: Duration = Duration::from_secs(60);

#[derive(Serialize, Deserialize)]
struct Note {
    invocation: String,
    runs: CaddyRuns,
    /// Right after a load its config already differed from what it makes of the Caddyfile, so a later
    /// difference proves nothing.
    #[serde(default)]
    incomparable: bool,
}

impl Host {
    /// Version of the running Caddy, if it is known here; the outer `None`: it does not answer.
    pub(in crate::host) async fn ask_caddy(&self) -> Option<Option<(u32, u32)>> {
        tokio::time::timeout(SNAPSHOT_TIMEOUT, self.caddy.version()).await.ok()?.ok()
    }

    /// Caddy's running config. One loaded by another client counts as a load with an unknown result.
    pub(in crate::host) async fn caddy_runs(&self, observed: &Observed) -> Option<CaddyRuns> {
        let Note { mut runs, incomparable, .. } = self.noted(observed)?;
        let written = observed.files.get(Path::new(CADDYFILE)).filter(|seen| {
            let is_known = runs.caddyfile.as_ref() == Some(&sha256(&seen.bytes));
            is_known && !incomparable
        });
        if let Some(seen) = written {
            let same = tokio::time::timeout(SNAPSHOT_TIMEOUT, self.caddy.serves_by(&seen.bytes)).await;
            if matches!(same, Ok(Ok(false))) {
                runs.caddyfile = None;
            }
        }
        Some(runs)
    }

    /// A restarted Caddy is assumed to run the Caddyfile on disk.
    fn noted(&self, observed: &Observed) -> Option<Note> {
        let invocation = &observed.units.get(CADDY_UNIT)?.invocation;
        if invocation.is_empty() {
            return None;
        }
        if let Some(note) = self.note().filter(|note| note.invocation == *invocation) {
            return Some(note);
        }
        let bytes = |path: &Path| observed.files.get(path).map(|f| f.bytes.as_slice()).unwrap_or_default();
        let text = |path: &Path| String::from_utf8_lossy(bytes(path)).into_owned();
        let trial = Path::new(CADDY_TRIAL_ENV);
        let env = if observed.files.contains_key(trial) { trial } else { Path::new(CADDY_ENV) };
        let runs = CaddyRuns {
            caddyfile: Some(sha256(bytes(Path::new(CADDYFILE)))),
            service: service_section(&text(&unit_file(CADDY_UNIT))),
            env: text(env),
        };
        let note = Note { invocation: invocation.clone(), runs, incomparable: false };
        // If the write fails, the next snapshot makes it again.
        let _ = self.write_note(&note);
        Some(note)
    }

    /// Loads `caddyfile` into Caddy, then writes it. A refusal changes nothing; if this is cut off, the load
    /// counts as not done. While instances are `in_use` it takes 4 s to protect their requests: the servers
    /// of the former config keep running for a while, and each of their answers asks the client for a new
    /// connection.
    pub(in crate::host) async fn load_caddy(&self, caddyfile: &[u8], in_use: bool) -> Result<()> {
        let invocation = self.systemd.unit(CADDY_UNIT).await?.invocation;
        let known = self.note().filter(|note| note.invocation == invocation);
        let runs = known.map(|note| note.runs);
        let note = |caddyfile: Option<String>, incomparable| {
            let Some(runs) = runs.clone() else { return Ok(()) };
            let runs = CaddyRuns { caddyfile, ..runs };
            self.write_note(&Note { invocation: invocation.clone(), runs, incomparable })
        };
        note(None, false)?;
        let leaving = if in_use { self.mark_leaving()? } else { None };
        let checked = Instant::now() + CHECKED;
        (self.detail)("waiting for clients to move to the new config");
        let loaded = self.caddy.load(caddyfile).await;
        if let Some(leaving) = leaving {
            self.files.remove(&leaving)?;
            self.leave_markers()?;
        }
        if let Err(error) = loaded {
            if is_refusal(&error) {
                note(runs.as_ref().and_then(|runs| runs.caddyfile.clone()), false)?;
            }
            return Err(error);
        }
        self.files.write_atomic(Path::new(CADDYFILE), caddyfile, 0o644)?;
        if in_use {
            tokio::time::sleep_until(checked).await;
        }
        let same = tokio::time::timeout(SNAPSHOT_TIMEOUT, self.caddy.serves_by(caddyfile)).await;
        note(Some(sha256(caddyfile)), !matches!(same, Ok(Ok(true))))
    }

    /// Marks that the config in force is about to be replaced.
    fn mark_leaving(&self) -> Result<Option<PathBuf>> {
        // One that cannot be read, e.g. a symlink, is about to be replaced; only its clients are not moved.
        let Ok(Some(seen)) = self.files.read(Path::new(CADDYFILE)) else { return Ok(None) };
        let own = own_address_in(&String::from_utf8_lossy(&seen.bytes));
        let marker = own.map(leaving_marker);
        if let Some(marker) = &marker {
            // In this order: cleanup after a kill looks for the second only beside the first.
            self.files.write_atomic(Path::new(WORKING), b"", 0o644)?;
            self.files.write_atomic(marker, b"", 0o644)?;
        }
        Ok(marker)
    }

    /// Runs Caddy from the image that `env` names. caddy.env names it after it has answered, by one rename.
    /// Until then a trial file in /run does, so a power cut restores the image that worked.
    pub(in crate::host) async fn switch_caddy_image(&self, env: &str) -> Result<()> {
        self.files.write_atomic(Path::new(CADDY_TRIAL_ENV), env.as_bytes(), 0o644)?;
        self.restart_caddy().await?;
        self.files.write_atomic(Path::new(CADDY_ENV), env.as_bytes(), 0o644)?;
        self.files.remove(Path::new(CADDY_TRIAL_ENV)).map(drop)
    }

    /// Stops, starts, and waits until Caddy answers. A Caddy that cannot run its image is restarted by
    /// systemd forever, and a mere start would join that job.
    async fn restart_caddy(&self) -> Result<()> {
        self.systemd.stop(CADDY_UNIT, START).await.context("restarting Caddy")?;
        failpoint::reach("stopped", 0, CADDY_UNIT);
        self.systemd.start(CADDY_UNIT, START).await.context("restarting Caddy")?;
        self.await_caddy().await.context("restarting Caddy")
    }

    /// Waits until the Caddy just started answers. Only podman's unit reports readiness itself.
    pub(in crate::host) async fn await_caddy(&self) -> Result<()> {
        (self.detail)("waiting until Caddy answers");
        let begun = Instant::now();
        let restarts = self.systemd.unit(CADDY_UNIT).await?.restarts;
        loop {
            let Err(silent) = self.caddy.version().await else { return Ok(()) };
            let unit = self.systemd.unit(CADDY_UNIT).await?;
            if unit.has_ended() || unit.restarts > restarts {
                bail!("it ended before it answered");
            }
            if begun.elapsed() > START {
                return Err(silent.context(format!("it does not answer within {START:?}")));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    fn note(&self) -> Option<Note> {
        let seen = self.files.read(Path::new(NOTE)).ok().flatten()?;
        serde_json::from_slice(&seen.bytes).ok()
    }

    fn write_note(&self, note: &Note) -> Result<()> {
        let bytes = serde_json::to_vec(note).with_context(|| format!("writing {NOTE}"))?;
        self.files.write_atomic(Path::new(NOTE), &bytes, 0o600)
    }
}
