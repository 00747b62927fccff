//! Performs one step. Every wait has a deadline, and every failure says who is to blame.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use super::Host;
use super::logs::Start;
use crate::model::envfile::EnvFile;
use crate::model::name::TRIAL_ENV;
use crate::model::name::{CADDY_UNIT, EnvKey};
use crate::model::problem::Problem;
use crate::model::release::Candidate;
use crate::model::secret::Secret;
use crate::model::step::Step;
use crate::model::step_error::StepError;
use crate::model::step_note::StepNote;
use crate::model::unit::ActiveState;

/// Limit for a systemd job that does not wait for the app.
pub(super) const UNIT_JOB: Duration = Duration::from_secs(120);

impl Host {
    /// Performs `step`, and returns its note.
    ///
    /// # Errors
    /// Why it failed, and who is to blame.
    pub async fn perform(&self, step: &Step) -> Result<StepNote, StepError> {
        match step {
            Step::MakeDir { path, mode } => self.files.make_dir(path, *mode)?,
            Step::WriteFile { path, mode, content } | Step::WriteOwnFile { path, mode, content } => {
                if let Some(dir) = path.parent()
                    && self.files.owner(dir)?.is_none()
                {
                    self.files.make_dir(dir, 0o755)?;
                }
                self.files.write_atomic(path, content.bytes(), *mode)?;
            }
            Step::BackupFile { path } => self.backup_file(path)?,
            Step::RemoveFile { path } => {
                self.files.remove(path)?;
                self.leave_markers()?;
            }
            Step::DaemonReload => self.systemd.reload().await?,
            // Until a reload systemd considers new units disabled and starts none; 252 reports old ones as enabled.
            Step::EnableUnits { units } => {
                self.systemd.enable(&refs(units)).await?;
                self.systemd.reload().await?;
            }
            Step::DisableUnits { units } => self.disable(units).await?,
            Step::StartUnit { unit } => self.start_unit(unit).await?,
            Step::RestartUnit { unit } => self.systemd.restart(unit, UNIT_JOB).await?,
            Step::StopUnit { unit } => {
                self.systemd.stop(unit, UNIT_JOB).await?;
                self.systemd.reset_failed(unit).await?;
            }
            Step::LoadCaddy { content, in_use } => self.load_caddy(content.bytes(), *in_use).await?,
            Step::SwitchCaddyImage { env, .. } => self.switch_caddy_image(env).await?,
            Step::MakeNetwork { name } => self.engine()?.make_network(name).await?,
            Step::Pin { file, content, .. } => self.put_truth(file, content.bytes())?,
            Step::Pull { image } => return Ok(self.pull(image).await?.into()),
            Step::Migrate { service, unit, others, timeout, longest, .. } => {
                self.await_earlier_migrations(unit, others, *longest).await?;
                self.migrate(*service, unit, *timeout).await?;
            }
            Step::WriteTrialEnv { content } => {
                self.files.write_atomic(Path::new(TRIAL_ENV), content.bytes(), 0o600)?;
            }
            Step::Drain { instance, limits, .. } => return Ok(self.drain(instance, limits).await?),
            Step::StartTrial { instance, candidate, stop, timeout, .. } => {
                self.start_trial(instance, &candidate.lines, *stop, *timeout).await?;
            }
            Step::RestoreCommitted { instance, stop, timeout } => {
                self.restore_committed(instance, *stop, *timeout).await?;
            }
            Step::AwaitReady { instance, probe } => return self.await_ready(instance, probe).await,
            Step::Soak { instances, time, limits } => return self.soak(instances, *time, *limits).await,
            Step::Undrain { instance, probe, .. } => return Ok(self.undrain(instance, probe).await?.into()),
            Step::StopInstance { instance, stop } => self.stop_instance(instance, *stop).await?,
            Step::FlushImages => self.flush_images().await?,
            Step::Commit { file, candidate, env, .. } => self.commit(file, candidate, env)?,
            Step::RemoveContainer { container } => self.engine()?.remove_container(&container.id).await?,
            Step::RemoveImage { image } => self.engine()?.remove_image(&image.to_string()).await?,
        }
        Ok(StepNote::default())
    }

    pub(super) fn engine(&self) -> Result<&super::engine::EngineClient> {
        self.engine.as_ref().context("the container engine does not answer")
    }

    /// If Caddy does not start, the error has Caddy's message: usually the Caddyfile is invalid.
    async fn start_unit(&self, unit: &str) -> Result<(), StepError> {
        self.start.replace(Start::now(""));
        if unit != CADDY_UNIT {
            return Ok(self.systemd.start(unit, UNIT_JOB).await?);
        }
        // The next snapshot asks for the running version, so Caddy must answer by then.
        let answers = match self.start_caddy().await {
            Ok(()) => self.await_caddy().await.with_context(|| format!("starting {unit}")),
            Err(error) => Err(error),
        };
        let Err(error) = answers else { return Ok(()) };
        let said = self.last_words(unit, Some("astra-caddy")).await;
        let fix = "if Caddy's log lines name the Caddyfile, look at [caddy] in agent.toml";
        Err(StepError::host(Problem::host("caddy", format!("{error:#}"), fix)).with_log(said.lines))
    }

    /// A start that is under way, or that systemd will retry, may have begun before the cause of its failure
    /// was removed; a start here would join it and share its result.
    async fn start_caddy(&self) -> Result<()> {
        let seen = self.systemd.unit(CADDY_UNIT).await?;
        if matches!(seen.active, ActiveState::Activating | ActiveState::Deactivating) {
            self.systemd.stop(CADDY_UNIT, UNIT_JOB).await?;
        }
        Ok(self.systemd.start(CADDY_UNIT, UNIT_JOB).await?)
    }

    /// Only the first copy is the hand-made file; a later one would be the agent's.
    fn backup_file(&self, path: &Path) -> Result<()> {
        let mut name = path.as_os_str().to_owned();
        name.push(".before-astra");
        let copy = std::path::PathBuf::from(name);
        if self.files.read(&copy)?.is_some() {
            return Ok(());
        }
        match self.files.read(path)? {
            Some(seen) => self.files.write_atomic(&copy, &seen.bytes, seen.mode),
            None => Ok(()),
        }
    }

    /// The commit point. The file is read again, so that manual edits made meanwhile are kept.
    fn commit(
        &self,
        file: &Path,
        candidate: &Candidate,
        env: &BTreeMap<EnvKey, Option<Secret>>,
    ) -> Result<()> {
        let mut now = match self.files.read(file)? {
            Some(seen) => EnvFile::parse(&seen.bytes),
            None => EnvFile::default(),
        };
        for (key, value) in env {
            match value {
                Some(value) => now.set(key.as_str(), value).with_context(|| format!("setting {key}"))?,
                None => _ = now.remove(key.as_str()),
            }
        }
        let bytes = now.with_managed(&candidate.lines).context("rendering the managed lines")?.render();
        self.put_truth(file, &bytes)
    }

    /// Renames the file that says what is committed.
    fn put_truth(&self, file: &Path, bytes: &[u8]) -> Result<()> {
        let written = self.files.write_atomic(file, bytes, 0o600);
        // After an error past the rename (a directory that cannot be flushed) the new file is in force.
        match self.files.read(file) {
            Ok(Some(seen)) if seen.bytes == bytes => Ok(()),
            _ => written.with_context(|| format!("committing {}", file.display())),
        }
    }

    async fn disable(&self, units: &[String]) -> Result<()> {
        self.systemd.disable(&refs(units)).await?;
        self.systemd.reload().await
    }
}

/// Error context: the state of Caddy's open requests is unknown.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("Caddy runs, but hangs (`systemctl restart astra-caddy` ends that)")]
pub struct CaddyHangs;

fn refs(units: &[String]) -> Vec<&str> {
    units.iter().map(String::as_str).collect()
}
