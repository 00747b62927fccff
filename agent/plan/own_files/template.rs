//! The text of `[files.NAME]` from its template.

use std::collections::BTreeMap;
use std::path::Path;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Kwargs;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior, Value, filters};

use crate::config::{FileSource, MountedFile};
use crate::model::name::FileName;
use crate::model::problem::Problem;
use crate::model::secret::Secret;

/// A template that takes more instructions than this does not end.
const FUEL: u64 = 1_000_000;

/// The text of its template; `seen` gives the content of a file.
///
/// # Errors
///
/// The file is missing, or no UTF-8.
pub fn read<'s>(
    name: &FileName,
    file: &MountedFile,
    seen: impl FnOnce(&Path) -> Option<&'s [u8]>,
) -> Result<String, Problem> {
    let path = match &file.source {
        FileSource::Content(text) => return Ok(text.clone()),
        FileSource::Template(path) => path,
    };
    let fault = |what: &str| {
        let what = format!("[files.{name}]: the template {} {what}", path.display());
        Problem::config("template", what, "put the file there, or change `template`")
    };
    let bytes = seen(path).ok_or_else(|| fault("cannot be read"))?;
    String::from_utf8(bytes.to_vec()).map_err(|_| fault("is not UTF-8"))
}

/// The file that the template makes of these variables.
///
/// # Errors
///
/// The template has an error, or uses a variable that is missing; the message has its line and column, and no value.
pub fn rendered(
    name: &FileName,
    file: &MountedFile,
    template: &str,
    values: &BTreeMap<String, Secret>,
) -> Result<String, Problem> {
    let jinja = environment();
    let values = values.iter().map(|(key, value)| (key.as_str(), value.reveal()));
    jinja.render_named_str(name.as_str(), template, Value::from_pairs(values)).map_err(|error| {
        let place = match &file.source {
            FileSource::Content(_) => format!("[files.{name}] content"),
            FileSource::Template(path) => path.display().to_string(),
        };
        let what = format!("{place}{}: {}", position(template, &error), told(template, &error));
        let fix = match error.kind() {
            ErrorKind::UndefinedError => "set the variable under [env] or by `astra-agent env set`, or write `| default(\"\")` behind it",
            _ => "correct the template",
        };
        Problem::config("template", what, fix)
    })
}

pub(super) fn environment() -> Environment<'static> {
    let mut jinja = Environment::new();
    jinja.set_undefined_behavior(UndefinedBehavior::Strict);
    // These accept a variable that is missing, whatever the behaviour is.
    for filter in ["escape", "e", "indent", "pprint", "zip", "chain"] {
        jinja.remove_filter(filter);
    }
    jinja.add_filter("tojson", quoted);
    // As Ansible has it: a line with `{% if … %}` alone leaves none.
    let mut syntax = SyntaxConfig::builder();
    let syntax = syntax.keep_trailing_newline(true).trim_blocks(true).lstrip_blocks(true).build();
    jinja.set_syntax(syntax.unwrap_or_default());
    // One rule for every kind of file: `tojson` quotes.
    jinja.set_auto_escape_callback(|_| AutoEscape::None);
    jinja.set_debug(true);
    jinja.set_fuel(Some(FUEL));
    jinja
}

/// `tojson`, which would write `null` for a variable that is missing.
fn quoted(value: &Value, indent: Option<Value>, args: Kwargs) -> Result<Value, Error> {
    let within =
        |value: &Value| value.try_iter().is_ok_and(|mut items| items.any(|item| item.is_undefined()));
    if value.is_undefined() || within(value) {
        return Err(Error::from(ErrorKind::UndefinedError));
    }
    filters::tojson(value, indent, args)
}

/// `:3:12`: line and column, from 1.
fn position(template: &str, error: &Error) -> String {
    let start = error.range().map(|range| range.start);
    let before = start.and_then(|at| template.get(..at));
    match before {
        Some(before) => {
            let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
            format!(":{}:{column}", before.matches('\n').count() + 1)
        }
        None => error.line().map(|line| format!(":{line}")).unwrap_or_default(),
    }
}

/// The error without values: only where the detail is about the template's own words is it shown.
fn told(template: &str, error: &Error) -> String {
    let kind = error.kind();
    let at = error.range().and_then(|range| tag(template, range.start)).filter(|text| text.len() < 100);
    match (kind, at) {
        (ErrorKind::UndefinedError, Some(text)) => format!("`{text}` has no value"),
        (
            ErrorKind::SyntaxError
            | ErrorKind::UnknownFilter
            | ErrorKind::UnknownFunction
            | ErrorKind::UnknownTest
            | ErrorKind::UnknownMethod
            | ErrorKind::UndefinedError,
            _,
        ) => error.detail().map_or_else(|| kind.to_string(), |detail| format!("{kind}: {detail}")),
        _ => kind.to_string(),
    }
}

/// The expression or statement around a place, without its braces.
fn tag(template: &str, at: usize) -> Option<&str> {
    let (before, after) = template.split_at_checked(at)?;
    let start = ["{{", "{%"].iter().filter_map(|open| before.rfind(open)).max()? + 2;
    let end = at + ["}}", "%}"].iter().filter_map(|close| after.find(close)).min()?;
    Some(template.get(start..end)?.trim())
}
