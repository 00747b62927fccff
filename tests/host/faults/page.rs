//! docs/developing/faults.md is written from the table. These tests boot no host.

use std::fmt::Write;
use std::path::Path;
use std::{env, fs};

use super::row::{DEPLOY, Row};
use super::rows::{NOT_COVERED, THEMES, all};

const PAGE: &str = "docs/developing/faults.md";
/// The text above the tables.
const INTRO: &str = include_str!("page.md");
const HEAD: &str = "| row | fault | tier | exit code | the output says | serves | may lose | repaired later |\n\
                    |---|---|---|---|---|---|---|---|\n";

fn page() -> String {
    let mut text = INTRO.to_owned();
    for theme in &THEMES {
        let _ = write!(text, "\n## {}\n\n{}\n\n{HEAD}", theme.title, theme.text);
        text.extend(theme.rows.iter().map(line));
    }
    text += "\n## Faults without a row\n\n| row | reason |\n|---|---|\n";
    for (ids, why) in NOT_COVERED {
        let _ = writeln!(text, "| {ids} | {why} |");
    }
    text
}

fn line(row: &Row) -> String {
    let command = if row.run == DEPLOY { String::new() } else { format!(": `{}`", row.run) };
    let codes: Vec<_> = row.code.iter().map(i32::to_string).collect();
    let says: Vec<_> = row.says.iter().map(|text| format!("`{}`", text.trim())).collect();
    let or_dash = |text: &str| if text.is_empty() { "–".to_owned() } else { text.to_owned() };
    let cells = [
        row.id.to_owned(),
        format!("{}{command}", row.what),
        (if row.short { "short" } else { "full" }).to_owned(),
        codes.join(" or "),
        or_dash(&says.join(", ")),
        (if row.commits { "new" } else { "old" }).to_owned(),
        or_dash(row.may_lose),
        or_dash(row.repair),
    ];
    format!("| {} |\n", cells.map(|cell| cell.replace('|', "\\|")).join(" | "))
}

#[test]
fn the_page_of_faults_matches_the_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE);
    let wanted = page();
    if env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, &wanted).unwrap();
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == wanted,
        "{PAGE} is not what tests/host/faults says: run UPDATE_DOCS=1 cargo test --test host faults::page"
    );
}

#[test]
fn each_row_has_its_own_id_and_says_what_happens() {
    let rows: Vec<_> = all().collect();
    for (nth, row) in rows.iter().enumerate() {
        assert!(!row.id.is_empty() && !row.what.is_empty() && !row.code.is_empty(), "{:?}", row.id);
        assert!(!rows[..nth].iter().any(|other| other.id == row.id), "{}: duplicate", row.id);
    }
    assert_eq!(rows.iter().filter(|row| row.is_wanted("F79")).count(), 11);
    assert_eq!(rows.iter().filter(|row| row.is_wanted("F79b,F20")).count(), 2);
}
