//! The lines of astra.env that only the agent writes: which release is committed, and what defines the container of
//! each service.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::systemd::{self, Comments};
use super::{EnvError, EnvFile, is_placeholder};
use crate::model::image::PinnedImage;
use crate::model::instance::ServiceName;
use crate::model::name::{EnvKey, FILES_DIR, TRIAL_ENV};

/// The managed lines that every env file has, or may have. They have no meaning to the application.
pub const MANAGED_KEYS: [&str; 8] =
    ["APP_IMAGE", RELEASE, "APP_ARGS", "APP_COMMAND", "ASTRA_APP_PORT", KEYS, SERVICES, "ASTRA_APP_RELEASE"];
const RELEASE: &str = "ASTRA_RELEASE";
const KEYS: &str = "ASTRA_CONFIG_KEYS";
const SERVICES: &str = "ASTRA_SERVICES";

/// The lines of astra.env that name the committed release and define its containers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManagedLines {
    /// `ASTRA_RELEASE`
    pub release: u64,
    /// The service of `[app]`; in JSON its fields stand beside `release`.
    #[serde(flatten)]
    pub app: ServiceLines,
    /// `ASTRA_SERVICES`, and the lines of each.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub services: BTreeMap<ServiceName, ServiceLines>,
    /// `ASTRA_CONFIG_KEYS`: the variables that come from `[env]`. One removed from `[env]` is removed from
    /// the file by the next deploy; any other line belongs to the user.
    #[serde(default)]
    pub keys: BTreeSet<EnvKey>,
}

/// The lines of one service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceLines {
    /// `APP_IMAGE`
    pub image: PinnedImage,
    /// `APP_ARGS`: arguments of `podman run` or `docker run`, without the image.
    pub args: Vec<String>,
    /// `APP_COMMAND`: the container's argv; empty means the image's own.
    pub command: Vec<String>,
    /// `ASTRA_APP_PORT`: the port in its container; `None`: a worker or an accessory.
    #[serde(default = "usual_port")]
    pub port: Option<u16>,
    /// `ASTRA_APP_RELEASE`: its containers are unchanged since this release. `None`: since the committed one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<u64>,
    /// `ASTRA_WORKER_ENV`: the env file of its container, below [`FILES_DIR`]. `None`: astra.env, as for the app.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env: Option<PathBuf>,
}

/// The units' default port.
#[allow(clippy::unnecessary_wraps, reason = "serde calls it")]
fn usual_port() -> Option<u16> {
    Some(8000)
}

/// `ASTRA_APP_PORT` of an accessory, whose own file has it as the first service.
const NO_PORT: &str = "none";

/// The names of a service's lines.
struct Names {
    image: String,
    args: String,
    command: String,
    port: String,
    since: String,
    env: String,
}

impl Names {
    fn of(service: ServiceName) -> Self {
        let name = service.variables();
        Self {
            image: format!("{name}_IMAGE"),
            args: format!("{name}_ARGS"),
            command: format!("{name}_COMMAND"),
            port: format!("ASTRA_{name}_PORT"),
            since: format!("ASTRA_{name}_RELEASE"),
            env: if service.is_app() { "ASTRA_ENV".to_owned() } else { format!("ASTRA_{name}_ENV") },
        }
    }
}

/// The names of the lines of `service`: image, arguments, command, port, release and env file. The last is no line of
/// the app, but a variable of its unit.
pub fn service_keys(service: ServiceName) -> [String; 6] {
    let Names { image, args, command, port, since, env } = Names::of(service);
    [image, args, command, port, since, env]
}

impl ServiceLines {
    /// Whether both start the same container, given the same environment.
    pub fn starts_as(&self, other: &Self) -> bool {
        Self { since: other.since, ..self.clone() } == *other
    }
}

impl ManagedLines {
    /// Whether both start the same containers.
    pub fn runs_as(&self, other: &Self) -> bool {
        Self { keys: other.keys.clone(), ..self.clone() } == *other
    }

    /// The same with the release and the env file of each service written out: for a trial file, which overrides the
    /// committed lines.
    #[must_use]
    pub fn in_full(&self) -> Self {
        let full = |of: &ServiceLines| ServiceLines { since: of.since.or(Some(self.release)), ..of.clone() };
        let env = |of: &ServiceLines| of.env.clone().or_else(|| Some(TRIAL_ENV.into()));
        let services =
            self.services.iter().map(|(name, of)| (*name, ServiceLines { env: env(of), ..full(of) }));
        Self { app: full(&self.app), services: services.collect(), ..self.clone() }
    }

    /// The lines of `service`; `None`: it is not part of this release.
    pub fn of(&self, service: ServiceName) -> Option<&ServiceLines> {
        if service.is_app() { Some(&self.app) } else { self.services.get(&service) }
    }

    /// Whether requests of visitors may go to `service`: always to the app, else if it has a port.
    pub fn is_routed(&self, service: ServiceName) -> bool {
        service.is_app() || self.of(service).is_some_and(|of| of.port.is_some())
    }

    /// All services and their lines, the app first.
    pub fn all(&self) -> impl Iterator<Item = (ServiceName, &ServiceLines)> {
        std::iter::once((ServiceName::app(), &self.app))
            .chain(self.services.iter().map(|(name, of)| (*name, of)))
    }

    /// The release in the labels of the containers of `service`: since then they are unchanged.
    pub fn since(&self, service: ServiceName) -> Option<u64> {
        Some(self.of(service)?.since.unwrap_or(self.release))
    }
}

impl EnvFile {
    /// The services whose lines are in the file, besides the app.
    fn services(&self) -> Vec<ServiceName> {
        let names = self.get(SERVICES).map(|names| names.reveal().to_owned()).unwrap_or_default();
        let names = names.split_whitespace().filter_map(|name| name.parse::<ServiceName>().ok());
        names.filter(|name| !name.is_app()).collect()
    }

    /// Whether only the agent writes this line.
    pub fn is_managed(&self, key: &str) -> bool {
        MANAGED_KEYS.contains(&key)
            || self.services().into_iter().any(|s| service_keys(s).iter().any(|k| k == key))
    }

    /// The release in the file, parsed like systemd does. `None`: no release was ever committed.
    ///
    /// # Errors
    ///
    /// The managed lines are not valid, or a line hides them from systemd.
    pub fn managed(&self) -> Result<Option<ManagedLines>, EnvError> {
        let text = self.render();
        let seen = systemd::read(&text, Comments::End).0;
        // Older versions of systemd continue a comment on the next line: both readings must give the same
        // release.
        let older = systemd::read(&text, Comments::Continue).0;
        let get = |of: &[systemd::Assignment], key: &str| {
            of.iter().rev().find(|a| a.key == key.as_bytes()).map(|a| a.value.clone())
        };
        let services = self.services();
        let names = self.get(SERVICES).map_or(0, |names| names.reveal().split_whitespace().count());
        if names != services.len() {
            return Err(EnvError::Services);
        }
        let own = services.iter().flat_map(|service| service_keys(*service));
        for key in MANAGED_KEYS.map(str::to_owned).into_iter().chain(own) {
            let (new, old) = (get(&seen, &key), get(&older, &key));
            if new != old || new.is_some() != self.position(&key).is_some() {
                return Err(EnvError::Hidden(self.culprit()));
            }
        }
        let text =
            |key: &str| get(&seen, key).map(|v| String::from_utf8_lossy(&v).into_owned()).unwrap_or_default();
        if is_placeholder(&text(&Names::of(ServiceName::app()).image)) {
            return Ok(None);
        }
        let number = |key: &str| number(&text(key)).ok_or_else(|| EnvError::Release(key.to_owned()));
        let lines = |service: ServiceName| -> Result<ServiceLines, EnvError> {
            let names = Names::of(service);
            let port = match text(&names.port) {
                port if port.is_empty() => usual_port().filter(|_| service.is_app()),
                port if port == NO_PORT => None,
                port => Some(port.parse().ok().filter(|n| *n > 0).ok_or(EnvError::Port(names.port))?),
            };
            let since = (!text(&names.since).is_empty()).then(|| number(&names.since)).transpose()?;
            let env = Some(text(&names.env)).filter(|path| !path.is_empty() && !service.is_app());
            Ok(ServiceLines {
                image: text(&names.image).parse().map_err(|bad| EnvError::Image(names.image, bad))?,
                args: systemd::words(&text(&names.args)),
                command: systemd::words(&text(&names.command)),
                port,
                since,
                env: env.map(|path| env_path(path).ok_or(EnvError::File(names.env))).transpose()?,
            })
        };
        let app = lines(ServiceName::app())?;
        if text(RELEASE).is_empty() {
            return Err(EnvError::Unnumbered);
        }
        Ok(Some(ManagedLines {
            release: number(RELEASE)?,
            app,
            services: services.into_iter().map(|s| Ok((s, lines(s)?))).collect::<Result<_, EnvError>>()?,
            keys: text(KEYS).split_whitespace().filter_map(|key| key.parse().ok()).collect(),
        }))
    }

    /// The same file with another release; only the managed lines differ.
    ///
    /// # Errors
    ///
    /// A line would be too long, or another one would hide the managed lines from systemd.
    pub fn with_managed(&self, lines: &ManagedLines) -> Result<Self, EnvError> {
        let mut file = self.clone();
        for service in self.services().into_iter().filter(|s| !lines.services.contains_key(s)) {
            for key in service_keys(service) {
                file.remove(&key);
            }
        }
        file.put_service(ServiceName::app(), &lines.app, Some(lines.release))?;
        let names: Vec<_> = lines.keys.iter().map(EnvKey::as_str).collect();
        file.put_list(KEYS, &names.join(" "))?;
        let names: Vec<_> = lines.services.keys().map(ServiceName::as_str).collect();
        file.put_list(SERVICES, &names.join(" "))?;
        for (service, of) in &lines.services {
            file.put_service(*service, of, None)?;
        }
        file.check_size()?;
        match file.managed()? {
            Some(read) if read == *lines => Ok(file),
            _ => Err(EnvError::Hidden(file.culprit())),
        }
    }

    /// An empty list has no line, unless the file has one already.
    fn put_list(&mut self, key: &str, names: &str) -> Result<(), EnvError> {
        if names.is_empty() && self.position(key).is_none() { Ok(()) } else { self.put(key, names) }
    }

    /// `release`: the line after the image, which the app alone has.
    fn put_service(
        &mut self,
        service: ServiceName,
        lines: &ServiceLines,
        release: Option<u64>,
    ) -> Result<(), EnvError> {
        let names = Names::of(service);
        let quoted =
            |words, name: &str| systemd::quote(words).ok_or_else(|| EnvError::Argument(name.to_owned()));
        let (args, command) = (quoted(&lines.args, &names.args)?, quoted(&lines.command, &names.command)?);
        self.put(&names.image, &lines.image.to_string())?;
        if let Some(release) = release {
            self.put(RELEASE, &release.to_string())?;
        }
        self.put(&names.args, &args)?;
        self.put(&names.command, &command)?;
        // Without this line the first service has the usual port.
        let no_port = || service.is_app().then(|| NO_PORT.to_owned());
        let port = lines.port.map(|port| port.to_string()).or_else(no_port);
        let since = lines.since.map(|since| since.to_string());
        let env = lines.env.as_ref().map(|path| path.display().to_string());
        let env = (names.env, env.filter(|_| !service.is_app()));
        for (key, text) in
            [(names.port, port), (names.since, since)].into_iter().chain((!service.is_app()).then_some(env))
        {
            match text {
                Some(text) => self.put(&key, &text)?,
                None => _ = self.remove(&key),
            }
        }
        Ok(())
    }
}

/// The env file of a service.
fn env_path(text: String) -> Option<PathBuf> {
    let path = PathBuf::from(text);
    let own = path.parent() == Some(Path::new(FILES_DIR)) && path.file_name().is_some();
    (own || path == Path::new(TRIAL_ENV)).then_some(path)
}

/// The number of a release, from 1.
fn number(text: &str) -> Option<u64> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|n| digits && *n > 0)
}
