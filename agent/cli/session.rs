//! What every verb begins with: the config, the journal, the host's key, the foreman.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::{Context, Result, anyhow};

use crate::config::{self, Config};
use crate::converge::{Foreman, Refused, Watch};
use crate::host::engine::EngineClient;
use crate::host::files::Files;
use crate::host::signals::Signals;
use crate::host::{Endpoints, Host, facts};
use crate::journal::Journal;
use crate::model::envfile::EnvFile;
use crate::model::fingerprint::HostKey;
use crate::model::name::{ETC, HOST_KEY, JOURNAL_DIR, RUN, STATE};
use crate::model::observed::Engine;
use crate::model::outcome::EXIT_USAGE;
use crate::model::staged::Staged;

/// The host as this process meets it.
pub struct Session {
    pub config: Config,
    pub journal: Journal,
    pub host: Host,
    pub key: HostKey,
    pub engine: Engine,
}

/// agent.toml and its fragments; every error at once, exit code 2.
pub fn config() -> Result<Config, Refused> {
    config::load(Path::new("/")).map_err(wrong_config)
}

pub fn wrong_config(errors: config::ConfigErrors) -> Refused {
    Refused { exit_code: EXIT_USAGE, error: anyhow!("{errors}") }
}

/// astra.env, and what `env set` and `env unset` have asked for since; empty where there is none.
pub fn env_files(config: &Config) -> Result<(EnvFile, Staged), Refused> {
    let files = Files::new(Path::new("/"));
    let read = |path: PathBuf| anyhow::Ok(files.read(&path)?.map(|seen| seen.bytes).unwrap_or_default());
    let (current, staged) = (read(config.app.name.env_file())?, read(config.app.name.staged_env())?);
    Ok((EnvFile::parse(current), Staged::parse(&staged)))
}

/// Only root may see the env file, the engine's socket and systemd's jobs.
pub fn root() -> Result<(), Refused> {
    if nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    let error = anyhow!("this needs root\n  hint: run it with sudo");
    Err(Refused { exit_code: 1, error })
}

impl Session {
    /// Connect, and make the few directories that everything else stands on.
    pub async fn open(detail: Rc<dyn Fn(&str)>, signals: Signals) -> Result<Self, Refused> {
        root()?;
        let config = config()?;
        directories()?;
        let engine = engine_of(&config);
        let endpoints = Endpoints { root: "/".into(), engine };
        let host = Host::connect(&endpoints, signals, Box::new(move |text| detail(text))).await?;
        let key = key(&host.files)?;
        let engine = engine.or(host.engine.as_ref().map(EngineClient::kind)).unwrap_or(Engine::Podman);
        Ok(Self { config, journal: Journal::at(JOURNAL_DIR), host, key, engine })
    }

    /// As `open`, and nothing is made or mended: for who wants to see the host as it is.
    pub async fn inspect(detail: Rc<dyn Fn(&str)>) -> Result<Self, Refused> {
        root()?;
        let config = config()?;
        let engine = engine_of(&config);
        let endpoints = Endpoints { root: "/".into(), engine };
        let host = Host::connect(&endpoints, Signals::none(), Box::new(move |text| detail(text))).await?;
        let seen = host.files.read(Path::new(HOST_KEY)).ok().flatten();
        let key = HostKey::new(seen.and_then(|seen| seen.bytes.try_into().ok()).unwrap_or_default());
        let engine = engine.or(host.engine.as_ref().map(EngineClient::kind)).unwrap_or(Engine::Podman);
        Ok(Self { config, journal: Journal::at(JOURNAL_DIR), host, key, engine })
    }

    pub fn foreman(&self, watch: Watch) -> Result<Foreman<'_>> {
        Ok(Foreman {
            host: &self.host,
            config: &self.config,
            journal: &self.journal,
            key: self.key.clone(),
            engine: self.engine,
            agent: binary()?,
            watch,
        })
    }
}

/// The engine of the config, or that which the instances' unit was written for: with `auto` a host stays with what
/// it has, also while that engine is down.
pub fn engine_of(config: &Config) -> Option<Engine> {
    let path = crate::model::name::unit_file(&config.app.name.template());
    let written = || {
        let seen = Files::new(Path::new("/")).read(&path).ok().flatten()?;
        let text = String::from_utf8_lossy(&seen.bytes).into_owned();
        [Engine::Podman, Engine::Docker].into_iter().find(|e| {
            text.lines().any(|l| l.starts_with("ExecStart") && l.contains(&format!("{} run ", e.client())))
        })
    };
    config.app.engine.or_else(written)
}

/// Absolute path of this binary.
pub fn binary() -> Result<String> {
    let path = std::env::current_exe().context("finding this binary")?;
    path.to_str().map(str::to_owned).with_context(|| format!("{} is not UTF-8", path.display()))
}

/// The directories that everything else stands on; made before the sandbox, which must find them.
pub fn directories() -> Result<()> {
    let files = Files::new(Path::new("/"));
    for (dir, mode) in [(ETC, 0o700), (STATE, 0o700), (RUN, 0o755)] {
        files.make_dir(Path::new(dir), mode)?;
    }
    Ok(())
}

/// Whether a run could keep what it does: root may write everywhere, but for a file system that went read-only.
pub fn writable() -> Result<()> {
    for dir in [ETC, STATE, RUN] {
        nix::unistd::access(dir, nix::unistd::AccessFlags::W_OK).map_err(|error| {
            let hint =
                "the kernel makes a damaged disk read-only: look at `dmesg`, then `mount -o remount,rw`";
            anyhow!("writing in {dir}: {}\n  hint: {hint}", error.desc())
        })?;
    }
    Ok(())
}

/// The host's key; made at the first call.
fn key(files: &Files) -> Result<HostKey> {
    let path = Path::new(HOST_KEY);
    if let Some(seen) = files.read(path)? {
        let bytes: [u8; 32] =
            seen.bytes.try_into().map_err(|_| anyhow!("{HOST_KEY} does not hold 32 bytes"))?;
        return Ok(HostKey::new(bytes));
    }
    let bytes = facts::random::<32>()?;
    files.write_atomic(path, &bytes, 0o600)?;
    Ok(HostKey::new(bytes))
}
