//! Merges texts into one tree: parses every file, reports unknown keys where they are, and lets later files
//! override single keys of earlier ones. Called by load.rs; read by read.rs.

use std::borrow::Cow;
use std::collections::BTreeMap;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{Problems, Show, Source, Span, ValueError};
use super::keys::{self, TABLES};

/// A value, with its location and that of its key.
#[derive(Clone, Debug)]
pub(super) struct Node<'a> {
    pub name: &'a str,
    pub key: Span,
    pub span: Span,
    pub value: &'a DeValue<'a>,
    /// Below `[env]`, or the content of a file: must never be shown.
    pub secret: bool,
}

impl<'a> Node<'a> {
    pub fn show(&self) -> Show<'a> {
        if self.secret { Show::OnlyKey(self.name) } else { Show::Line }
    }
}

/// One merged table; `given` is where a user's file names it first.
#[derive(Clone, Debug, Default)]
pub(super) struct Table<'a> {
    /// As in the table of keys: `services.NAME` for every service.
    pub path: &'static str,
    /// As the user writes it: `services.worker`.
    pub title: String,
    pub given: Option<Span>,
    pub nodes: BTreeMap<&'a str, Node<'a>>,
}

/// The tables of one service.
#[derive(Clone, Debug, Default)]
pub(super) struct ServiceTables<'a> {
    pub own: Table<'a>,
    pub readiness: Table<'a>,
    pub route: Table<'a>,
    pub migrate: Table<'a>,
}

/// The tables of one of `[files.NAME]`.
#[derive(Clone, Debug, Default)]
pub(super) struct FileTables<'a> {
    pub own: Table<'a>,
    pub mount: Table<'a>,
}

/// All tables by path, the services by name, and the jobs in order.
#[derive(Debug, Default)]
pub(super) struct Tree<'a> {
    tables: BTreeMap<&'static str, Table<'a>>,
    services: BTreeMap<&'a str, ServiceTables<'a>>,
    files: BTreeMap<&'a str, FileTables<'a>>,
    /// The source that only changes numbers: a table there alone makes no service.
    pub numbers: Option<usize>,
    pub jobs: Vec<Table<'a>>,
}

impl<'a> Tree<'a> {
    pub fn table(&self, path: &'static str) -> Table<'a> {
        self.tables.get(path).cloned().unwrap_or_else(|| Table::of(path, path))
    }

    /// The tables of each service in a user's file, above the defaults.
    pub fn services(&self) -> impl Iterator<Item = (&'a str, ServiceTables<'a>)> {
        let defaults = self.services.get(keys::ANY).cloned().unwrap_or_default();
        let given = self.services.iter().filter(|(_, tables)| tables.own.given.is_some());
        given.map(move |(name, tables)| {
            let tables = ServiceTables {
                own: tables.own.above(&defaults.own),
                readiness: tables.readiness.above(&defaults.readiness),
                route: tables.route.above(&defaults.route),
                migrate: tables.migrate.above(&defaults.migrate),
            };
            (*name, tables)
        })
    }

    /// The tables of each of `[files.NAME]` in a user's file, above the defaults.
    pub fn files(&self) -> impl Iterator<Item = (&'a str, FileTables<'a>)> {
        let defaults = self.files.get(keys::ANY).cloned().unwrap_or_default();
        let given = self.files.iter().filter(|(_, tables)| tables.own.given.is_some());
        given.map(move |(name, tables)| {
            let own = tables.own.above(&defaults.own);
            (*name, FileTables { own, mount: tables.mount.above(&defaults.mount) })
        })
    }

    /// Merges `document`, the content of source `file`.
    pub fn add(&mut self, file: usize, document: &'a DeTable<'a>, problems: &mut Problems<'_>) {
        self.merge("", file, document, problems);
    }

    fn merge(
        &mut self,
        path: &'static str,
        file: usize,
        table: &'a DeTable<'a>,
        problems: &mut Problems<'_>,
    ) {
        for (key, value) in table {
            let node = node(path, file, key, value);
            if path.is_empty() && node.name == keys::SERVICES {
                self.add_services(file, &node, problems);
                continue;
            }
            if path.is_empty() && node.name == keys::FILES {
                self.add_files(file, &node, problems);
                continue;
            }
            let below = if path.is_empty() { node.name.to_owned() } else { format!("{path}.{}", node.name) };
            match TABLES.iter().find(|t| t.path == below) {
                Some(known) if known.path == keys::JOBS => self.add_jobs(file, &node, problems),
                Some(known) => match node.value {
                    DeValue::Table(inner) => {
                        let target = self.tables.entry(known.path);
                        let target = target.or_insert_with(|| Table::of(known.path, known.path));
                        // Source 0 holds the defaults, which no user wrote.
                        if file > 0 && target.given.is_none() {
                            target.given = Some(node.key.clone());
                        }
                        self.merge(known.path, file, inner, problems);
                    }
                    _ => no_table(&below, &node, problems),
                },
                None if path != "env" && keys::find(path, node.name).is_none() => {
                    unknown(path, path, &node, problems)
                }
                None => {
                    self.tables.entry(path).or_default().nodes.insert(node.name, node);
                }
            }
        }
    }

    fn add_services(&mut self, file: usize, node: &Node<'a>, problems: &mut Problems<'_>) {
        let DeValue::Table(services) = node.value else { return no_table("services.NAME", node, problems) };
        for (name, value) in services {
            let service = self::node(keys::SERVICES, file, name, value);
            let title = format!("{}.{}", keys::SERVICES, service.name);
            let DeValue::Table(inner) = service.value else { return no_table(&title, &service, problems) };
            let tables = self.services.entry(service.name).or_insert_with(|| ServiceTables {
                own: Table::of(keys::SERVICE, &title),
                readiness: Table::of(keys::SERVICE_READINESS, &format!("{title}.readiness")),
                route: Table::of(keys::SERVICE_ROUTE, &format!("{title}.route")),
                migrate: Table::of(keys::SERVICE_MIGRATE, &format!("{title}.migrate")),
            });
            if file > 0 && self.numbers != Some(file) && tables.own.given.is_none() {
                tables.own.given = Some(service.key.clone());
            }
            let ServiceTables { own, readiness, route, migrate } = tables;
            let below = &mut [("readiness", readiness), ("route", route), ("migrate", migrate)];
            add_named(own, below, file, inner, problems);
        }
    }

    fn add_files(&mut self, file: usize, node: &Node<'a>, problems: &mut Problems<'_>) {
        let DeValue::Table(files) = node.value else { return no_table("files.NAME", node, problems) };
        for (name, value) in files {
            let of = self::node(keys::FILES, file, name, value);
            let title = format!("{}.{}", keys::FILES, of.name);
            let DeValue::Table(inner) = of.value else { return no_table(&title, &of, problems) };
            let tables = self.files.entry(of.name).or_insert_with(|| FileTables {
                own: Table::of(keys::FILE, &title),
                mount: Table::of(keys::FILE_MOUNT, &format!("{title}.mount")),
            });
            if file > 0 && tables.own.given.is_none() {
                tables.own.given = Some(of.key.clone());
            }
            let FileTables { own, mount } = tables;
            add_named(own, &mut [("mount", mount)], file, inner, problems);
        }
    }

    fn add_jobs(&mut self, file: usize, node: &Node<'a>, problems: &mut Problems<'_>) {
        let form = || {
            ValueError::new("`cron_jobs` must be a list of tables")
                .help("write `[[cron_jobs]]` above each job")
        };
        let DeValue::Array(jobs) = node.value else {
            return problems.add(&node.key, Show::UpToMark, form());
        };
        for job in jobs.iter() {
            let DeValue::Table(table) = job.get_ref() else {
                problems.add(&Span { file, bytes: job.span() }, Show::Line, form());
                continue;
            };
            let given = Some(Span { file, bytes: job.span() });
            let mut found = Table { given, ..Table::of(keys::JOBS, keys::JOBS) };
            for (key, value) in table {
                found.add(self::node(keys::JOBS, file, key, value), problems);
            }
            self.jobs.push(found);
        }
    }
}

impl<'a> Table<'a> {
    fn of(path: &'static str, title: &str) -> Self {
        Self { path, title: title.to_owned(), given: None, nodes: BTreeMap::new() }
    }

    /// The same with the keys of `defaults` that it lacks.
    fn above(&self, defaults: &Self) -> Self {
        let mut table = self.clone();
        for (key, node) in &defaults.nodes {
            table.nodes.entry(key).or_insert_with(|| node.clone());
        }
        table
    }

    /// Overrides a key of an earlier file; an unknown one is an error.
    fn add(&mut self, node: Node<'a>, problems: &mut Problems<'_>) {
        match keys::find(self.path, node.name) {
            Some(_) => _ = self.nodes.insert(node.name, node),
            None => unknown(self.path, &self.title, &node, problems),
        }
    }
}

/// Adds the keys of a table with a name, and of the tables `below` it.
fn add_named<'a>(
    own: &mut Table<'a>,
    below: &mut [(&str, &mut Table<'a>)],
    file: usize,
    inner: &'a DeTable<'a>,
    problems: &mut Problems<'_>,
) {
    for (key, value) in inner {
        let node = self::node(own.path, file, key, value);
        let Some((_, below)) = below.iter_mut().find(|(name, _)| *name == node.name) else {
            own.add(node, problems);
            continue;
        };
        let DeValue::Table(inner) = node.value else { return no_table(&below.title, &node, problems) };
        if file > 0 {
            below.given.get_or_insert(node.key.clone());
        }
        for (key, value) in inner {
            below.add(self::node(below.path, file, key, value), problems);
        }
    }
}

fn no_table(title: &str, node: &Node<'_>, problems: &mut Problems<'_>) {
    let message = format!("`{title}` must be a table, found {}", describe(node.value));
    let fault = ValueError::new(message).help(format!("write `[{title}]` and its keys below it"));
    problems.add(&node.key, Show::UpToMark, fault);
}

fn node<'a>(
    path: &str,
    file: usize,
    key: &'a Spanned<Cow<'a, str>>,
    value: &'a Spanned<DeValue<'a>>,
) -> Node<'a> {
    let span = |bytes| Span { file, bytes };
    Node {
        name: key.get_ref(),
        key: span(key.span()),
        span: span(value.span()),
        value: value.get_ref(),
        secret: path == "env" || path == keys::FILE && *key.get_ref() == "content",
    }
}

fn unknown(path: &str, title: &str, node: &Node<'_>, problems: &mut Problems<'_>) {
    let table = match path {
        "" => "at the top".to_owned(),
        keys::JOBS => format!("in [[{title}]]"),
        _ => format!("in [{title}]"),
    };
    let known = keys::names(path);
    let message = format!("unknown key `{}` {table}", node.name);
    let mut fault = ValueError::unknown(message, node.name, "keys", &known);
    if let Some(key) = keys::KEYS.iter().find(|k| k.name == node.name && k.table != path) {
        fault = fault.help(format!("`{}` stands in [{}]", key.name, key.table));
    }
    problems.add(&node.key, Show::UpToMark, fault);
    if path.is_empty()
        && let Some(near) = keys::nearest(node.name, &known)
    {
        problems.mistake(near);
    }
}

/// The type of a value, in words.
pub(super) fn describe(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a decimal number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// Parses the sources; reports every error that the parser recovers from, without a value of `[env]`.
pub(super) fn syntax<'a>(sources: &'a [Source], problems: &mut Problems<'_>) -> Vec<Spanned<DeTable<'a>>> {
    let mut documents = Vec::new();
    for (file, source) in sources.iter().enumerate() {
        let (document, errors) = DeTable::parse_recoverable(&source.text);
        for error in errors {
            let message = error.message().lines().next().unwrap_or("not TOML").to_owned();
            let bytes = error.span().unwrap_or(0..0);
            let secret = near_env(&source.text, bytes.start) || !near_key(&source.text, bytes.start);
            let show = if secret { Show::OnlyKey("…") } else { Show::Line };
            problems.add_syntax(
                &Span { file, bytes },
                show,
                ValueError::new(format!("not valid TOML: {message}")),
            );
        }
        documents.push(document);
    }
    documents
}

/// Whether the line begins with a header, or with a known key: any other line may be a variable in the wrong
/// table.
fn near_key(text: &str, at: usize) -> bool {
    let start = text.get(..at).and_then(|before| before.rfind('\n')).map_or(0, |n| n + 1);
    let line = text.get(start..).and_then(|rest| rest.lines().next()).unwrap_or_default().trim_start();
    let word = line.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default();
    word.is_empty() || word == line || keys::KEYS.iter().any(|key| key.name == word)
}

/// Whether a location may be in `[env]`. Broken text has no structure, so this hides too much rather than too
/// little: everything after a header or a line that begins with `env`, up to the header of another known
/// table.
fn near_env(text: &str, at: usize) -> bool {
    let before = text.get(..at).unwrap_or(text);
    let end = text.get(at..).and_then(|rest| rest.find('\n')).map_or(text.len(), |n| at + n);
    let lines = text.get(..end.max(before.len())).unwrap_or(text).lines();
    let mut inside = false;
    for line in lines {
        let line = line.trim_start();
        let name = line.trim_start_matches(['[', ' ', '\t', '"', '\'']);
        if ["env", "files", "content"].iter().any(|secret| name.starts_with(secret)) {
            inside = true;
        } else if line.starts_with('[') && TABLES.iter().any(|t| name.starts_with(t.path)) {
            inside = false;
        }
    }
    inside
}
