//! Finds lines that systemd and the container engines read differently or refuse: an error for lines that the
//! agent writes, a warning for manual ones. Called by envfile.rs and config/.

use std::fmt;

use super::super::name::EnvKey;
use super::Blanks;
use super::systemd::{self, Comments, State};

/// podman reads lines with a 64 KiB buffer (Go's bufio.Scanner); half of that leaves room for the key.
pub(super) const LONGEST_LINE: usize = 32 << 10;
/// Larger files are taken for a mistake: execve(2) takes about 2 MiB for all arguments and variables.
pub(super) const LARGEST_FILE: usize = 256 << 10;

/// A line that readers disagree on. Its message never contains a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvProblem {
    /// From 1.
    pub line: usize,
    /// The name that a container would see, if any.
    pub key: Option<String>,
    /// One clause for a message, without a capital or a period.
    pub reason: &'static str,
}

impl fmt::Display for EnvProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.reason)
    }
}

/// Why a value cannot be in an env file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct BadValue {
    /// One clause for a message, without a capital or a period.
    pub reason: &'static str,
}

/// Whether `value` reaches the container and systemd as the same text.
///
/// # Errors
///
/// It does not; the error says why.
pub fn check_value(value: &str) -> Result<(), BadValue> {
    let mut line = b"K=".to_vec();
    line.extend_from_slice(value.as_bytes());
    let reason = match value.contains('\n') {
        true => Some("it has a line break, which an env file cannot contain: mount a file instead"),
        false => self::line(&line, false, false),
    };
    reason.map_or(Ok(()), |reason| Err(BadValue { reason }))
}

/// The problem of one line, given without its line end.
pub(super) fn line(content: &[u8], first: bool, managed: bool) -> Option<&'static str> {
    if content.len() > LONGEST_LINE {
        return Some("it is longer than 32 KiB");
    }
    let Ok(text) = std::str::from_utf8(content) else {
        return Some("it is not valid UTF-8: systemd refuses the whole file");
    };
    if text.contains('\u{feff}') {
        return Some(match first && text.starts_with('\u{feff}') {
            true => "the file begins with a byte order mark, which becomes part of the first name",
            false => "it has a byte order mark",
        });
    }
    if text.contains(|c: char| c.is_control() && c != '\t') {
        return Some("it has a control character, such as a carriage return or NUL");
    }
    let (seen, state) = systemd::read(content, Comments::Continue);
    match state {
        State::Single | State::Double | State::DoubleEscape => {
            return Some("its quote is not closed: systemd reads the following lines as a part of it");
        }
        State::ValueEscape => return Some("it ends in a backslash: systemd joins it with the next line"),
        State::CommentEscape => {
            return Some("the comment ends in a backslash: systemd before 254 swallows the next line");
        }
        _ => {}
    }
    let line = content.trim_prefix_blanks();
    if line.is_empty() || line.starts_with(b"#") {
        return None;
    }
    if line.starts_with(b";") {
        return Some("systemd reads it as a comment, a container does not: write `#`");
    }
    let Some(equals) = line.iter().position(|b| *b == b'=') else {
        return Some("it has no `=`: a container would get the variable of the process that starts it");
    };
    let (key, value) = (line.get(..equals)?, line.get(equals + 1..)?);
    if key.starts_with(b"export ") {
        return Some("systemd ignores a line with `export`: write NAME=VALUE");
    }
    if key.ends_with(b" ") || key.ends_with(b"\t") {
        return Some("it has a space before `=`, which becomes part of the variable's name in a container");
    }
    if !std::str::from_utf8(key).is_ok_and(|k| k.parse::<EnvKey>().is_ok()) {
        return Some("its name may only have letters, digits and `_`, and not begin with a digit");
    }
    if managed || seen.iter().any(|a| a.key == key && a.value == value) {
        return None;
    }
    let blank = |b: Option<&u8>| b.is_some_and(|b| matches!(b, b' ' | b'\t'));
    Some(match value.first() {
        Some(b'\'' | b'"') => "its value begins with a quote: systemd strips it, a container keeps it",
        first if blank(first) => "its value has a leading space: systemd strips it, a container keeps it",
        _ if value.contains(&b'\\') => "its value has a backslash: systemd strips it, a container keeps it",
        _ if blank(value.last()) => "its value has a trailing space: systemd strips it, a container keeps it",
        _ => "systemd and a container read its value differently",
    })
}
