//! The env file: its grammar, and edits that keep every other line byte for byte.
//!
//! Containers get everything after the first `=` literally (podman and docker `--env-file`); systemd reads
//! the same file with shell-like quoting (systemd.exec(5), `EnvironmentFile=`). Only lines that both read
//! alike are written; the managed lines are quoted for systemd, which alone uses them. (podman 4.7, and no
//! other version, cuts values at `#` and ignores `KEY=`: containers/podman 617af9bea9 reverted that.) Called
//! by plan/ (the desired env file), host/perform.rs (the commit) and cli/env.rs.

use std::collections::BTreeSet;
use std::fmt;

use super::image::BadImage;
use super::name::{BadName, EnvKey};
use super::secret::Secret;

mod check;
mod managed;
mod systemd;

pub use check::{BadValue, EnvProblem, check_value};
pub use managed::{MANAGED_KEYS, ManagedLines, ServiceLines, service_keys};

/// Names that only unit and trial files may set: in an env file they would be misleading.
pub const UNIT_KEYS: [&str; 2] = ["ASTRA_ENV", "ASTRA_PORT"];

/// Whether the application must not have a variable of this name.
pub fn is_reserved(key: &str) -> bool {
    MANAGED_KEYS.contains(&key) || UNIT_KEYS.contains(&key)
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
    #[error("reading {0}: {1}")]
    Image(String, BadImage),
    /// `ASTRA_RELEASE` is not a number from 1.
    #[error("reading {0}: it must be the number of a release, from 1")]
    Release(String),
    /// `ASTRA_APP_PORT` is not a number from 1 to 65535.
    #[error("reading {0}: it must be a port, 1 to 65535")]
    Port(String),
    /// The env file of a service is not one that a deploy wrote.
    #[error("reading {0}: it must be the path of a file in /etc/astra/files")]
    File(String),
    /// `ASTRA_SERVICES` has a text that names no service.
    #[error("reading ASTRA_SERVICES: it must be names of services, with spaces between them")]
    Services,
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
    Argument(String),
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

    /// The variables of a container alone, sorted: without the agent's own lines, comments, and lines that a later one
    /// overrides.
    #[must_use]
    pub fn variables(&self) -> Self {
        let line = |key: String| {
            let line = self.lines.get(self.position(&key)?)?;
            let (key, value) = line.assignment().filter(|_| !self.is_managed(&key))?;
            let content = [key.as_bytes(), b"=", value].concat();
            Some(Line { content, end: b"\n".to_vec() })
        };
        Self { lines: self.keys().into_iter().filter_map(line).collect() }
    }

    /// Sets `key`: in the last line that has it, else in a new one.
    ///
    /// # Errors
    ///
    /// The name or the value is not allowed, or a line or the file would be too long.
    pub fn set(&mut self, key: &str, value: &Secret) -> Result<(), EnvError> {
        let key: EnvKey = key.parse()?;
        if self.is_managed(key.as_str()) {
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

    /// Every line that a container and systemd read differently, or that one of them refuses. Managed lines
    /// are for systemd only, and pass.
    pub fn check(&self) -> Vec<EnvProblem> {
        let mut problems = Vec::new();
        for (nth, line) in self.lines.iter().enumerate() {
            let key = line.assignment().map(|(key, _)| key);
            let managed = key.as_deref().is_some_and(|k| self.is_managed(k));
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
