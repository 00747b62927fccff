//! The files that a release brings: the environments of services that have their own, and `[files]`.
//!
//! The name of each has a code of its content, so that none ever changes: the lines of a release name its files, an
//! instance that systemd restarts finds those of its own release, and a service whose files stay the same keeps its
//! lines, and its containers. Called by release.rs and accessories.rs, for what they start, and by keep.rs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::config::{Config, MountedFile, Service};
use crate::model::envfile::{EnvError, EnvFile, ManagedLines, is_placeholder};
use crate::model::instance::ServiceName;
use crate::model::name::{EnvKey, FILES_DIR, FileName};
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
/// Digits of a fingerprint in a name.
const CODE: usize = 16;

/// The files of one release.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OwnFiles {
    files: BTreeMap<PathBuf, OwnFile>,
    env: BTreeMap<ServiceName, PathBuf>,
    mounts: BTreeMap<ServiceName, Vec<Mount>>,
    /// Files that stay as they were committed, and why.
    pub kept: Vec<String>,
}

#[derive(Clone, Debug, PartialEq)]
struct OwnFile {
    mode: u32,
    owner: Option<(u32, u32)>,
    content: Content,
}

/// The files of a release with the environment `env`. With [`Mute::Keep`] a template that fails leaves its file as it
/// was committed.
///
/// # Errors
///
/// A template fails, or an environment is too large.
pub fn of(inputs: &Inputs<'_>, env: &EnvFile, mute: Mute) -> Result<OwnFiles, Problem> {
    let mut own = OwnFiles::default();
    for service in inputs.config.others.values().filter(|service| has_own_env(service)) {
        let (name, file) = (service.name, own_env(service, env));
        let file = file.map_err(|(key, error)| bad_secret(name, &key, &error))?;
        let path = own.add(inputs, &format!("{name}.env"), ENV_MODE, None, file.render());
        own.env.insert(name, path);
    }
    let values = values(env);
    for (name, file) in &inputs.config.files {
        let seen = |path: &Path| Some(inputs.observed.files.get(path)?.bytes.as_slice());
        let path =
            match template::read(name, file, seen).and_then(|text| rendered(name, file, &text, &values)) {
                Ok(text) => Some(own.add(inputs, name.as_str(), file.mode, file.owner, text.into_bytes())),
                Err(problem) if mute == Mute::Keep => {
                    own.kept.push(problem.what);
                    None
                }
                Err(problem) => return Err(problem),
            };
        for service in &file.services {
            let source = path.clone().or_else(|| committed(inputs, *service, name));
            let mount = source.map(|source| Mount { source, target: file.path.clone() });
            own.mounts.entry(*service).or_default().extend(mount);
        }
    }
    Ok(own)
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

    fn add(
        &mut self,
        inputs: &Inputs<'_>,
        name: &str,
        mode: u32,
        owner: Option<(u32, u32)>,
        bytes: Vec<u8>,
    ) -> PathBuf {
        let form = format!("{mode:04o} {owner:?}");
        let parts: [&[u8]; 4] = [b"file", name.as_bytes(), form.as_bytes(), &bytes];
        let code = inputs.key.fingerprint(parts).to_string();
        let path = Path::new(FILES_DIR).join(format!("{name}.{}", code.get(..CODE).unwrap_or(&code)));
        self.files.insert(path.clone(), OwnFile { mode, owner, content: Content::Hidden(bytes) });
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
            let OwnFile { mode, owner, content } = file.clone();
            Step::WriteOwnFile { path: path.clone(), mode, owner, content }
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
        let text = template::read(name, file, |_| bytes.as_deref());
        text.and_then(|text| rendered(name, file, &text, &values)).err()
    };
    config.files.iter().filter_map(fault).collect()
}

/// Whether the service has an env file of its own.
fn has_own_env(service: &Service) -> bool {
    !service.inherit_env || !service.secrets.is_empty()
}

/// The environment of a service: that of the application, unless it does not inherit it, and its secrets.
fn own_env(service: &Service, env: &EnvFile) -> Result<EnvFile, (EnvKey, EnvError)> {
    let mut file = if service.inherit_env { of_application(env) } else { EnvFile::default() };
    for (name, of) in &service.secrets {
        // Without a value the deploy is refused; a rollback goes on.
        if let Some(value) = env.get(of.as_str()).filter(|value| !is_placeholder(value.reveal())) {
            file.set(name.as_str(), &value).map_err(|error| (name.clone(), error))?;
        }
    }
    Ok(file)
}

fn bad_secret(service: ServiceName, key: &EnvKey, error: &EnvError) -> Problem {
    Problem::config("env", format!("{key} of {service}: {error}"), "change its value")
}

/// The file without the agent's own lines.
fn of_application(env: &EnvFile) -> EnvFile {
    let mut file = env.clone();
    for key in env.keys().iter().filter(|key| env.is_managed(key)) {
        file.remove(key);
    }
    file
}

/// The variables of the application.
fn values(env: &EnvFile) -> BTreeMap<String, Secret> {
    let keys = env.keys().into_iter().filter(|key| !env.is_managed(key));
    keys.filter_map(|key| env.get(&key).map(|value| (key, value))).collect()
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
    let file = path.file_name().and_then(|file| file.to_str()).unwrap_or_default();
    file.rsplit_once('.').is_some_and(|(of, code)| of == name && is_code(code))
}

fn is_code(text: &str) -> bool {
    text.len() == CODE && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// The file of a release in an argument of the engine.
fn path_in(arg: &str) -> Option<PathBuf> {
    let at = arg.find(FILES_DIR)?;
    let path = arg.get(at..)?.split([':', ',']).next()?;
    path.get(FILES_DIR.len()..)?.starts_with('/').then(|| path.into())
}

/// The files that the containers of these lines use.
fn named(lines: &ManagedLines) -> BTreeSet<PathBuf> {
    let env = lines.all().filter_map(|(_, of)| of.env.clone());
    let mounted = lines.all().flat_map(|(_, of)| of.args.iter().filter_map(|arg| path_in(arg)));
    env.chain(mounted).collect()
}

/// The lines of the committed release and of each accessory.
fn in_use(inputs: &Inputs<'_>) -> Vec<ManagedLines> {
    let pins =
        inputs.config.accessories.keys().filter_map(|name| accessories::written(inputs, *name).ok()?);
    inputs.committed().into_iter().chain(pins).collect()
}

/// Writes files in use that were lost or changed, as far as their content can be made again.
pub fn repairs(inputs: &Inputs<'_>) -> Vec<Step> {
    let Ok(own) = of(inputs, &inputs.env_file(), Mute::Keep) else { return Vec::new() };
    in_use(inputs).iter().flat_map(|lines| own.steps(inputs, lines)).collect()
}

/// Files in use that are not there.
pub fn lost(inputs: &Inputs<'_>) -> Vec<PathBuf> {
    let used = in_use(inputs).iter().flat_map(named).collect::<BTreeSet<_>>();
    used.into_iter().filter(|path| !inputs.observed.files.contains_key(path)).collect()
}

fn unused_by(inputs: &Inputs<'_>, used: &BTreeSet<PathBuf>) -> Vec<Step> {
    let own = |path: &&PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        path.parent() == Some(Path::new(FILES_DIR))
            && name.rsplit_once('.').is_some_and(|(_, code)| is_code(code))
    };
    let gone = inputs.observed.files.keys().filter(own).filter(|path| !used.contains(*path));
    gone.map(|path| Step::RemoveFile { path: path.clone() }).collect()
}

/// Removes the files that neither the committed release nor an accessory uses. Nothing while one of them cannot be
/// read.
pub fn unused(inputs: &Inputs<'_>) -> Vec<Step> {
    unused_beside(inputs, inputs.committed().as_ref())
}

/// The same once `lines` are committed.
pub fn unused_beside(inputs: &Inputs<'_>, lines: Option<&ManagedLines>) -> Vec<Step> {
    let pins: Vec<_> =
        inputs.config.accessories.keys().map(|name| accessories::written(inputs, *name)).collect();
    let (Some(lines), false) = (lines, pins.iter().any(Result::is_err)) else { return Vec::new() };
    let pins = pins.into_iter().filter_map(|pin| pin.ok().flatten());
    let used = std::iter::once(lines.clone()).chain(pins).flat_map(|lines| named(&lines)).collect();
    unused_by(inputs, &used)
}

#[cfg(test)]
mod tests;
