//! The env file: its grammar, and edits that keep every other line byte for byte.
//!
//! Containers get everything after the first `=` literally (podman and docker `--env-file`); systemd reads
//! the same file with shell-like quoting (systemd.exec(5), `EnvironmentFile=`). Only lines that both read
//! alike are written; the managed lines are quoted for systemd, which alone uses them. (podman 4.7, and no
//! other version, cuts values at `#` and ignores `KEY=`: containers/podman 617af9bea9 reverted that.) Called
//! by plan/ (the desired env file), host/perform.rs (the commit) and cli/env.rs.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::image::{BadImage, PinnedImage};
use super::name::{BadName, EnvKey};
use super::secret::Secret;

mod check;
mod systemd;

pub use check::{BadValue, EnvProblem, check_value};
use systemd::Comments;

/// The keys that only the agent writes. They describe the release, and have no meaning to the application.
pub const MANAGED_KEYS: [&str; 6] = [IMAGE, RELEASE, ARGS, COMMAND, PORT, KEYS];
/// Names that only unit and trial files may set: in an env file they would be misleading.
pub const UNIT_KEYS: [&str; 2] = ["ASTRA_ENV", "ASTRA_PORT"];
const IMAGE: &str = "APP_IMAGE";
const RELEASE: &str = "ASTRA_RELEASE";
const ARGS: &str = "APP_ARGS";
const COMMAND: &str = "APP_COMMAND";
const PORT: &str = "ASTRA_APP_PORT";
const KEYS: &str = "ASTRA_CONFIG_KEYS";

/// Whether the application must not have a variable of this name.
pub fn is_reserved(key: &str) -> bool {
    MANAGED_KEYS.contains(&key) || UNIT_KEYS.contains(&key)
}

/// The lines of astra.env that name the committed release and define its container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManagedLines {
    /// `APP_IMAGE`
    pub image: PinnedImage,
    /// `ASTRA_RELEASE`
    pub release: u64,
    /// `APP_ARGS`: arguments of `podman run` or `docker run`, without the image.
    pub args: Vec<String>,
    /// `APP_COMMAND`: the container's argv; empty means the image's own.
    pub command: Vec<String>,
    /// `ASTRA_APP_PORT`: the app's port in its container.
    #[serde(default = "usual_port")]
    pub port: u16,
    /// `ASTRA_CONFIG_KEYS`: the variables that come from `[env]`. One removed from `[env]` is removed from
    /// the file by the next deploy; any other line belongs to the user.
    #[serde(default)]
    pub keys: BTreeSet<EnvKey>,
}

impl ManagedLines {
    /// Whether both start the same container.
    pub fn runs_as(&self, other: &Self) -> bool {
        let keys = other.keys.clone();
        Self { keys, ..self.clone() } == *other
    }
}

/// The units' default port.
fn usual_port() -> u16 {
    8000
}

/// Why an env file cannot be read or written. No message contains a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvError {
    /// A value that a container and systemd would read differently.
    #[error(transparent)]
    Value(#[from] BadValue),
    /// A name that POSIX does not allow.
    #[error(transparent)]
    Key(#[from] BadName),
    /// An edit of a managed line, named by its key.
    #[error("`{0}` is the agent's own: it says which release runs, and only a deploy changes it")]
    Managed(String),
    /// An edit of one of [`UNIT_KEYS`].
    #[error("`{0}` is reserved for the units: give the variable another name")]
    Unit(String),
    /// `APP_IMAGE` is not a pinned reference.
    #[error("reading APP_IMAGE: {0}")]
    Image(#[from] BadImage),
    /// `ASTRA_RELEASE` is not a number from 1.
    #[error("reading ASTRA_RELEASE: it must be the number of a release, from 1")]
    Release,
    /// `ASTRA_APP_PORT` is not a number from 1 to 65535.
    #[error("reading ASTRA_APP_PORT: it must be a port, 1 to 65535")]
    Port,
    /// `APP_IMAGE` stands without `ASTRA_RELEASE`.
    #[error(
        "APP_IMAGE is there, but ASTRA_RELEASE is not: the file was not written by a deploy of this agent"
    )]
    Unnumbered,
    /// The line, from 1, that most likely hides managed lines from systemd.
    #[error("line {0} hides the managed lines from systemd: fix it first (`astra-agent check` says why)")]
    Hidden(usize),
    /// The key whose list has an argument that cannot be quoted.
    #[error("an argument of {0} has a control character, which an env file cannot contain")]
    Argument(&'static str),
    /// The key of a line above the limit of [`EnvFile::set`].
    #[error("the line of {0} would be longer than 32 KiB")]
    LongLine(String),
    /// The result of an edit is above the limit of [`EnvFile::set`].
    #[error("the env file would be larger than 256 KiB")]
    LargeFile,
}

/// An env file as a document: unedited lines stay as they are.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct EnvFile {
    lines: Vec<Line>,
}

/// One line, and its line end: `\n`, `\r\n`, or none at the end of the file.
#[derive(Clone, PartialEq, Eq)]
struct Line {
    content: Vec<u8>,
    end: Vec<u8>,
}

impl EnvFile {
    /// Accepts any bytes: [`EnvFile::check`] reports what is wrong with them.
    pub fn parse(bytes: impl AsRef<[u8]>) -> Self {
        let line = |raw: &[u8]| {
            let content = raw.strip_suffix(b"\n").unwrap_or(raw);
            let content = content.strip_suffix(b"\r").unwrap_or(content);
            Line { content: content.to_vec(), end: raw.get(content.len()..).unwrap_or_default().to_vec() }
        };
        Self { lines: bytes.as_ref().split_inclusive(|b| *b == b'\n').map(line).collect() }
    }

    /// The bytes of the file.
    pub fn render(&self) -> Vec<u8> {
        self.lines.iter().flat_map(|l| l.content.iter().chain(&l.end)).copied().collect()
    }

    /// The value that a container gets: everything after the first `=`, from the last line that sets `key`.
    pub fn get(&self, key: &str) -> Option<Secret> {
        let at = self.position(key)?;
        let (_, value) = self.lines.get(at)?.assignment()?;
        Some(Secret::new(String::from_utf8_lossy(value)))
    }

    /// Every name that a container gets from this file, sorted. Manual lines may have names that are not an
    /// [`EnvKey`].
    pub fn keys(&self) -> Vec<String> {
        let keys: BTreeSet<_> = self.lines.iter().filter_map(Line::assignment).map(|(key, _)| key).collect();
        keys.into_iter().collect()
    }

    /// Sets `key`: in the last line that has it, else in a new one.
    ///
    /// # Errors
    ///
    /// The name or the value is not allowed, or a line or the file would be too long.
    pub fn set(&mut self, key: &str, value: &Secret) -> Result<(), EnvError> {
        let key: EnvKey = key.parse()?;
        if MANAGED_KEYS.contains(&key.as_str()) {
            return Err(EnvError::Managed(key.to_string()));
        }
        if UNIT_KEYS.contains(&key.as_str()) {
            return Err(EnvError::Unit(key.to_string()));
        }
        check_value(value.reveal())?;
        self.put(key.as_str(), value.reveal())?;
        self.check_size()
    }

    /// Removes every line that sets `key`; returns whether there was one.
    pub fn remove(&mut self, key: &str) -> bool {
        let before = self.lines.len();
        self.lines.retain(|line| line.assignment().is_none_or(|(k, _)| k != key));
        self.lines.len() != before
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
        for key in MANAGED_KEYS {
            let (new, old) = (get(&seen, key), get(&older, key));
            if new != old || new.is_some() != self.position(key).is_some() {
                return Err(EnvError::Hidden(self.culprit()));
            }
        }
        let text =
            |key| get(&seen, key).map(|v| String::from_utf8_lossy(&v).into_owned()).unwrap_or_default();
        let image = text(IMAGE);
        if is_placeholder(&image) {
            return Ok(None);
        }
        let image = image.parse()?;
        let release = text(RELEASE);
        if release.is_empty() {
            return Err(EnvError::Unnumbered);
        }
        let digits = release.bytes().all(|b| b.is_ascii_digit());
        let release = release.parse().ok().filter(|n| digits && *n > 0).ok_or(EnvError::Release)?;
        let port = match text(PORT) {
            port if port.is_empty() => usual_port(),
            port => port.parse().ok().filter(|n| *n > 0).ok_or(EnvError::Port)?,
        };
        let words = |key| systemd::words(&text(key));
        let keys = text(KEYS).split_whitespace().filter_map(|key| key.parse().ok()).collect();
        Ok(Some(ManagedLines { image, release, args: words(ARGS), command: words(COMMAND), port, keys }))
    }

    /// The same file with another release; only the managed lines differ.
    ///
    /// # Errors
    ///
    /// A line would be too long, or another one would hide the managed lines from systemd.
    pub fn with_managed(&self, lines: &ManagedLines) -> Result<Self, EnvError> {
        let mut file = self.clone();
        let args = systemd::quote(&lines.args).ok_or(EnvError::Argument(ARGS))?;
        let command = systemd::quote(&lines.command).ok_or(EnvError::Argument(COMMAND))?;
        file.put(IMAGE, &lines.image.to_string())?;
        file.put(RELEASE, &lines.release.to_string())?;
        file.put(ARGS, &args)?;
        file.put(COMMAND, &command)?;
        file.put(PORT, &lines.port.to_string())?;
        if !lines.keys.is_empty() || file.position(KEYS).is_some() {
            let names: Vec<_> = lines.keys.iter().map(EnvKey::as_str).collect();
            file.put(KEYS, &names.join(" "))?;
        }
        file.check_size()?;
        match file.managed()? {
            Some(read) if read == *lines => Ok(file),
            _ => Err(EnvError::Hidden(file.culprit())),
        }
    }

    /// Every line that a container and systemd read differently, or that one of them refuses. Managed lines
    /// are for systemd only, and pass.
    pub fn check(&self) -> Vec<EnvProblem> {
        let mut problems = Vec::new();
        for (nth, line) in self.lines.iter().enumerate() {
            let key = line.assignment().map(|(key, _)| key);
            let managed = key.as_deref().is_some_and(|k| MANAGED_KEYS.contains(&k));
            if let Some(reason) = check::line(&line.content, nth == 0, managed) {
                problems.push(EnvProblem { line: nth + 1, key, reason });
            }
        }
        if self.check_size().is_err() {
            let reason = "the file is larger than 256 KiB";
            problems.push(EnvProblem { line: self.lines.len(), key: None, reason });
        }
        problems
    }

    fn position(&self, key: &str) -> Option<usize> {
        self.lines.iter().rposition(|line| line.assignment().is_some_and(|(k, _)| k == key))
    }

    fn put(&mut self, key: &str, value: &str) -> Result<(), EnvError> {
        let content = format!("{key}={value}").into_bytes();
        if content.len() > check::LONGEST_LINE {
            return Err(EnvError::LongLine(key.to_owned()));
        }
        match self.position(key).and_then(|at| self.lines.get_mut(at)) {
            Some(line) => line.content = content,
            None => {
                if let Some(last) = self.lines.last_mut().filter(|l| !l.end.ends_with(b"\n")) {
                    last.end.push(b'\n');
                }
                self.lines.push(Line { content, end: b"\n".to_vec() });
            }
        }
        Ok(())
    }

    fn check_size(&self) -> Result<(), EnvError> {
        let size: usize = self.lines.iter().map(|l| l.content.len() + l.end.len()).sum();
        if size > check::LARGEST_FILE { Err(EnvError::LargeFile) } else { Ok(()) }
    }

    /// The most likely line when systemd's reading differs.
    fn culprit(&self) -> usize {
        self.check().first().map_or(1, |p| p.line)
    }
}

impl Line {
    /// Key and value as podman's `--env-file` reads them (podman pkg/env/env.go, `ParseFile`): spaces before
    /// the key are removed, nothing else is.
    fn assignment(&self) -> Option<(String, &[u8])> {
        let line = self.content.trim_prefix_blanks();
        let equals = line.iter().position(|b| *b == b'=').filter(|at| *at > 0)?;
        let (key, value) = line.split_at_checked(equals)?;
        if key.starts_with(b"#") {
            return None;
        }
        Some((String::from_utf8_lossy(key).into_owned(), value.get(1..)?))
    }
}

/// Whitespace as podman defines it: space and tab.
trait Blanks {
    fn trim_prefix_blanks(&self) -> &[u8];
}

impl Blanks for [u8] {
    fn trim_prefix_blanks(&self) -> &[u8] {
        let start = self.iter().position(|b| !matches!(b, b' ' | b'\t')).unwrap_or(self.len());
        self.get(start..).unwrap_or_default()
    }
}

/// Whether a value is a placeholder: empty, three or more dots, or an ellipsis. One or two dots name a
/// directory.
pub fn is_placeholder(value: &str) -> bool {
    let value = value.trim();
    let dots = value.chars().all(|c| matches!(c, '.' | '…'));
    value.is_empty() || dots && (value.len() >= 3)
}

/// Shows only the names.
impl fmt::Debug for EnvFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("EnvFile").field(&self.keys()).finish()
    }
}

#[cfg(test)]
mod tests;
