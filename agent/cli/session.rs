//! Common start of every verb: config, journal, host key, engine.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::{Result, anyhow};

use super::engine::{Choice, preferred};
use crate::config::{self, Config, ConfigErrors};
use crate::converge::{Reconciler, Refused, Watch};
use crate::host::engine::EngineClient;
use crate::host::files::Files;
use crate::host::lock::Lock;
use crate::host::signals::Signals;
use crate::host::{Endpoints, Host, binary, facts};
use crate::journal::Journal;
use crate::model::entry::Verb;
use crate::model::envfile::EnvFile;
use crate::model::fingerprint::HostKey;
use crate::model::name::{ETC, HOST_KEY, JOURNAL_DIR, LAST_CONFIG, RUN, STATE};
use crate::model::problem::{Cause, Problem};
use crate::model::staged::Staged;
use crate::plan::policy::VerbPolicy;

/// Stands in for the key of a host without one: such a host has no releases to tell apart.
const NO_KEY: [u8; 32] = [0; 32];

/// The open connections and files of this process.
pub struct Session {
    pub config: Config,
    pub journal: Journal,
    pub host: Host,
    pub key: HostKey,
    pub engine: Choice,
}

/// Reads agent.toml and its fragments; reports all errors together, with exit code 2.
pub fn config() -> Result<Config, Refused> {
    config::load(Path::new("/")).map_err(wrong_config)
}

pub fn wrong_config(errors: ConfigErrors) -> Refused {
    Refused::of(Cause::Config, errors)
}

/// The config for `verb`. A rollback also works while agent.toml is invalid: it uses the last valid config,
/// and a text that says so is returned.
pub fn config_for(verb: Verb) -> Result<(Config, Option<String>), Refused> {
    if !VerbPolicy::of(verb).takes_last_config {
        return Ok((config()?, None));
    }
    let (config, errors) = config_or_last()?;
    let text =
        |errors| format!("using the last valid config, because the present one is not valid:\n{errors}");
    Ok((config, errors.map(text)))
}

/// The config; while agent.toml is invalid the last valid one, and the errors.
pub fn config_or_last() -> Result<(Config, Option<ConfigErrors>), Refused> {
    match config::load(Path::new("/")) {
        Ok(config) => Ok((config, None)),
        Err(errors) => match last_config(&Files::new(Path::new("/"))) {
            Some(config) => Ok((config, Some(errors))),
            None => Err(wrong_config(errors)),
        },
    }
}

fn last_config(files: &Files) -> Option<Config> {
    let seen = files.read(Path::new(LAST_CONFIG)).ok().flatten()?;
    config::parse(&serde_json::from_slice::<Vec<(PathBuf, String)>>(&seen.bytes).ok()?).ok()
}

/// Keeps the texts of a valid config for a rollback. They may hold secrets. Failing to write them stops no
/// run.
pub fn keep_config(files: &Files) {
    let Ok(texts) = config::texts(Path::new("/")) else { return };
    let Ok(bytes) = serde_json::to_vec(&texts) else { return };
    let path = Path::new(LAST_CONFIG);
    let is_kept = files.read(path).ok().flatten().is_some_and(|seen| seen.bytes == bytes);
    if !is_kept && config::parse(&texts).is_ok() {
        let _ = files.write_atomic(path, &bytes, 0o600);
    }
}

/// astra.env, and the staged changes; empty if there are none.
pub fn env_files(config: &Config) -> Result<(EnvFile, Staged), Refused> {
    let files = Files::new(Path::new("/"));
    let read = |path: PathBuf| anyhow::Ok(files.read(&path)?.map(|seen| seen.bytes).unwrap_or_default());
    let (current, staged) = (read(config.name.env_file())?, read(config.name.staged_env())?);
    Ok((EnvFile::parse(current), Staged::parse(&staged)))
}

/// Only root may read the env file and use the engine's socket and systemd's jobs.
pub fn root() -> Result<(), Refused> {
    if nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    Err(Problem::host("root", "this needs root", "run it with sudo").into())
}

impl Session {
    /// Connects, and creates the agent's base directories.
    pub async fn open(detail: Rc<dyn Fn(&str)>, signals: Signals) -> Result<Self, Refused> {
        root()?;
        Self::open_with(config()?, detail, signals).await
    }

    pub async fn open_with(
        config: Config,
        detail: Rc<dyn Fn(&str)>,
        signals: Signals,
    ) -> Result<Self, Refused> {
        directories()?;
        let mut session = Self::connect(config, detail, signals).await?;
        session.key = HostKey::new(key(&session.host.files)?.unwrap_or(NO_KEY));
        Ok(session)
    }

    /// Like `open_with`, but creates nothing: for read-only verbs.
    pub async fn inspect(config: Config, detail: Rc<dyn Fn(&str)>) -> Result<Self, Refused> {
        let mut session = Self::connect(config, detail, Signals::none()).await?;
        session.key = HostKey::new(key(&session.host.files).ok().flatten().unwrap_or(NO_KEY));
        Ok(session)
    }

    async fn connect(config: Config, detail: Rc<dyn Fn(&str)>, signals: Signals) -> Result<Self, Refused> {
        let aws = config.aws.endpoint.clone();
        let endpoints = Endpoints { engine: preferred(&config), aws, ..Endpoints::default() };
        let host = Host::connect(&endpoints, signals, Box::new(move |text| detail(text))).await?;
        let engine = Choice::of(&config, host.engine.as_ref().map(EngineClient::kind));
        Ok(Self { config, journal: Journal::at(JOURNAL_DIR), host, key: HostKey::new(NO_KEY), engine })
    }

    /// Creates the host key if it is missing. Requires the lock: two runs that each create a key would not
    /// recognise each other's releases.
    pub fn make_key(&mut self, _: &Lock) -> Result<()> {
        let key = match key(&self.host.files)? {
            Some(key) => key,
            None => {
                let key = facts::random::<32>()?;
                self.host.files.write_atomic(Path::new(HOST_KEY), &key, 0o600)?;
                key
            }
        };
        self.key = HostKey::new(key);
        Ok(())
    }

    pub fn reconciler(&self, watch: Watch) -> Result<Reconciler<'_>> {
        Ok(Reconciler {
            host: &self.host,
            config: &self.config,
            journal: &self.journal,
            key: self.key.clone(),
            engine: self.engine.engine,
            agent: binary::path()?,
            watch,
        })
    }
}

/// Creates the base directories. Runs before the sandbox, which needs them to exist.
pub fn directories() -> Result<()> {
    let files = Files::new(Path::new("/"));
    for (dir, mode) in [(ETC, 0o700), (STATE, 0o700), (RUN, 0o755)] {
        files.make_dir(Path::new(dir), mode)?;
    }
    Ok(())
}

/// Whether the state directory is writable: for root it is, unless the file system became read-only.
pub fn writable() -> Result<()> {
    for dir in [ETC, STATE, RUN] {
        nix::unistd::access(dir, nix::unistd::AccessFlags::W_OK).map_err(|error| {
            let fix =
                "the kernel makes a damaged disk read-only: look at `dmesg`, then `mount -o remount,rw`";
            Problem::host("read_only", format!("writing in {dir}: {}", error.desc()), fix)
        })?;
    }
    Ok(())
}

fn key(files: &Files) -> Result<Option<[u8; 32]>> {
    let Some(seen) = files.read(Path::new(HOST_KEY))? else { return Ok(None) };
    let bytes = seen.bytes.try_into();
    bytes.map(Some).map_err(|_| anyhow!("{HOST_KEY} does not hold 32 bytes"))
}
