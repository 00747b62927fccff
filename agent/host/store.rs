//! The engine's image store. A pull ends long before its files are on disk, and a power cut in between leaves
//! layers that podman considers complete: empty files under the right names, which the next pull would reuse.
//! So a marker file is set from before a pull until the disk has it, and a second one in /run proves that
//! there was no power cut since.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::sync::oneshot::Receiver;
use tokio::time::{Instant, sleep, timeout};
use zbus::Connection;

use super::Host;
use super::blocking;
use super::engine::may_pass;
use super::systemd::ManagerProxy;
use super::transient::{Transient, run_transient};
use crate::model::image::PinnedImage;
use crate::model::name::{UNFLUSHED, UNFLUSHED_NOW, WAY_BACK_SEEN};
use crate::model::observed::Engine;
use crate::model::problem::Problem;

/// A pull without progress for this long has stalled.
const PULL_STALLS: Duration = Duration::from_secs(60);
/// Limit for all attempts together.
const PULL_TOTAL: Duration = Duration::from_secs(30 * 60);
const PULL_TRIES: u32 = 3;
/// Pause before the second attempt; twice as long before the third.
const PULL_PAUSE: Duration = Duration::from_secs(1);
const FLUSH: Duration = Duration::from_secs(300);
/// Interval between checks for the rollback target's image.
const WAY_BACK: Duration = Duration::from_secs(60 * 60);
/// The check reads every file of every layer.
const CHECK: Duration = Duration::from_secs(15 * 60);
const CHECK_STOPS: Duration = Duration::from_secs(60);
const CHECK_UNIT: &str = "astra-store-check.service";
/// The first podman (major, minor) that can check its store.
const CAN_CHECK: (u32, u32) = (5, 3);

impl Host {
    /// Fetches `image`, checks that the engine knows it by that name and digest, and starts to flush it to
    /// disk.
    pub(super) async fn pull(&self, image: &PinnedImage) -> Result<Option<String>> {
        let repaired = if self.store_is_suspect()? { Some(self.repair_store().await?) } else { None };
        let mut pulled = if repaired.is_some() { BTreeSet::new() } else { self.unflushed()? };
        // An image that is only pulled to check its signature is complete, and may be a rollback target.
        if !self.engine()?.has_image(image).await? {
            pulled.insert(image.clone());
        }
        let lines: String = pulled.iter().map(|image| format!("{image}\n")).collect();
        for marker in [UNFLUSHED_NOW, UNFLUSHED] {
            self.files.write_atomic(Path::new(marker), lines.as_bytes(), 0o600)?;
        }
        let again = match self.fetch(image).await {
            Ok(again) => again,
            Err(error) => {
                // Some layers may have arrived; if they cannot be flushed, the marker stays.
                let _ = self.flush_images().await;
                return Err(error);
            }
        };
        let flush = self.begin_flush().await?;
        self.flush.replace(Some(flush));
        let notes: Vec<String> = repaired.into_iter().chain(again).collect();
        Ok((!notes.is_empty()).then(|| notes.join("; ")))
    }

    /// Pulls with retries; reports the failed attempts.
    async fn fetch(&self, image: &PinnedImage) -> Result<Option<String>> {
        let engine = self.engine()?;
        let login = self.registry.credentials_for(&image.repository).await?;
        let begun = Instant::now();
        let mut missed = None;
        let mut tries = 1;
        loop {
            let left = PULL_TOTAL.saturating_sub(begun.elapsed());
            let tell = |what: String| match tries {
                1 => (self.detail)(&what),
                _ => (self.detail)(&format!("try {tries} of {PULL_TRIES}: {what}")),
            };
            let Err(error) = engine.pull(image, login.as_ref(), PULL_STALLS, left, tell).await else { break };
            let pause = PULL_PAUSE * tries;
            if tries >= PULL_TRIES || !may_pass(&error) || begun.elapsed() + pause >= PULL_TOTAL {
                return Err(match tries {
                    1 => error,
                    _ => error.context(format!("gave up after {tries} attempts")),
                });
            }
            let why = error.root_cause().to_string();
            (self.detail)(&format!("try {} of {PULL_TRIES} in {} s: {why}", tries + 1, pause.as_secs()));
            sleep(pause).await;
            missed = Some(why);
            tries += 1;
        }
        if !engine.has_image(image).await? {
            bail!("verifying {image}: the engine pulled something, but does not know it by this digest");
        }
        Ok(missed.map(|why| format!("pulled at attempt {tries}, after: {why}")))
    }

    /// The images listed in the marker: their pull was started, and they may not be on disk.
    pub(super) fn unflushed(&self) -> Result<BTreeSet<PinnedImage>> {
        let seen = self.files.read(Path::new(UNFLUSHED))?;
        let text = seen.map(|seen| String::from_utf8_lossy(&seen.bytes).into_owned()).unwrap_or_default();
        Ok(text.lines().filter_map(|line| line.parse().ok()).collect())
    }

    /// There was a power cut before a pulled image was on disk.
    ///
    /// # Errors
    ///
    /// A marker cannot be read.
    pub fn store_is_suspect(&self) -> Result<bool> {
        Ok(self.is_there(UNFLUSHED)? && !self.is_there(UNFLUSHED_NOW)?)
    }

    /// An image was pulled since the boot, and not flushed yet.
    ///
    /// # Errors
    ///
    /// A marker cannot be read.
    pub fn has_unflushed_pull(&self) -> Result<bool> {
        Ok(self.is_there(UNFLUSHED)? && self.is_there(UNFLUSHED_NOW)?)
    }

    /// Whether to check for the rollback target's image again: this wakes the engine, so not with every timer.
    ///
    /// # Errors
    ///
    /// The marker's time cannot be read.
    pub fn way_back_is_due(&self) -> Result<bool> {
        let seen = self.files.modified(Path::new(WAY_BACK_SEEN))?;
        Ok(seen.and_then(|at| at.elapsed().ok()).is_none_or(|age| age > WAY_BACK))
    }

    /// Records that the rollback target's image is in the store. A run within the hour writes nothing.
    ///
    /// # Errors
    ///
    /// The marker cannot be written.
    pub fn note_way_back(&self) -> Result<()> {
        match self.way_back_is_due()? {
            true => self.files.write_atomic(Path::new(WAY_BACK_SEEN), b"", 0o644),
            false => Ok(()),
        }
    }

    fn is_there(&self, path: &str) -> Result<bool> {
        Ok(self.files.read(Path::new(path))?.is_some())
    }

    /// Removes what a power cut may have damaged, so that no pull reuses it; reports what was done.
    async fn repair_store(&self) -> Result<String> {
        (self.detail)("checking the image store: there was a power cut during a pull");
        let engine = self.engine()?;
        // Their layers are removed with them. A damaged image may not be removable, which podman's check
        // handles. One that a container uses stays.
        for suspect in self.unflushed()? {
            let _ = engine.remove_image(&suspect.to_string()).await;
        }
        let done = match engine.kind() {
            Engine::Podman => {
                let version = engine.version().await?;
                self.check_store(&version).await.context("checking the image store")?
            }
            Engine::Docker => "its images were fetched again".to_owned(),
        };
        Ok(format!("after a power cut in an earlier pull: {done}"))
    }

    /// podman-system-check(1): reads every layer, and removes damaged ones and whatever uses them. Fails, and
    /// so leaves the marker, if damage remains: its exit code is 0 when a second check finds none.
    async fn check_store(&self, version: &str) -> Result<String> {
        if !can_check(version) {
            return Ok(format!("podman {version} cannot check its image store; the image was fetched again"));
        }
        let argv = [Engine::Podman.client(), "system", "check", "--repair"].map(str::to_owned);
        let nowhere = File::options().write(true).open("/dev/null").context("opening /dev/null")?;
        let check = Transient {
            name: CHECK_UNIT,
            description: "check of podman's image store, after a power cut",
            argv: &argv,
            limit: Some(CHECK + CHECK_STOPS),
            env: &[],
            stdout: nowhere.as_fd(),
            stderr: nowhere.as_fd(),
            on_failure: "",
            success_exit: &[],
            stop_timeout: CHECK_STOPS,
        };
        // Stop a check left by a killed run.
        self.systemd.stop(CHECK_UNIT, CHECK_STOPS).await?;
        let mut stop = StopCheck(Some(self.systemd.connection().await?));
        let run = run_transient(&self.systemd, check).await?;
        let ended = timeout(CHECK, run.wait()).await;
        let exit = ended.with_context(|| format!("{CHECK_UNIT}: not done within {CHECK:?}"))??;
        stop.0 = None;
        match exit.code {
            Some(0) => Ok("the image store was checked and repaired".to_owned()),
            Some(code) => bail!(Problem::host(
                "image_store",
                format!("damage is left (podman system check --repair: exit code {code})"),
                "`podman system check` names it; remove those images and what uses them, and deploy again. The last resort is `podman system reset`: it \
                 removes every container, image and volume of this host, with the data in them; then `astra-agent \
                 reconcile`",
            )),
            None => bail!(Problem::host(
                "image_store",
                format!("{CHECK_UNIT} was killed"),
                format!("`journalctl -u {CHECK_UNIT}` may say by whom; deploy again"),
            )),
        }
    }

    async fn begin_flush(&self) -> Result<Receiver<Result<()>>> {
        let store = self.engine()?.image_store_path().await?;
        let (files, path) = (self.files.clone(), store.clone());
        // Without a thread of its own, the run waits for it here.
        Ok(blocking::spawn(move || files.sync_fs(&path))
            .unwrap_or_else(|_| blocking::ready(self.files.sync_fs(&store))))
    }

    pub(super) async fn flush_images(&self) -> Result<()> {
        let begun = self.flush.take();
        let flush = match begun {
            Some(flush) => flush,
            // Pulled by a run that was cut off before the flush was done.
            None => self.begin_flush().await?,
        };
        (self.detail)("waiting for the disk");
        timeout(FLUSH, flush)
            .await
            .with_context(|| format!("flushing the image store: not within {FLUSH:?}"))???;
        // A flush cannot restore what a power cut has emptied: the marker then stays for the next pull.
        if !self.store_is_suspect()? {
            for marker in [UNFLUSHED, UNFLUSHED_NOW] {
                self.files.remove(Path::new(marker))?;
            }
        }
        Ok(())
    }
}

/// Stops the check when its waiter is gone: at its timeout, and at Ctrl-C, which drops the waiter.
struct StopCheck(Option<Connection>);

impl Drop for StopCheck {
    fn drop(&mut self) {
        let (Some(bus), Ok(runtime)) = (self.0.take(), tokio::runtime::Handle::try_current()) else { return };
        runtime.spawn(async move {
            let Ok(manager) = ManagerProxy::new(&bus).await else { return };
            // If the run ends before this is sent, the next check or RuntimeMaxSec ends it.
            let _ = manager.stop_unit(CHECK_UNIT, "replace").await;
        });
    }
}

/// Whether podman of this version has the command; an unknown version counts as new.
fn can_check(version: &str) -> bool {
    let mut numbers = version.split('.').map_while(|part| part.parse::<u32>().ok());
    match (numbers.next(), numbers.next()) {
        (Some(major), Some(minor)) => (major, minor) >= CAN_CHECK,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn podman_checks_its_store_from_5_3_on() {
        let able = |version| can_check(version);
        assert!(able("5.3.0") && able("5.4.2") && able("6.0.0-dev") && able("10.0.0") && able("unknown"));
        assert!(!able("5.2.5") && !able("4.3.1") && !able("3.4.4"));
    }
}
