//! Writing for people and pipes. A terminal that went away (a dropped SSH) must never end a run, so errors of
//! writing are nobody's business.

use std::io::{IsTerminal, Write};

/// A line on standard output.
pub fn line(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{text}");
    let _ = out.flush();
}

/// A line on standard error, after `error:`.
pub fn error(text: &str) {
    let _ = writeln!(
        std::io::stderr().lock(),
        "{} {text}",
        paint(RED, "error:", std::io::stderr().is_terminal())
    );
}

/// A line on standard error, after `warning:`.
pub fn warning(text: &str) {
    let _ = writeln!(
        std::io::stderr().lock(),
        "{} {text}",
        paint(YELLOW, "warning:", std::io::stderr().is_terminal())
    );
}

/// A value as JSON, on standard output.
pub fn json(value: &impl serde::Serialize) {
    match serde_json::to_string_pretty(value) {
        Ok(text) => line(&text),
        Err(e) => error(&format!("encoding the answer: {e}")),
    }
}

pub const RED: &str = "31";
pub const GREEN: &str = "32";
pub const YELLOW: &str = "33";
pub const DIM: &str = "2";
pub const BOLD: &str = "1";

/// `text` in an ANSI style, where `styled` (a terminal, and no `NO_COLOR`: no-color.org).
pub fn paint(style: &str, text: &str, styled: bool) -> String {
    if styled && std::env::var_os("NO_COLOR").is_none() {
        format!("\x1b[{style}m{text}\x1b[0m")
    } else {
        text.to_owned()
    }
}

/// `2026-11-21 04:05:06Z` of milliseconds since 1970.
pub fn time(millis: u64) -> String {
    let at = std::time::UNIX_EPOCH + std::time::Duration::from_millis(millis);
    crate::host::facts::rfc3339(at).replace('T', " ")
}

/// What a long error is about; the rest of it is for the journal.
pub fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}
