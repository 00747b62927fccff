//! Errors of the config: each has its location, shows the line, and says what would be valid. Made by the
//! other files of config/, printed by cli/.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::keys;

/// All errors, ordered by file and line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<ConfigError>);

/// One error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// Absolute path below the root.
    pub file: PathBuf,
    /// `None`: the file as a whole.
    pub place: Option<Place>,
    /// One line without a period; it never shows a value of `[env]`.
    pub message: String,
    /// How to fix it.
    pub help: Vec<String>,
}

/// A location in a file; line and column from 1, the column in characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// The line as it may be shown, and the range of characters marked in it.
    text: String,
    marked: Range<usize>,
}

impl std::error::Error for ConfigErrors {}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (nth, error) in self.0.iter().enumerate() {
            let break_ = if nth == 0 { "" } else { "\n\n" };
            write!(f, "{break_}{error}")?;
        }
        Ok(())
    }
}

impl ConfigError {
    /// File, line, column and message, in one line.
    pub fn summary(&self) -> String {
        self.to_string().lines().next().unwrap_or_default().to_owned()
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        let mut gutter = String::new();
        if let Some(place) = &self.place {
            gutter = " ".repeat(place.line.to_string().len());
            // A tab is kept, so that the caret is below its character.
            let lead = place.text.chars().take(place.marked.start);
            let lead: String = lead.map(|c| if c == '\t' { c } else { ' ' }).collect();
            let carets = "^".repeat(place.marked.len().max(1));
            write!(f, "{}:{}: {}", place.line, place.column, self.message)?;
            write!(f, "\n{gutter} |\n{} | {}\n{gutter} | {lead}{carets}", place.line, place.text)?;
        } else {
            write!(f, " {}", self.message)?;
        }
        for help in &self.help {
            write!(f, "\n{gutter} = {help}")?;
        }
        Ok(())
    }
}

/// A file's name and text.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub path: PathBuf,
    pub text: String,
}

/// A range in one of the sources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub file: usize,
    pub bytes: Range<usize>,
}

/// How much of the line an error may show: never a value under `[env]`, and nothing after an unknown key,
/// which may be a misplaced variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Show<'a> {
    Line,
    UpToMark,
    OnlyKey(&'a str),
}

/// An error in a value, before its location is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ValueError {
    pub message: String,
    pub help: Vec<String>,
}

impl ValueError {
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), help: Vec::new() }
    }

    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help.push(help.into());
        self
    }

    /// A word that is not in `known`: names the nearest one, and all.
    pub fn unknown(message: String, word: &str, what: &str, known: &[&str]) -> Self {
        let mut fault = Self::new(message);
        if let Some(near) = keys::nearest(word, known) {
            fault = fault.help(format!("did you mean `{near}`?"));
        }
        fault.help(format!("known {what}: {}", known.join(", ")))
    }
}

impl<E: std::error::Error> From<E> for ValueError {
    fn from(error: E) -> Self {
        Self::new(error.to_string())
    }
}

/// Collects errors while the config is read.
pub(super) struct Problems<'a> {
    sources: &'a [Source],
    found: Vec<(usize, usize, ConfigError)>,
    /// Allowed, but probably not intended.
    notices: Vec<ConfigError>,
    /// Known tables that an unknown table was probably meant to be.
    mistaken: BTreeSet<&'static str>,
    /// Lines that are not TOML, by file.
    broken: BTreeSet<(usize, usize)>,
}

impl<'a> Problems<'a> {
    pub fn new(sources: &'a [Source]) -> Self {
        Self {
            sources,
            found: Vec::new(),
            notices: Vec::new(),
            mistaken: BTreeSet::new(),
            broken: BTreeSet::new(),
        }
    }

    /// Adds an error for a value or key. Errors on a line that the parser could not read are dropped.
    pub fn add(&mut self, span: &Span, show: Show<'_>, fault: impl Into<ValueError>) {
        let Some(source) = self.sources.get(span.file) else { return };
        let place = place(&source.text, &span.bytes, show);
        let made_up = span.bytes.is_empty() && self.broken.iter().any(|(file, _)| *file == span.file);
        if !made_up && !self.broken.contains(&(span.file, place.line)) {
            self.push(span, place, fault.into());
        }
    }

    /// Adds a notice: allowed, but probably not intended.
    pub fn notice(&mut self, span: &Span, show: Show<'_>, fault: ValueError) {
        let Some(source) = self.sources.get(span.file) else { return };
        let place = Some(place(&source.text, &span.bytes, show));
        let ValueError { message, help } = fault;
        self.notices.push(ConfigError { file: source.path.clone(), place, message, help });
    }

    /// An unknown table was probably meant to be `table`; its keys are then not reported as missing.
    pub fn mistake(&mut self, table: &'static str) {
        self.mistaken.insert(table);
    }

    pub fn is_mistaken(&self, table: &str) -> bool {
        self.mistaken.contains(table)
    }

    /// Adds an error for a line that is not TOML.
    pub fn add_syntax(&mut self, span: &Span, show: Show<'_>, fault: ValueError) {
        let Some(source) = self.sources.get(span.file) else { return };
        let place = place(&source.text, &span.bytes, show);
        self.broken.insert((span.file, place.line));
        self.push(span, place, fault);
    }

    /// A key may seem to be missing only because its line is broken.
    pub fn is_broken(&self) -> bool {
        !self.broken.is_empty()
    }

    fn push(&mut self, span: &Span, place: Place, fault: ValueError) {
        let ValueError { message, help } = fault;
        let Some(source) = self.sources.get(span.file) else { return };
        let error = ConfigError { file: source.path.clone(), place: Some(place), message, help };
        self.found.push((span.file, span.bytes.start, error));
    }

    /// Adds an error for a file as a whole.
    pub fn add_file(&mut self, file: usize, fault: impl Into<ValueError>) {
        let ValueError { message, help } = fault.into();
        let path =
            self.sources.get(file).map_or_else(|| Path::new(crate::model::name::CONFIG_FILE), |s| &s.path);
        self.found.push((file, 0, ConfigError { file: path.to_owned(), place: None, message, help }));
    }

    /// `file:line:column` of a range, for an error that names a second location.
    pub fn locate(&self, span: &Span) -> String {
        let Some(source) = self.sources.get(span.file) else { return String::new() };
        let place = place(&source.text, &span.bytes, Show::UpToMark);
        format!("{}:{}:{}", source.path.display(), place.line, place.column)
    }

    /// The notices, if there are no errors.
    pub fn finish(mut self) -> Result<Vec<ConfigError>, ConfigErrors> {
        self.found.sort_by_key(|(file, at, _)| (*file, *at));
        let errors: Vec<_> = self.found.into_iter().map(|(_, _, error)| error).collect();
        if errors.is_empty() { Ok(self.notices) } else { Err(ConfigErrors(errors)) }
    }
}

fn place(text: &str, bytes: &Range<usize>, show: Show<'_>) -> Place {
    let before = text.get(..bytes.start).unwrap_or(text);
    let start = before.rfind('\n').map_or(0, |at| at + 1);
    let line = text.get(start..).and_then(|rest| rest.lines().next()).unwrap_or_default();
    let column = before.get(start..).unwrap_or_default().chars().count();
    let marked = text.get(bytes.clone()).unwrap_or_default();
    let width = marked.lines().next().unwrap_or_default().chars().count();
    // Control characters could change the terminal.
    let visible = |c: char| if c.is_control() && c != '\t' { '\u{fffd}' } else { c };
    let line: String = line.chars().map(visible).collect();
    let (text, marked) = match show {
        Show::Line => (line, column..column + width),
        Show::UpToMark => {
            let head: String = line.chars().take(column + width).collect();
            let rest = if head.len() < line.len() { " …" } else { "" };
            (head + rest, column..column + width)
        }
        Show::OnlyKey(key) => (format!("{key} = ***"), key.chars().count() + 3..key.chars().count() + 6),
    };
    Place { line: before.matches('\n').count() + 1, column: column + 1, text, marked }
}
