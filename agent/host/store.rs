//! The engine's image store. A pull is done long before its files are on the disk, and a power cut in between leaves
//! layers that podman takes for whole: files of no length under the right names, which the next pull would use
//! again. So a file tells from before a pull until the disk has it, and its twin in /run that the power never went.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::time::timeout;

use super::Host;
use super::transient::{Transient, run_transient};
use crate::model::image::PinnedImage;
use crate::model::name::{UNFLUSHED, UNFLUSHED_NOW};
use crate::model::observed::Engine;

/// A pull in which nothing moves for that long is stuck.
const PULL_STALLS: Duration = Duration::from_secs(60);
const PULL_TOTAL: Duration = Duration::from_secs(30 * 60);
const FLUSH: Duration = Duration::from_secs(300);
/// Every file of every layer is read.
const CHECK: Duration = Duration::from_secs(15 * 60);
const CHECK_STOPS: Duration = Duration::from_secs(60);
const CHECK_UNIT: &str = "astra-store-check.service";

impl Host {
    /// Fetch `image`, check that the engine knows it by that name and digest, and begin to flush it to disk.
    pub(super) async fn pull(&self, image: &PinnedImage) -> Result<Option<String>> {
        let mended = if self.store_is_suspect()? { Some(self.mend_store(image).await?) } else { None };
        for twin in [UNFLUSHED_NOW, UNFLUSHED] {
            self.files.write_atomic(Path::new(twin), b"", 0o600)?;
        }
        if let Err(error) = self.fetch(image).await {
            // Some layers may have come; where they cannot be flushed, the mark stays.
            let _ = self.flush_images().await;
            return Err(error);
        }
        let flush = self.begin_flush().await?;
        self.flush.replace(Some(flush));
        Ok(mended)
    }

    async fn fetch(&self, image: &PinnedImage) -> Result<()> {
        let engine = self.engine()?;
        let login = self.registry.credentials_for(&image.repository)?;
        let tell = |what: String| (self.detail)(&what);
        engine.pull(image, login.as_ref(), PULL_STALLS, PULL_TOTAL, tell).await?;
        if !engine.has_image(image).await? {
            bail!("verifying {image}: the engine pulled something, but does not know it by this digest");
        }
        Ok(())
    }

    /// The power went before what was pulled was on the disk.
    pub fn store_is_suspect(&self) -> Result<bool> {
        let is_there = |path| Ok::<_, anyhow::Error>(self.files.read(Path::new(path))?.is_some());
        Ok(is_there(UNFLUSHED)? && !is_there(UNFLUSHED_NOW)?)
    }

    /// Nothing in the store is used again that a power cut has damaged; tells what was done.
    async fn mend_store(&self, image: &PinnedImage) -> Result<String> {
        (self.detail)("checking the image store: the power went during a pull");
        let engine = self.engine()?;
        // Its layers go with it. One that is damaged may not even be removable; podman's check sees to that.
        let _ = engine.remove_image(&image.to_string()).await;
        let done = match engine.kind() {
            Engine::Podman => self.check_store().await.context("checking the image store")?,
            Engine::Docker => "what it had left was fetched again".to_owned(),
        };
        Ok(format!("the power had gone in an earlier pull: {done}"))
    }

    /// podman-system-check(1): reads every layer, and removes what is damaged and whatever is made of it.
    async fn check_store(&self) -> Result<String> {
        let argv = [Engine::Podman.client(), "system", "check", "--repair"].map(str::to_owned);
        let nowhere = File::options().write(true).open("/dev/null").context("opening /dev/null")?;
        let check = Transient {
            name: CHECK_UNIT,
            description: "check of podman's image store, after a power cut",
            argv: &argv,
            properties: "",
            env: &[],
            stdout: nowhere.as_fd(),
            stderr: nowhere.as_fd(),
            on_failure: "",
            success_exit: &[],
            stop_timeout: CHECK_STOPS,
        };
        let run = run_transient(&self.systemd, check).await?;
        let ended = timeout(CHECK, run.wait()).await;
        let exit = ended.with_context(|| format!("{CHECK_UNIT}: not done within {CHECK:?}"))??;
        Ok(match exit.code {
            Some(0) => "the image store was checked and mended".to_owned(),
            // podman before 5.3 has no such command.
            Some(code) => {
                format!("the image store could not be checked (podman system check: exit code {code})")
            }
            None => bail!("{CHECK_UNIT} was killed"),
        })
    }

    async fn begin_flush(&self) -> Result<tokio::task::JoinHandle<Result<()>>> {
        let store = self.engine()?.image_store_path().await?;
        let files = self.files.clone();
        Ok(tokio::task::spawn_blocking(move || files.sync_fs(&store)))
    }

    pub(super) async fn flush_images(&self) -> Result<()> {
        let begun = self.flush.take();
        let flush = match begun {
            Some(flush) => flush,
            // Pulled by a run that was cut off before it could wait for the disk.
            None => self.begin_flush().await?,
        };
        (self.detail)("waiting for the disk");
        timeout(FLUSH, flush)
            .await
            .with_context(|| format!("flushing the image store: not within {FLUSH:?}"))???;
        for twin in [UNFLUSHED, UNFLUSHED_NOW] {
            self.files.remove(Path::new(twin))?;
        }
        Ok(())
    }
}
