//! `config show`: the merged configuration, each setting with its file and line.

use std::path::Path;

use serde_json::json;

use super::{ConfigVerb, out, session};
use crate::config::{self, Setting};
use crate::converge::Refused;

pub fn run(what: &ConfigVerb, json: bool) -> Result<u8, Refused> {
    let ConfigVerb::Show { root } = what;
    if root.is_none() {
        session::root()?;
    }
    let root = root.as_deref().unwrap_or(Path::new("/"));
    let texts = config::texts(root).map_err(session::wrong_config)?;
    let settings = config::settings(&texts).map_err(session::wrong_config)?;
    if json {
        let settings: Vec<_> = settings.iter().map(entry).collect();
        out::json(&json!({ "settings": settings }));
    } else {
        show(&settings);
    }
    Ok(0)
}

fn entry(setting: &Setting) -> serde_json::Value {
    let Setting { table, key, value, place } = setting;
    json!({ "table": table, "key": key, "value": value, "place": place })
}

/// As a config file: a comment behind each setting says where it comes from.
fn show(settings: &[Setting]) {
    let text = |setting: &Setting| format!("{} = {}", setting.key, setting.value);
    let widths = settings.iter().map(|setting| text(setting).chars().count());
    let width = widths.filter(|width| *width <= WIDEST).max().unwrap_or_default();
    let mut table = "";
    for setting in settings {
        // Each job is a table of its own.
        if setting.table != table || (setting.table.starts_with("[[") && setting.key == "name") {
            if !table.is_empty() {
                out::line("");
            }
            table = &setting.table;
            out::line(table);
        }
        out::line(&format!("{:<width$}  # {}", text(setting), setting.place));
    }
}

/// A longer setting does not move the places of all others.
const WIDEST: usize = 60;
