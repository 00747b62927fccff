//! Performs one step. Every wait has a deadline, and every failure says who is to blame.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};

use super::Host;
use super::logs::Start;
use crate::model::envfile::EnvFile;
use crate::model::exit::ExitCode;
use crate::model::name::{CADDY_UNIT, EnvKey, MIGRATE_UNIT};
use crate::model::outcome::Blame;
use crate::model::release::Candidate;
use crate::model::secret::Secret;
use crate::model::step::Step;
use crate::model::step_note::StepNote;

/// Limit for a systemd job that does not wait for the app.
const UNIT_JOB: Duration = Duration::from_secs(120);

impl Host {
    /// Performs `step`, and returns its note.
    ///
    /// # Errors
    /// The whole chain, with the operation that failed.
    pub async fn perform(&self, step: &Step) -> Result<StepNote> {
        let done: Result<Option<String>> = match step {
            Step::MakeDir { path, mode } => self.files.make_dir(path, *mode).map(|()| None),
            Step::WriteFile { path, mode, content } => {
                if let Some(dir) = path.parent()
                    && self.files.owner(dir)?.is_none()
                {
                    self.files.make_dir(dir, 0o755)?;
                }
                self.files.write_atomic(path, content.bytes(), *mode).map(|()| None)
            }
            Step::BackupFile { path } => self.backup_file(path).map(|()| None),
            Step::RemoveFile { path } => {
                self.files.remove(path)?;
                self.leave_markers().map(|()| None)
            }
            Step::DaemonReload => self.systemd.reload().await.map(|()| None),
            Step::EnableUnits { units } => {
                self.systemd.enable(&refs(units)).await?;
                // Without a reload systemd still considers them disabled, and starts nothing new.
                self.systemd.reload().await.map(|()| None)
            }
            Step::DisableUnits { units } => self.systemd.disable(&refs(units)).await.map(|()| None),
            Step::StartUnit { unit } => self.start_unit(unit).await.map(|()| None),
            Step::RestartUnit { unit } => Ok(self.systemd.restart(unit, UNIT_JOB).await.map(|()| None)?),
            Step::StopUnit { unit } => {
                self.systemd.stop(unit, UNIT_JOB).await?;
                self.systemd.reset_failed(unit).await.map(|()| None)
            }
            Step::LoadCaddy { content, in_use } => {
                self.load_caddy(content.bytes(), *in_use).await.map(|()| None)
            }
            Step::SwitchCaddyImage { env, .. } => self.switch_caddy_image(env).await.map(|()| None),
            Step::Pull { image } => self.pull(image).await,
            Step::Migrate { timeout, .. } => self.migrate(*timeout).await,
            Step::WriteTrialEnv { content } => {
                let path = Path::new(crate::model::name::TRIAL_ENV);
                self.files.write_atomic(path, content.bytes(), 0o600).map(|()| None)
            }
            Step::Drain { instance, limits, .. } => return self.drain(instance, limits).await,
            Step::StartTrial { instance, candidate, stop, timeout, .. } => {
                self.start_trial(instance, &candidate.lines, *stop, *timeout).await
            }
            Step::RestoreCommitted { instance, stop, timeout } => {
                self.restore_committed(instance, *stop, *timeout).await
            }
            Step::AwaitReady { instance, probe } => self.await_ready(instance, probe).await,
            Step::Soak { instances, time, probe } => self.soak(instances, *time, probe).await,
            Step::Undrain { instance, probe, .. } => self.undrain(instance, probe).await,
            Step::StopInstance { instance, stop } => self.stop_instance(instance, *stop).await,
            Step::FlushImages => self.flush_images().await.map(|()| None),
            Step::Commit { file, candidate, env, .. } => self.commit(file, candidate, env).map(|()| None),
            Step::RemoveContainer { container } => {
                self.engine()?.remove_container(&container.id).await.map(|()| None)
            }
            Step::RemoveImage { image } => {
                self.engine()?.remove_image(&image.to_string()).await.map(|()| None)
            }
        };
        done.map(StepNote::from)
    }

    pub(super) fn engine(&self) -> Result<&super::engine::EngineClient> {
        self.engine.as_ref().context("the container engine does not answer")
    }

    /// If Caddy does not start, the error has Caddy's message: usually the Caddyfile is invalid.
    async fn start_unit(&self, unit: &str) -> Result<()> {
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
        let error = self.last_words(unit, Some("astra-caddy")).await.explain(error);
        Err(anyhow!("{error:#}\n  hint: when it is the Caddyfile, look at [caddy] in agent.toml"))
    }

    /// A start that is under way, or that systemd will retry, may have begun before the cause of its failure
    /// was removed; a start here would join it and share its result.
    async fn start_caddy(&self) -> Result<()> {
        let seen = self.systemd.unit(CADDY_UNIT).await?;
        if seen.is_up() && !seen.is_active() {
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

    /// Runs the migration unit to its end. One left by a cut-off run is stopped first: two must never run at
    /// once.
    async fn migrate(&self, deadline: Duration) -> Result<Option<String>> {
        let begun = tokio::time::Instant::now();
        while self.systemd.unit(MIGRATE_UNIT).await?.is_up() {
            if begun.elapsed() > deadline {
                return Err(anyhow!("not within {deadline:?}")
                    .context(HostFault("waiting for an earlier migration to end")));
            }
            (self.detail)("waiting for an earlier migration to end");
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(200)) => {}
                signal = self.signals.wait() => bail!("waiting for an earlier migration to end: stopped by {signal}"),
            }
        }
        self.start.replace(Start::now(""));
        let ended = tokio::select! {
            ended = self.systemd.start(MIGRATE_UNIT, deadline) => ended,
            signal = self.signals.wait() => {
                self.systemd.stop(MIGRATE_UNIT, UNIT_JOB).await?;
                // A killed one would leave the host degraded.
                let _ = self.systemd.reset_failed(MIGRATE_UNIT).await;
                bail!("migrating: stopped by {signal}");
            }
        };
        match ended {
            Ok(()) => Ok(None),
            Err(error) => {
                let unit = self.systemd.unit(MIGRATE_UNIT).await.unwrap_or_default();
                let said = self.last_words(MIGRATE_UNIT, None).await;
                // A migration that still runs would overlap with the next attempt.
                let _ = self.systemd.stop(MIGRATE_UNIT, UNIT_JOB).await;
                let code = unit.exit_code.map(ExitCode);
                let ended = match (code, unit.killed_by()) {
                    // The unit's result would repeat this.
                    (Some(code), None) => format!("the migration ended with code {code}"),
                    (_, Some(signal)) => format!("its engine was killed (signal {signal})"),
                    (None, None) => format!("the migration ended: {:#}", anyhow::Error::new(error)),
                };
                let fault = match code {
                    // A migration that never ran, or had no time to run, is not to blame.
                    _ if unit.killed_by().is_some() => Some(HostFault("the engine itself failed")),
                    Some(ExitCode::ENGINE) => Some(HostFault("the engine itself failed")),
                    Some(code) if code.is_limit(&said.engine) => Some(NO_LIMIT),
                    _ => None,
                };
                let error = said.explain(anyhow!("migrating: {ended}"));
                Err(match fault {
                    Some(fault) => error.context(fault),
                    None => error,
                })
            }
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
        let written = self.files.write_atomic(file, &bytes, 0o600);
        // After an error past the rename (a directory that cannot be flushed) the new file is in force.
        match self.files.read(file) {
            Ok(Some(seen)) if seen.bytes == bytes => Ok(()),
            _ => written.with_context(|| format!("committing {}", file.display())),
        }
    }
}

/// The blame when `step` fails: the release where its own code runs, the host everywhere else.
pub fn blame(step: &Step, error: &anyhow::Error) -> Blame {
    let chance = matches!(
        step,
        Step::Migrate { .. } | Step::StartTrial { .. } | Step::AwaitReady { .. } | Step::Soak { .. }
    );
    let host = error.is::<HostFault>()
        || error.chain().any(|cause| cause.is::<zbus::Error>() || cause.is::<std::io::Error>());
    if chance && !host { Blame::Release } else { Blame::Host }
}

/// Error context: the state of Caddy's open requests is unknown.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("Caddy runs, but hangs (`systemctl restart astra-caddy` ends that)")]
pub struct CaddyHangs;

/// Error context: not the release's fault, although one of its steps failed.
#[derive(Clone, Copy, Debug)]
pub(super) struct HostFault(pub &'static str);

/// The host's kernel lacks this control group controller, or it is not delegated.
pub(super) const NO_LIMIT: HostFault =
    HostFault("this host cannot set a limit that the config asks for ([app] memory, cpus)");

impl std::fmt::Display for HostFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

fn refs(units: &[String]) -> Vec<&str> {
    units.iter().map(String::as_str).collect()
}
