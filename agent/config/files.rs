//! `[files.NAME]`: files for containers, made from a template. Called by load.rs.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use super::Service;
use super::error::{Problems, Show, ValueError};
use super::read::Reader;
use super::tree::{FileTables, Tree};
use super::value::{self, clip};
use crate::model::instance::ServiceName;
use crate::model::name::{ETC, FileName};

/// One of `[files.NAME]`: a file in containers, made from a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountedFile {
    /// Where its template is.
    pub source: FileSource,
    /// The services whose containers have it; never empty.
    pub services: Vec<ServiceName>,
    /// Its absolute path there.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
}

impl MountedFile {
    /// The path of its template; `None`: it stands in agent.toml.
    pub fn template(&self) -> Option<&Path> {
        match &self.source {
            FileSource::Content(_) => None,
            FileSource::Template(path) => Some(path),
        }
    }
}

/// The template of a file.
#[derive(Clone, PartialEq, Eq)]
pub enum FileSource {
    /// The text in agent.toml.
    Content(String),
    /// The path of a file below /etc/astra.
    Template(PathBuf),
}

/// Shows no text, which may have a secret.
impl std::fmt::Debug for FileSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Content(text) => write!(f, "Content({} bytes)", text.len()),
            Self::Template(path) => write!(f, "Template({})", path.display()),
        }
    }
}

/// All files; `None` if one has an error. `services`: those of the site, accessories included.
pub(super) fn files(
    tree: &Tree<'_>,
    services: &[&Service],
    problems: &mut Problems<'_>,
) -> Option<BTreeMap<FileName, MountedFile>> {
    let mut found = BTreeMap::new();
    let mut sound = true;
    for (text, tables) in tree.files() {
        let name = match text.parse::<FileName>() {
            Ok(name) => Some(name),
            Err(error) => {
                tables.own.given.iter().for_each(|span| problems.add(span, Show::UpToMark, error.clone()));
                None
            }
        };
        let file = file(&tables, services, problems);
        let clash = file.as_ref().and_then(|file| taken(file, services, found.iter()));
        if let Some(fault) = clash {
            Reader { table: &tables.mount, problems }.fault("path", fault);
            sound = false;
        }
        match name.zip(file) {
            Some((name, file)) => _ = found.insert(name, file),
            None => sound = false,
        }
    }
    sound.then_some(found)
}

fn file(tables: &FileTables<'_>, services: &[&Service], problems: &mut Problems<'_>) -> Option<MountedFile> {
    let mut r = Reader { table: &tables.own, problems };
    let content = r.optional("content", |r, key| r.text(key, content));
    let template = r.optional("template", |r, key| r.text(key, template));
    let mode = r.text("mode", mode);
    let source = match (content?, template?) {
        (Some(text), None) => FileSource::Content(text),
        (None, Some(path)) => FileSource::Template(path),
        _ => {
            let fault =
                ValueError::new(format!("[{}] needs either `content` or `template`", tables.own.title));
            let given = tables.own.given.as_ref()?;
            problems.add(given, Show::Line, fault.help("`template` is the path of a file below /etc/astra"));
            return None;
        }
    };
    if tables.mount.given.is_none() {
        let title = &tables.own.title;
        let fault = ValueError::new(format!("[{title}] has no `mount`: no container would have it"));
        let help =
            format!("write `[{title}.mount]`, and `services = [\"app\"]` and `path = \"/…\"` below it");
        problems.add(tables.own.given.as_ref()?, Show::Line, fault.help(help));
        return None;
    }
    let mut r = Reader { table: &tables.mount, problems };
    r.require("services");
    r.require("path");
    let path = r.text("path", target);
    let known = |text: &str| {
        let names: Vec<_> = services.iter().map(|service| service.name.as_str()).collect();
        let name = text.parse::<ServiceName>().ok().filter(|name| names.contains(&name.as_str()));
        name.ok_or_else(|| {
            ValueError::unknown(format!("there is no service `{}`", clip(text)), text, "services", &names)
        })
    };
    let mounted = r.distinct("services", known);
    if mounted.as_ref().is_some_and(Vec::is_empty) {
        r.fault("services", ValueError::new("`services` is empty: no container would have the file"));
        return None;
    }
    Some(MountedFile { source, services: mounted?, path: path?, mode: mode? })
}

/// Why a file cannot be at its path: a service has another one there.
fn taken<'f>(
    file: &MountedFile,
    services: &[&Service],
    mut others: impl Iterator<Item = (&'f FileName, &'f MountedFile)>,
) -> Option<ValueError> {
    let common = |other: &MountedFile| file.services.iter().any(|name| other.services.contains(name));
    if let Some((name, _)) = others.find(|(_, other)| other.path == file.path && common(other)) {
        return Some(ValueError::new(format!("[files.{name}] is at `{}` already", file.path)));
    }
    let volumes = services.iter().filter(|service| file.services.contains(&service.name));
    let at = |service: &&&Service| {
        service.volumes.iter().any(|volume| volume.split(':').nth(1) == Some(file.path.as_str()))
    };
    let service = volumes.into_iter().find(at)?;
    Some(ValueError::new(format!("a volume of {} is at `{}` already", service.name, file.path)))
}

/// Longest template.
const LONGEST: usize = 256 << 10;

fn content(text: &str) -> Result<String, ValueError> {
    if text.len() > LONGEST {
        return Err(ValueError::new("`content` is longer than 256 KiB"));
    }
    Ok(text.to_owned())
}

/// A path below /etc/astra, which only root can read.
fn template(text: &str) -> Result<PathBuf, ValueError> {
    let path = Path::new(ETC).join(text);
    let plain = |part: Component<'_>| matches!(part, Component::Normal(_) | Component::RootDir);
    if text.is_empty() || text.ends_with('/') || !path.components().all(plain) || !path.starts_with(ETC) {
        let fault = ValueError::new(format!("`{}` is no path below {ETC}", clip(text)));
        return Err(fault.help("write \"templates/frps.toml.j2\", or the absolute path of a file there"));
    }
    Ok(path)
}

/// A path in a container. The engines split their arguments at `:` and `,`.
fn target(text: &str) -> Result<String, ValueError> {
    let path = value::absolute(text)?;
    if path.contains([':', ',', '"']) || path.ends_with('/') {
        return Err(ValueError::new(format!("`{}` cannot be the path of a file in a container", clip(text))));
    }
    Ok(path)
}

fn mode(text: &str) -> Result<u32, ValueError> {
    let mode = u32::from_str_radix(text, 8)
        .ok()
        .filter(|mode| (3..=4).contains(&text.len()) && *mode <= 0o777 && *mode & 0o400 != 0);
    mode.ok_or_else(|| {
        ValueError::new(format!("`{}` is no mode", clip(text)))
            .help("write the permission bits as \"0440\"; its owner, root, must be able to read it")
    })
}
