//! Helpers of all templates: fills in `{{name}}`s, and quotes words of a unit's command line. Called by
//! units.rs, cron.rs and caddy.rs.

use std::fmt::Write as _;
use std::time::Duration;

/// Why a template could not be filled in. Always a bug: templates are part of the binary.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// A placeholder without a value.
    #[error("the template has a placeholder `{0}` that nothing fills")]
    Unfilled(String),
    /// A value without a placeholder.
    #[error("the template has no placeholder `{0}`")]
    Unknown(String),
    /// A `{{` without its `}}`.
    #[error("the template has a `{{{{` without its `}}}}`")]
    Open,
}

/// Replaces every `{{name}}` of `template`. A placeholder on a line of its own passes its indentation to
/// every line of its value, and the line is removed if the value is empty.
///
/// # Errors
///
/// The names in `template` and `values` differ, or a `{{` is open.
pub fn fill(template: &str, values: &[(&str, &str)]) -> Result<String, TemplateError> {
    let mut out = String::new();
    let mut used = vec![false; values.len()];
    for line in template.split_inclusive('\n') {
        let text = line.trim();
        let alone = text.strip_prefix("{{").and_then(|t| t.strip_suffix("}}")).filter(|t| !t.contains("{{"));
        let Some(name) = alone else {
            fill_line(line, values, &mut used, &mut out)?;
            continue;
        };
        let indent = line.split("{{").next().unwrap_or_default();
        for line in lookup(name, values, &mut used)?.lines() {
            if !line.is_empty() {
                out.push_str(indent);
            }
            out.push_str(line);
            out.push('\n');
        }
    }
    let unused = values.iter().zip(used).find(|(_, used)| !used);
    unused.map_or(Ok(out), |((name, _), _)| Err(TemplateError::Unknown((*name).to_owned())))
}

fn fill_line(
    line: &str,
    values: &[(&str, &str)],
    used: &mut [bool],
    out: &mut String,
) -> Result<(), TemplateError> {
    let mut rest = line;
    while let Some((before, after)) = rest.split_once("{{") {
        let (name, after) = after.split_once("}}").ok_or(TemplateError::Open)?;
        out.push_str(before);
        out.push_str(lookup(name, values, used)?);
        rest = after;
    }
    out.push_str(rest);
    Ok(())
}

fn lookup<'a>(name: &str, values: &[(&str, &'a str)], used: &mut [bool]) -> Result<&'a str, TemplateError> {
    let mut all = values.iter().zip(used.iter_mut());
    let found = all.find(|((known, _), _)| *known == name);
    let ((_, value), used) = found.ok_or_else(|| TemplateError::Unfilled(name.to_owned()))?;
    *used = true;
    Ok(value)
}

/// A template of this binary, filled in.
pub fn filled(template: &str, values: &[(&str, &str)]) -> String {
    match fill(template, values) {
        Ok(text) => text,
        // The placeholders of a template do not depend on run time; the golden test fills them all.
        Err(error) => unreachable!("{error}"),
    }
}

/// Words of a unit's `ExecStart=`, such that the program gets exactly `args` (systemd.service(5), "Command
/// lines"; systemd.unit(5), "Specifiers"): `%` and `$` doubled, everything that is not plain in quotes.
pub fn quote_exec<S: AsRef<str>>(args: &[S]) -> String {
    let quoted: Vec<String> = args.iter().map(|a| quote_word(a.as_ref())).collect();
    quoted.join(" ")
}

fn quote_word(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@,+%$~^".contains(c);
    let quotes = word.is_empty() || !word.chars().all(plain);
    let mut out = String::with_capacity(word.len() + 2);
    for c in word.chars() {
        match c {
            '%' => out.push_str("%%"),
            '$' => out.push_str("$$"),
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if c.is_ascii_control() => drop(write!(out, "\\x{:02x}", u32::from(c))),
            c => out.push(c),
        }
    }
    if quotes { format!("\"{out}\"") } else { out }
}

/// A time span as systemd reads it (systemd.time(7)).
pub fn span(time: Duration) -> String {
    match time.subsec_millis() {
        0 => format!("{}s", time.as_secs()),
        _ => format!("{}ms", time.as_millis()),
    }
}
