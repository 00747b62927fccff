//! The merged configuration, each setting with its place: for `config show`. Called by cli/.

use std::path::PathBuf;

use toml::de::DeValue;

use super::error::{ConfigErrors, Problems, Source};
use super::keys::{self, TABLES};
use super::load::{merged, parse, sources};
use super::tree::{self, Node, Table, Tree};

/// A setting of a user's file that is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Its table as a user writes it: `[services.worker]`, `[[cron_jobs]]`.
    pub table: String,
    /// Its name there.
    pub key: String,
    /// In TOML, on one line; `"***"` for a secret.
    pub value: String,
    /// `FILE:LINE:COLUMN`.
    pub place: String,
}

/// All settings of these files that are in force, in the order of the reference: those of later files above those of
/// earlier ones.
///
/// # Errors
///
/// The configuration is not valid; the error lists all errors of all texts.
pub fn settings(files: &[(PathBuf, String)]) -> Result<Vec<Setting>, ConfigErrors> {
    parse(files)?;
    let sources: Vec<Source> = sources(files);
    let mut problems = Problems::new(&sources);
    let documents = tree::syntax(&sources, &mut problems);
    let tree = merged(&sources, &documents, &mut problems);
    let mut settings = Vec::new();
    for (heading, table) in tables(&tree) {
        // Keys of one table in the order of the reference, variables by name.
        let mut nodes: Vec<&Node<'_>> = table.nodes.values().filter(|node| node.key.file > 0).collect();
        nodes.sort_by_key(|node| keys::of(table.path).position(|key| key.name == node.name));
        settings.extend(nodes.into_iter().map(|node| Setting {
            table: heading.clone(),
            key: node.name.to_owned(),
            value: written(node.value, hides(&table, node)),
            place: problems.locate(&node.key),
        }));
    }
    Ok(settings)
}

/// Lines for Caddy and headers may have tokens. A source of a variable is no secret, its text is.
fn hides(table: &Table<'_>, node: &Node<'_>) -> bool {
    let of_caddy = table.path == "caddy" && ["extra", "headers_up"].contains(&node.name);
    of_caddy || node.secret && !matches!(node.value, DeValue::Table(_))
}

/// Each table with its heading, in the order of the reference.
fn tables<'a>(tree: &Tree<'a>) -> Vec<(String, Table<'a>)> {
    let one = |table: Table<'a>| (format!("[{}]", table.title), table);
    let mut tables = Vec::new();
    for section in TABLES {
        match section.path {
            keys::SERVICE => {
                let services =
                    tree.services().flat_map(|(_, of)| [of.own, of.readiness, of.route, of.migrate]);
                tables.extend(services.map(one));
            }
            keys::FILE => tables.extend(tree.files().flat_map(|(_, of)| [of.own, of.mount]).map(one)),
            keys::JOBS => {
                tables.extend(tree.jobs.iter().map(|job| (format!("[[{}]]", keys::JOBS), job.clone())))
            }
            keys::SERVICE_READINESS | keys::SERVICE_ROUTE | keys::SERVICE_MIGRATE | keys::FILE_MOUNT => {}
            path => tables.push(one(tree.table(path))),
        }
    }
    tables
}

/// A value in TOML, on one line; each text of a `hidden` one is masked.
fn written(value: &DeValue<'_>, hidden: bool) -> String {
    // TOML escapes as JSON does, and more control characters.
    let text = |text: &str| -> String {
        let json = serde_json::Value::from(text).to_string();
        let escape = |c: char| match c.is_control() {
            true => format!("\\u{:04X}", u32::from(c)),
            false => c.to_string(),
        };
        json.chars().map(escape).collect()
    };
    match value {
        _ if hidden && !matches!(value, DeValue::Table(_)) => text("***"),
        DeValue::String(string) => text(string),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        DeValue::Boolean(truth) => truth.to_string(),
        DeValue::Datetime(time) => time.to_string(),
        DeValue::Array(items) => {
            let items: Vec<_> = items.iter().map(|item| written(item.get_ref(), hidden)).collect();
            format!("[{}]", items.join(", "))
        }
        DeValue::Table(table) => {
            let plain = |key: &str| {
                key.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b)) && !key.is_empty()
            };
            let pair =
                |(key, value): (&toml::Spanned<std::borrow::Cow<'_, str>>, &toml::Spanned<DeValue<'_>>)| {
                    let key = key.get_ref();
                    let name = if plain(key) { key.to_string() } else { text(key) };
                    format!("{name} = {}", written(value.get_ref(), hidden))
                };
            format!("{{ {} }}", table.iter().map(pair).collect::<Vec<_>>().join(", "))
        }
    }
}
