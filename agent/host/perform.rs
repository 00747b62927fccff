//! Carries out one step. Every wait in here has a deadline, and every failure says who is to blame.

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
use crate::model::told::Told;

/// One act of systemd that waits for nothing of the app's.
const UNIT_JOB: Duration = Duration::from_secs(120);

impl Host {
    /// Do `step`, and tell what it found.
    ///
    /// # Errors
    /// The whole chain, with what was being done.
    pub async fn perform(&self, step: &Step) -> Result<Told> {
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
            Step::KeepBefore { path } => self.keep_before(path).map(|()| None),
            Step::RemoveFile { path } => {
                self.files.remove(path)?;
                self.leave_markers().map(|()| None)
            }
            Step::ReloadUnits => self.systemd.reload().await.map(|()| None),
            Step::EnableUnits { units } => {
                self.systemd.enable(&refs(units)).await?;
                // Without it systemd goes on telling that they are disabled, and wants nothing new.
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
            Step::UseCaddy { env, .. } => self.use_caddy(env).await.map(|()| None),
            Step::Pull { image } => self.pull(image).await,
            Step::Migrate { timeout, .. } => self.migrate(*timeout).await,
            Step::WriteTrialEnv { content } => {
                let path = Path::new(crate::model::name::TRIAL_ENV);
                self.files.write_atomic(path, content.bytes(), 0o600).map(|()| None)
            }
            Step::Drain { instance, limits, .. } => return self.drain(instance, limits).await,
            Step::Try { instance, candidate, stop, timeout, .. } => {
                self.try_release(instance, &candidate.lines, *stop, *timeout).await
            }
            Step::Return { instance, stop, timeout } => {
                self.return_to_committed(instance, *stop, *timeout).await
            }
            Step::AwaitReady { instance, probe } => self.await_ready(instance, probe).await,
            Step::Soak { instances, time, probe } => self.soak(instances, *time, probe).await,
            Step::Rejoin { instance, probe, .. } => self.rejoin(instance, probe).await,
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
        done.map(Told::from)
    }

    pub(super) fn engine(&self) -> Result<&super::engine::EngineClient> {
        self.engine.as_ref().context("the container engine does not answer")
    }

    /// Of Caddy, its own words when it does not start: mostly the Caddyfile is what it does not like.
    async fn start_unit(&self, unit: &str) -> Result<()> {
        self.start.replace(Start::now(""));
        if unit != CADDY_UNIT {
            return Ok(self.systemd.start(unit, UNIT_JOB).await?);
        }
        // The next look is for the version that runs: it has to answer by then.
        let answers = match self.start_caddy().await {
            Ok(()) => self.await_caddy().await.with_context(|| format!("starting {unit}")),
            Err(error) => Err(error),
        };
        let Err(error) = answers else { return Ok(()) };
        let error = self.last_words(unit, Some("astra-caddy")).await.explain(error);
        Err(anyhow!("{error:#}\n  hint: when it is the Caddyfile, look at [caddy] in agent.toml"))
    }

    /// A start of Caddy that systemd retries began before its cause was removed: a mere start would join it.
    async fn start_caddy(&self) -> Result<()> {
        if self.systemd.unit(CADDY_UNIT).await?.sub.starts_with("auto-restart") {
            self.systemd.stop(CADDY_UNIT, UNIT_JOB).await?;
        }
        Ok(self.systemd.start(CADDY_UNIT, UNIT_JOB).await?)
    }

    /// The first copy is the hand-made one; a later one would only be ours.
    fn keep_before(&self, path: &Path) -> Result<()> {
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

    /// Run the migration unit to its end. One that a cut-off run left behind ends first: never two at once.
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
                // One that had to be killed would leave the host degraded.
                let _ = self.systemd.reset_failed(MIGRATE_UNIT).await;
                bail!("migrating: stopped by {signal}");
            }
        };
        match ended {
            Ok(()) => Ok(None),
            Err(error) => {
                let unit = self.systemd.unit(MIGRATE_UNIT).await.unwrap_or_default();
                let said = self.last_words(MIGRATE_UNIT, None).await;
                // What still runs would meet the next attempt.
                let _ = self.systemd.stop(MIGRATE_UNIT, UNIT_JOB).await;
                let code = unit.exit_code.map(ExitCode);
                let ended = match (code, unit.killed_by()) {
                    // The unit's result says the same again.
                    (Some(code), None) => format!("the migration ended with code {code}"),
                    (_, Some(signal)) => format!("its engine was killed (signal {signal})"),
                    (None, None) => format!("the migration ended: {:#}", anyhow::Error::new(error)),
                };
                let fault = match code {
                    // What never ran, or was not given the time to, is not to blame.
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

    /// The commit point. The file is read again, so that what a person wrote meanwhile survives.
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
        // An error past the rename (a directory that cannot be flushed) leaves the new file in force.
        match self.files.read(file) {
            Ok(Some(seen)) if seen.bytes == bytes => Ok(()),
            _ => written.with_context(|| format!("committing {}", file.display())),
        }
    }
}

/// Who is to blame when `step` fails: the release where it had its chance, the host everywhere else.
pub fn blame(step: &Step, error: &anyhow::Error) -> Blame {
    let chance =
        matches!(step, Step::Migrate { .. } | Step::Try { .. } | Step::AwaitReady { .. } | Step::Soak { .. });
    let host = error.is::<HostFault>()
        || error.chain().any(|cause| cause.is::<zbus::Error>() || cause.is::<std::io::Error>());
    if chance && !host { Blame::Release } else { Blame::Host }
}

/// Context of an error: what Caddy does with the requests it holds cannot be known.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("Caddy runs, but hangs (`systemctl restart astra-caddy` ends that)")]
pub struct CaddyHangs;

/// Context of an error that is no fault of the release, although it met the release's step.
#[derive(Clone, Copy, Debug)]
pub(super) struct HostFault(pub &'static str);

/// The kernel of this host has no such control group controller, or does not hand it on.
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
