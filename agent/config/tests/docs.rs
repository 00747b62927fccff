//! docs/using/config.md is written from the table of keys, and packaging/agent.toml shows the same defaults.

use std::fmt::Write;
use std::path::Path;

use super::super::keys::{FILE, JOBS, KEYS, Key, KeyDefault, SERVICE, SERVICE_READINESS, TABLES};
use super::*;

/// The text above the tables.
const INTRO: &str = include_str!("intro.md");

fn reference() -> String {
    let mut text = INTRO.to_owned();
    for table in TABLES {
        let heading = heading(table.path);
        let _ = write!(
            text,
            "\n## `{heading}`\n\n{}\n\n| key | type | default | meaning |\n|---|---|---|---|\n",
            table.doc
        );
        let keys: Vec<_> = KEYS.iter().filter(|k| k.table == table.path).collect();
        for key in &keys {
            let default = match key.absent {
                KeyDefault::Value(value) => format!("`{value}`"),
                KeyDefault::Required => "required".to_owned(),
                KeyDefault::Means(words) => words.to_owned(),
            };
            let cells = [format!("`{}`", key.name), key.kind.to_owned(), default, key.doc.to_owned()];
            let _ = writeln!(text, "| {} |", cells.map(|c| c.replace('|', "\\|")).join(" | "));
        }
        let _ = write!(text, "\n```toml\n{}\n{}```\n", heading.replace("NAME", "api"), examples(table.path));
    }
    text
}

pub(super) fn heading(table: &str) -> String {
    if table == JOBS { format!("[[{JOBS}]]") } else { format!("[{table}]") }
}

/// The examples of one table, as they stand below its heading.
fn examples(table: &str) -> String {
    let keys = KEYS.iter().filter(|k| k.table == table);
    // Keys that exclude others of the same table: the example of a service is a web service.
    let exclusive = |key: &&Key| {
        !matches!(
            (table, key.name),
            (JOBS, "every" | "command")
                | (SERVICE, "kind" | "image" | "secrets" | "publish")
                | (SERVICE_READINESS, "settle" | "command" | "tcp")
                | (FILE, "template")
        )
    };
    keys.filter(exclusive)
        .map(|key| match table {
            "env" => format!(
                "{}\n",
                key.example.trim_start_matches("{ ").trim_end_matches(" }").to_owned() + close(key)
            ),
            _ => format!("{} = {}\n", key.name, key.example),
        })
        .collect()
}

/// Trimming removed the brace of an inline table as well.
fn close(key: &Key) -> &'static str {
    if key.example.matches('{').count() > 1 { " }" } else { "" }
}

/// `file` holds `wanted`; with UPDATE_DOCS it is written first. `test` is the name by which cargo finds the test.
pub(super) fn is_written(file: &str, wanted: &str, test: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, wanted).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == wanted,
        "{file} is not what agent/config/keys.rs says: run UPDATE_DOCS=1 cargo test {test}"
    );
}

#[test]
fn the_reference_matches_the_code() {
    is_written("docs/using/config.md", &reference(), "reference");
}

/// The examples above the tables are valid configurations.
#[test]
fn the_minimal_and_the_typical_example_are_valid() {
    let blocks: Vec<_> = INTRO.split("```toml\n").skip(1).filter_map(|b| b.split("```").next()).collect();
    let [least, typical] = blocks[..] else { panic!("{} examples", blocks.len()) };
    assert_eq!(good(&[least]).app.instances, 2);
    let typical = good(&[typical]);
    assert_eq!((typical.cron_jobs.len(), typical.notices.len()), (1, 0));
}

#[test]
fn every_example_is_valid_alone_and_together() {
    let mut all = String::new();
    for table in TABLES {
        let heading = heading(table.path).replace("NAME", "api");
        all.push_str(&format!("{heading}\n{}", examples(table.path)));
        if table.path == SERVICE {
            // A migration needs both.
            all.push_str(
                "image = \"ghcr.io/you/api:1\"\nsecrets = { DATABASE_URL = \"API_DATABASE_URL\" }\n",
            );
        }
    }
    all.push_str("[services.worker]\nreadiness.settle = \"5s\"\n[services.redis]\n");
    let of_accessories = KEYS.iter().filter(|k| k.table == SERVICE);
    for key in of_accessories.filter(|k| matches!(k.name, "kind" | "image" | "secrets" | "publish")) {
        let _ = writeln!(all, "{} = {}", key.name, key.example);
    }
    let liveness = KEYS.iter().find(|k| k.table == SERVICE_READINESS && k.name == "command").unwrap();
    let _ = writeln!(all, "readiness.command = {}", liveness.example);
    let config = good(&[&all]);
    assert_eq!((config.env.len(), config.cron_jobs.len(), config.accessories.len()), (6, 1, 1));
    for name in ["every", "command"] {
        let key = KEYS.iter().find(|k| k.table == JOBS && k.name == name).unwrap();
        let other = if name == "command" { "" } else { "run = [\"x\"]" };
        good(&[&format!("{MINIMAL}[[{JOBS}]]\nname = \"a\"\n{name} = {}\n{other}\n", key.example)]);
    }
}

#[test]
fn written_out_defaults_change_nothing() {
    let mut jobs = format!("[[{JOBS}]]\nname = \"a\"\nrun = [\"x\"]\n");
    let plain = good(&[MINIMAL, &jobs]);
    for key in KEYS.iter().filter(|k| k.table == JOBS) {
        if let KeyDefault::Value(value) = key.absent {
            let _ = writeln!(jobs, "{} = {value}", key.name);
        }
    }
    let defaults = super::super::keys::defaults();
    // [migrate] has a default, but only where the table is present.
    let defaults = defaults.replace("[migrate]\ntimeout = \"10m\"\n", "");
    let (before, after) = defaults.split_once("[services.NAME]").unwrap();
    let defaults = format!("{before}[deploy]{}", after.split_once("[deploy]").unwrap().1);
    assert_eq!(good(&[&defaults, MINIMAL, &jobs]), plain);
}

#[test]
fn names_are_unique_and_defaults_are_valid() {
    for (nth, key) in KEYS.iter().enumerate() {
        assert!(TABLES.iter().any(|t| t.path == key.table), "{}", key.name);
        assert!(!KEYS[..nth].iter().any(|k| (k.table, k.name) == (key.table, key.name)), "{}", key.name);
    }
}

/// The manual is valid as it is, and with every commented setting enabled: `#key = value`, without a space.
#[test]
fn manual_shows_the_defaults() {
    let plain = good(&[MANUAL]);
    assert_eq!(plain, good(&[MINIMAL]));
    let setting = |line: &str| {
        let rest = line.strip_prefix('#')?;
        rest.starts_with(|c: char| c.is_ascii_alphabetic() || c == '[').then(|| rest.to_owned())
    };
    let full: String = MANUAL.lines().map(|l| setting(l).unwrap_or_else(|| l.to_owned()) + "\n").collect();
    let config = good(&[&full]);
    assert_eq!((config.env.len(), config.cron_jobs.len(), config.app.migrate.is_some()), (6, 2, true));
    for key in KEYS.iter().filter(|k| k.table != "env") {
        let shown = full.lines().any(|l| l.split_whitespace().next() == Some(key.name));
        assert!(shown, "packaging/agent.toml does not show {}.{}", key.table, key.name);
    }
    let defaults = KEYS.iter().filter(|k| k.table != JOBS);
    for (key, value) in defaults.filter_map(|k| match k.absent {
        KeyDefault::Value(value) => Some((k, value)),
        _ => None,
    }) {
        let shown = full.lines().any(|line| {
            let (code, _) = line.split_once("  #").unwrap_or((line, ""));
            code.split_once('=').is_some_and(|(k, v)| k.trim() == key.name && v.trim() == value)
        });
        assert!(shown, "packaging/agent.toml does not show `{} = {value}`", key.name);
    }
}
