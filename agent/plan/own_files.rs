//! The files that a release brings: the environments of services that have their own, and `[files]`.
//!
//! The name of each has a code of its content, so that none ever changes: the lines of a release name its files, an
//! instance that systemd restarts finds those of its own release, and a service whose files stay the same keeps its
//! lines, and its containers. Called by release.rs and accessories.rs, for what they start, and by keep.rs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::config::{Config, MountedFile, Service};
use crate::model::envfile::{EnvFile, ManagedLines, ServiceLines, is_placeholder};
use crate::model::instance::ServiceName;
use crate::model::name::{ETC, EnvKey, FILES_DIR, FileName};
use crate::model::problem::Problem;
use crate::model::secret::Secret;
use crate::model::step::{Content, Step};

use super::env::Mute;
use super::units::Mount;
use super::{Inputs, accessories};

mod template;

use template::rendered;

/// Permission bits of [`FILES_DIR`]: a file there may be readable by all users of a container.
const DIR_MODE: u32 = 0o700;
/// Permission bits of an environment.
const ENV_MODE: u32 = 0o600;
/// Largest file that a template may make.
const LARGEST: usize = 256 << 10;
/// Digits of a fingerprint in a name.
const CODE: usize = 16;

/// The files of one release.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OwnFiles {
    files: BTreeMap<PathBuf, OwnFile>,
    env: BTreeMap<ServiceName, PathBuf>,
    mounts: BTreeMap<ServiceName, Vec<Mount>>,
    /// Files that could not be made, and what happens instead.
    pub kept: Vec<String>,
}

#[derive(Clone, Debug, PartialEq)]
struct OwnFile {
    mode: u32,
    content: Content,
}

/// The files of the services that `concern`, with the environment `env`. With [`Mute::Keep`] a file that cannot be made
/// stays as it was committed.
///
/// # Errors
///
/// A template fails, or an environment cannot be written.
pub fn of(
    inputs: &Inputs<'_>,
    env: &EnvFile,
    mute: Mute,
    concern: impl Fn(ServiceName) -> bool,
) -> Result<OwnFiles, Problem> {
    let mut own = OwnFiles::default();
    let services = inputs.config.others.values().filter(|of| has_own_env(of) && concern(of.name));
    for service in services {
        let name = service.name;
        let before = || inputs.committed()?.of(name)?.env.clone();
        let path = match own_env(service, env, mute) {
            Ok(file) => Some(own.add(inputs, &format!("{name}.env"), ENV_MODE, file.render())),
            Err(problem) if mute == Mute::Keep => {
                let before = before();
                own.keep(before.as_deref(), &problem);
                before
            }
            Err(problem) => return Err(problem),
        };
        own.env.extend(path.map(|path| (name, path)));
    }
    let values = values(env);
    for (name, file) in &inputs.config.files {
        let services: Vec<_> = file.services.iter().copied().filter(|service| concern(*service)).collect();
        if services.is_empty() {
            continue;
        }
        let seen = |path: &Path| Some(inputs.observed.files.get(path)?.bytes.as_slice());
        let path = match made(name, file, &values, seen) {
            Ok(text) => Some(own.add(inputs, name.as_str(), file.mode, text.into_bytes())),
            Err(problem) if mute == Mute::Keep => {
                let before = services.iter().find_map(|service| committed(inputs, *service, name));
                own.keep(before.as_deref(), &problem);
                None
            }
            Err(problem) => return Err(problem),
        };
        for service in services {
            let source = path.clone().or_else(|| committed(inputs, service, name));
            let mount = source.map(|source| Mount { source, target: file.path.clone() });
            own.mounts.entry(service).or_default().extend(mount);
        }
    }
    Ok(own)
}

/// The text of a file.
fn made<'s>(
    name: &FileName,
    file: &MountedFile,
    values: &BTreeMap<String, Secret>,
    seen: impl FnOnce(&Path) -> Option<&'s [u8]>,
) -> Result<String, Problem> {
    let text = rendered(name, file, &template::read(name, file, seen)?, values)?;
    if text.len() > LARGEST {
        let what = format!("[files.{name}] would be larger than 256 KiB");
        return Err(Problem::config("template", what, "mount such a file with `volumes`"));
    }
    Ok(text)
}

impl OwnFiles {
    /// The env file of a service; `None`: astra.env.
    pub fn env_of(&self, service: ServiceName) -> Option<PathBuf> {
        self.env.get(&service).cloned()
    }

    /// The files in the containers of a service.
    pub fn mounts_of(&self, service: ServiceName) -> &[Mount] {
        self.mounts.get(&service).map_or(&[], Vec::as_slice)
    }

    /// Notes a file that stays as it was committed, or out.
    fn keep(&mut self, before: Option<&Path>, problem: &Problem) {
        let how = match before {
            Some(_) => "a file stays as it was committed",
            None => "a file is left out",
        };
        self.kept.push(format!("{how}: {}", problem.what));
    }

    fn add(&mut self, inputs: &Inputs<'_>, name: &str, mode: u32, bytes: Vec<u8>) -> PathBuf {
        let form = format!("{mode:04o}");
        let parts: [&[u8]; 4] = [b"file", name.as_bytes(), form.as_bytes(), &bytes];
        let code = inputs.key.fingerprint(parts).to_string();
        let path = Path::new(FILES_DIR).join(format!("{name}.{}", code.get(..CODE).unwrap_or(&code)));
        self.files.insert(path.clone(), OwnFile { mode, content: Content::Hidden(bytes) });
        path
    }

    /// Writes those that `lines` name, unless they are there.
    pub fn steps(&self, inputs: &Inputs<'_>, lines: &ManagedLines) -> Vec<Step> {
        let named = named(lines);
        let files = self.files.iter().filter(|(path, _)| named.contains(*path));
        let lacking = files.filter(|(path, file)| {
            let seen = inputs.observed.files.get(*path);
            seen.is_none_or(|seen| seen.bytes != file.content.bytes() || seen.mode != file.mode)
        });
        let write = |(path, file): (&PathBuf, &OwnFile)| {
            let OwnFile { mode, content } = file.clone();
            Step::WriteOwnFile { path: path.clone(), mode, content }
        };
        let mut steps: Vec<Step> = lacking.map(write).collect();
        if !steps.is_empty() && !inputs.observed.dirs.contains(Path::new(FILES_DIR)) {
            steps.insert(0, Step::MakeDir { path: FILES_DIR.into(), mode: DIR_MODE });
        }
        steps
    }
}

/// Every template that fails with this environment; `seen` gives the content of a file.
pub fn judge(config: &Config, env: &EnvFile, seen: impl Fn(&Path) -> Option<Vec<u8>>) -> Vec<Problem> {
    let values = values(env);
    let fault = |(name, file): (&FileName, &MountedFile)| {
        let bytes = file.template().and_then(&seen);
        made(name, file, &values, |_| bytes.as_deref()).err()
    };
    config.files.iter().filter_map(fault).collect()
}

/// Whether the service has an env file of its own.
fn has_own_env(service: &Service) -> bool {
    !service.inherit_env || !service.secrets.is_empty()
}

/// The environment of a service: that of the application, unless it does not inherit it, and its secrets. One without a
/// value is left out: a deploy is refused for it anyway, and with [`Mute::Keep`] it is an error.
fn own_env(service: &Service, env: &EnvFile, mute: Mute) -> Result<EnvFile, Problem> {
    let mut file = if service.inherit_env { env.variables() } else { EnvFile::default() };
    let fault = |key: &EnvKey, why: &dyn std::fmt::Display| {
        Problem::config("env", format!("{key} of {}: {why}", service.name), "change its value")
    };
    for (name, of) in &service.secrets {
        match env.get(of.as_str()).filter(|value| !is_placeholder(value.reveal())) {
            Some(value) => file.set(name.as_str(), &value).map_err(|error| fault(name, &error))?,
            None if mute == Mute::Keep => return Err(fault(name, &format!("{of} has no value"))),
            None => {}
        }
    }
    Ok(file)
}

/// The variables of the application; a placeholder counts as missing, an empty text does not.
fn values(env: &EnvFile) -> BTreeMap<String, Secret> {
    let keys = env.keys().into_iter().filter(|key| !env.is_managed(key));
    let real = |value: &Secret| value.reveal().is_empty() || !is_placeholder(value.reveal());
    keys.filter_map(|key| env.get(&key).filter(real).map(|value| (key, value))).collect()
}

/// The file of that name in the committed containers of a service.
fn committed(inputs: &Inputs<'_>, service: ServiceName, name: &FileName) -> Option<PathBuf> {
    let lines = match inputs.config.accessories.contains_key(&service) {
        true => accessories::written(inputs, service).ok()??.app,
        false => inputs.committed()?.of(service)?.clone(),
    };
    lines.args.iter().find_map(|arg| path_in(arg).filter(|path| is_of(path, name.as_str())))
}

/// Whether the path is that of a file of this name.
fn is_of(path: &Path, name: &str) -> bool {
    name_in(path) == Some(name)
}

/// The name of a file of a release, without its code; `None`: another file, which is an operator's.
fn name_in(path: &Path) -> Option<&str> {
    let file = path.file_name()?.to_str().filter(|_| path.parent() == Some(Path::new(FILES_DIR)))?;
    let (name, code) = file.rsplit_once('.')?;
    let is_code = code.len() == CODE && code.bytes().all(|b| b.is_ascii_hexdigit());
    is_code.then_some(name)
}

/// The file of a release in an argument of the engine, as [`Mount`] writes it.
fn path_in(arg: &str) -> Option<PathBuf> {
    let source = arg.strip_prefix("--volume=").or_else(|| arg.strip_prefix("--mount=type=bind,source="))?;
    let path = Path::new(source.split([':', ',']).next()?);
    name_in(path).map(|_| path.to_owned())
}

/// The files that the containers of these lines use.
fn named(lines: &ManagedLines) -> BTreeSet<PathBuf> {
    lines.all().flat_map(|(_, of)| named_by(of)).collect()
}

fn named_by(of: &ServiceLines) -> impl Iterator<Item = PathBuf> + use<'_> {
    of.env.clone().into_iter().chain(of.args.iter().filter_map(|arg| path_in(arg)))
}

/// The pins of all accessories that were ever started here, also of those whose table is gone. `None`: one of them is
/// lost or cannot be read, and so is the list of its files.
fn pins(inputs: &Inputs<'_>) -> Option<Vec<ManagedLines>> {
    let is_one = |path: &Path| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        inputs.config.name.accessory(name).is_some() && path.parent() == Some(Path::new(ETC))
    };
    let unknown = |name: &ServiceName| {
        !matches!(accessories::written(inputs, *name), Ok(Some(_))) && accessories::is_up(inputs, *name)
    };
    if inputs.observed.unreadable.keys().any(|path| is_one(path))
        || inputs.config.accessories.keys().any(unknown)
    {
        return None;
    }
    let files = inputs.observed.files.iter().filter(|(path, _)| is_one(path));
    let pins = files.map(|(_, seen)| EnvFile::parse(&seen.bytes).managed().ok());
    pins.collect::<Option<Vec<_>>>().map(|pins| pins.into_iter().flatten().collect())
}

/// The lines of the committed release and of each accessory of the config.
fn in_use(inputs: &Inputs<'_>) -> Vec<ManagedLines> {
    inputs.committed().into_iter().chain(pins_in_use(inputs)).collect()
}

/// The lines of each accessory of the config.
pub(super) fn pins_in_use(inputs: &Inputs<'_>) -> impl Iterator<Item = ManagedLines> {
    inputs.config.accessories.keys().filter_map(|name| accessories::written(inputs, *name).ok()?)
}

/// Writes files in use that were lost or changed, as far as their content can be made again.
pub fn repairs(inputs: &Inputs<'_>) -> Vec<Step> {
    repairs_of(inputs, &in_use(inputs))
}

/// The same of these lines alone. Most sites have no such file: nothing is rendered for them.
pub fn repairs_of(inputs: &Inputs<'_>, lines: &[ManagedLines]) -> Vec<Step> {
    if lines.iter().all(|lines| named(lines).is_empty()) {
        return Vec::new();
    }
    let Ok(own) = of(inputs, &inputs.env_file(), Mute::Keep, |_| true) else { return Vec::new() };
    let mut steps: Vec<Step> = Vec::new();
    for step in lines.iter().flat_map(|lines| own.steps(inputs, lines)) {
        // A service and an accessory may have the same file.
        if !steps.contains(&step) {
            steps.push(step);
        }
    }
    steps
}

/// Files in use that are not there, and cannot be made again.
pub fn lost(inputs: &Inputs<'_>) -> Vec<Problem> {
    let problem = |path: PathBuf| {
        let what = format!("{} is lost: a container that needs it cannot start again", path.display());
        let fix = "put it back from a backup; or `astra-agent deploy --keep-image`, for an accessory \
                   `astra-agent accessory restart NAME`, creates one from the current settings";
        Problem::host("own_files", what, fix)
    };
    absent(inputs, in_use(inputs).iter().flat_map(named)).into_iter().map(problem).collect()
}

/// Whether the committed release of a service could not start: a file of it is lost for good.
pub fn lacks(inputs: &Inputs<'_>, lines: &ManagedLines, service: ServiceName) -> bool {
    !absent(inputs, lines.of(service).into_iter().flat_map(named_by)).is_empty()
}

/// Those that are not there, and that `repairs` cannot make.
fn absent(inputs: &Inputs<'_>, used: impl Iterator<Item = PathBuf>) -> BTreeSet<PathBuf> {
    let mut gone: BTreeSet<_> = used.filter(|path| !inputs.observed.files.contains_key(path)).collect();
    if !gone.is_empty() {
        for step in repairs(inputs) {
            if let Step::WriteOwnFile { path, .. } = step {
                gone.remove(&path);
            }
        }
    }
    gone
}

/// After the commit of `lines`: removes the files that neither they, nor the lines before, nor an accessory name. A
/// cron job that is starting may still need the files of the previous release, so they stay until the next commit.
pub fn unused(inputs: &Inputs<'_>, lines: &ManagedLines) -> Vec<Step> {
    let Some(pins) = pins(inputs) else { return Vec::new() };
    let all = std::iter::once(lines.clone()).chain(inputs.committed()).chain(pins);
    let used: BTreeSet<PathBuf> = all.flat_map(|lines| named(&lines)).collect();
    let gone = inputs.observed.files.keys().filter(|path| name_in(path).is_some() && !used.contains(*path));
    gone.map(|path| Step::RemoveFile { path: path.clone() }).collect()
}

#[cfg(test)]
mod tests;
