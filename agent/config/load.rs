//! Reads the files and makes a [`Config`] of them. Called by cli/.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::DeTable;

use super::error::{ConfigError, ConfigErrors, Problems, Source};
use super::tree::{self, Tree};
use super::{
    Accessory, Config, MountedFile, Service, accessory, across, app, calls, env, files, jobs, keys, site,
};
use crate::model::instance::ServiceName;
use crate::model::name::{CONFIG_DIR, CONFIG_FILE, FileName, SCALE_FILE};

/// Larger files are taken for a mistake.
const LARGEST: u64 = 1 << 20;

/// Reads agent.toml and the fragments in agent.d below `root`, which is `/` outside tests.
///
/// # Errors
///
/// The error lists all errors of all files, and files that cannot be read.
pub fn load(root: &Path) -> Result<Config, ConfigErrors> {
    let mut config = parse(&texts(root)?)?;
    config.notices.extend(overlooked(&root.join(CONFIG_DIR.trim_start_matches('/'))));
    Ok(config)
}

/// agent.toml and its fragments as text, from which a config can be made again.
///
/// # Errors
/// Every file that cannot be read.
pub fn texts(root: &Path) -> Result<Vec<(PathBuf, String)>, ConfigErrors> {
    let below = |path: &str| root.join(path.trim_start_matches('/'));
    let mut paths = vec![below(CONFIG_FILE)];
    let mut errors = Vec::new();
    match fragments(&below(CONFIG_DIR)) {
        Ok(found) => paths.extend(found),
        Err(error) => errors.push(*error),
    }
    let mut files = Vec::new();
    for path in paths {
        match read(&path) {
            Ok(text) => files.push((path, text)),
            Err(error) => errors.push(*error),
        }
    }
    if errors.is_empty() { Ok(files) } else { Err(ConfigErrors(errors)) }
}

/// Reads `path` as the whole config: to check a file of another host.
///
/// # Errors
///
/// The error lists all errors of the file, or says why it cannot be read.
pub fn load_one(path: &Path) -> Result<Config, ConfigErrors> {
    let text = read(path).map_err(|error| ConfigErrors(vec![*error]))?;
    parse(&[(path.to_owned(), text)])
}

/// Merges several texts into one config: a later one overrides single keys, and adds its cron jobs.
///
/// # Errors
///
/// The error lists all errors of all texts.
pub fn parse(files: &[(PathBuf, String)]) -> Result<Config, ConfigErrors> {
    let sources = sources(files);
    let mut problems = Problems::new(&sources);
    let documents = tree::syntax(&sources, &mut problems);
    let tree = merged(&sources, &documents, &mut problems);
    let of_site = app::site(&tree, &mut problems);
    let defaults = app::defaults(&tree, &mut problems);
    let app = app::app(&tree, defaults, &mut problems);
    let app_route = app::app_route(&tree, &mut problems);
    let others = app::others(&tree, defaults, &mut problems);
    let accessories = accessory::accessories(&tree, defaults, &mut problems);
    let (env, env_places) = env::env(&tree, &mut problems);
    let caddy = site::caddy(&tree, &mut problems);
    let deploy = site::deploy(&tree, &mut problems);
    if let (Some(app), Some(others), Some(caddy), Some(app_route)) = (&app, &others, &caddy, &app_route) {
        let services: Vec<_> = std::iter::once(app).chain(others.values()).collect();
        across::ports(&tree, &services, caddy, &mut problems);
        across::routes(&tree, &services, app_route.as_ref(), caddy, &mut problems);
        across::variables(&tree, &services, &mut problems);
        if let Some(accessories) = &accessories {
            calls::calls(&tree, &services, accessories, &mut problems);
        }
        let accessories = accessories.iter().flatten();
        accessory::ports(&tree, accessories, &services, caddy, &mut problems);
    }
    let files = files_of(&tree, (&app, &others, &accessories), &mut problems);
    let verify = site::verify(&tree, &mut problems);
    let aws = site::aws(&tree, &mut problems);
    let cron_jobs = jobs::jobs(&tree, &mut problems);
    let notices = problems.finish()?;
    let config = (|| {
        let app::Site { name, image, engine } = of_site?;
        let (app, others, accessories, files) = (app?, others?, accessories?, files?);
        let (deploy, caddy, verify, aws) = (deploy?, caddy?, verify?, aws?);
        Some(Config {
            name,
            image,
            engine,
            app,
            app_route: app_route?,
            others,
            accessories,
            env,
            env_places,
            files,
            deploy,
            caddy,
            verify,
            aws,
            cron_jobs,
            notices,
        })
    })();
    // A missing part has reported its error already; this is the fallback if it did not.
    config.ok_or_else(|| {
        let error = file_error(Path::new(CONFIG_FILE), "the configuration is incomplete".to_owned());
        ConfigErrors(vec![*error])
    })
}

/// The defaults, and the files above them.
pub(super) fn sources(files: &[(PathBuf, String)]) -> Vec<Source> {
    let defaults = Source { path: PathBuf::from("(defaults)"), text: keys::defaults() };
    let given = files.iter().map(|(path, text)| Source { path: path.clone(), text: text.clone() });
    std::iter::once(defaults).chain(given).collect()
}

/// All documents, the later ones above the earlier.
pub(super) fn merged<'a>(
    sources: &[Source],
    documents: &'a [Spanned<DeTable<'a>>],
    problems: &mut Problems<'_>,
) -> Tree<'a> {
    let is_numbers =
        |source: &Source| source.path.ends_with(Path::new(SCALE_FILE).file_name().unwrap_or_default());
    let mut tree = Tree::default();
    tree.numbers = sources.iter().position(is_numbers);
    for (file, document) in documents.iter().enumerate() {
        tree.add(file, document.get_ref(), problems);
    }
    tree
}

/// The services as far as they were read: the app, the others, and the accessories.
type Services<'s> = (
    &'s Option<Service>,
    &'s Option<BTreeMap<ServiceName, Service>>,
    &'s Option<BTreeMap<ServiceName, Accessory>>,
);

/// `[files]`; `None` while a service has an error, whose name would be unknown here.
fn files_of(
    tree: &Tree<'_>,
    (app, others, accessories): Services<'_>,
    problems: &mut Problems<'_>,
) -> Option<BTreeMap<FileName, MountedFile>> {
    let (app, others, accessories) = (app.as_ref()?, others.as_ref()?, accessories.as_ref()?);
    let accessories = accessories.values().map(|accessory| &accessory.service);
    let services: Vec<_> = std::iter::once(app).chain(others.values()).chain(accessories).collect();
    files::files(tree, &services, problems)
}

fn fragments(dir: &Path) -> Result<Vec<PathBuf>, Box<ConfigError>> {
    let unreadable = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::PermissionDenied => forbidden(dir, &format!("reading the directory: {error}")),
        _ => file_error(dir, format!("reading the directory: {error}")),
    };
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(error)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(unreadable)?.path();
        // Hidden files belong to editors or package managers.
        let hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden && path.extension().is_some_and(|e| e == "toml") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// Suffixes of files that editors, package managers or users put aside.
const PUT_ASIDE: [&str; 8] = ["rpmsave", "rpmnew", "dpkg-old", "dpkg-dist", "dpkg-new", "bak", "old", "off"];

/// Files in agent.d that are not read, and perhaps should be.
fn overlooked(dir: &Path) -> Vec<ConfigError> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok);
    let mut found: Vec<_> = entries.map(|entry| entry.path()).filter(|path| is_overlooked(path)).collect();
    found.sort();
    let error = |path: PathBuf| {
        let mut error = file_error(&path, "this file is not read: its name does not end in .toml".to_owned());
        error.help.push("rename it, or move it elsewhere".to_owned());
        *error
    };
    found.into_iter().map(error).collect()
}

fn is_overlooked(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let ending = path.extension().map(|e| e.to_string_lossy().into_owned()).unwrap_or_default();
    let aside = name.starts_with('.') || name.ends_with('~') || PUT_ASIDE.contains(&ending.as_str());
    !aside && ending != "toml" && !ending.is_empty() && path.is_file()
}

fn read(path: &Path) -> Result<String, Box<ConfigError>> {
    let unreadable = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            let mut error = file_error(path, "reading the configuration: the file does not exist".to_owned());
            error.help.push("write it: `[app]` with `image = \"REGISTRY/NAME:TAG\"` is enough".to_owned());
            error
        }
        std::io::ErrorKind::PermissionDenied => {
            forbidden(path, &format!("reading the configuration: {error}"))
        }
        _ => odd(path, &format!("reading the configuration: {error}")),
    };
    // Opening a FIFO would block.
    if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(odd(path, "reading the configuration: it is not a regular file"));
    }
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > LARGEST {
        return Err(odd(path, "the file is larger than 1 MiB"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
        let line = valid.iter().filter(|b| **b == b'\n').count() + 1;
        let bytes = error.as_bytes();
        let message = match bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
            true => "the file is UTF-16".to_owned(),
            false => format!("line {line} is not valid UTF-8"),
        };
        let mut error = file_error(path, message);
        error.help.push("save it as UTF-8".to_owned());
        error
    })
}

/// Only root may read this path.
fn forbidden(path: &Path, message: &str) -> Box<ConfigError> {
    let mut error = file_error(path, message.to_owned());
    error.help.push("only root may read it: run this with sudo".to_owned());
    error
}

/// The path is not a regular file.
fn odd(path: &Path, message: &str) -> Box<ConfigError> {
    let mut error = file_error(path, message.to_owned());
    error.help.push("it must be a TOML file that root can read".to_owned());
    error
}

fn file_error(path: &Path, message: String) -> Box<ConfigError> {
    Box::new(ConfigError { file: path.to_owned(), place: None, message, help: Vec::new() })
}
