//! Checks the rules of docs/developing/architecture.md on the source text: a room names only rooms on lower
//! floors, and the pure rooms name no effect. Planted violations prove that the checks work.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may fail by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

const FLOORS: [(&str, u32); 9] = [
    ("model", 1),
    ("config", 2),
    ("plan", 3),
    ("run", 3),
    ("host", 3),
    ("journal", 3),
    ("converge", 4),
    ("cli", 5),
    ("main", 5),
];
const PURE: [&str; 3] = ["model", "plan", "run"];
const EFFECTS: [&str; 8] =
    ["tokio", "zbus", "bollard", "reqwest", "std::fs", "std::env", "SystemTime", "Instant::now"];
const LONGEST_FILE: usize = 400;
const LONGEST_FUNCTION: usize = 60;

struct Source {
    path: PathBuf,
    room: String,
    text: String,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("agent");
    let mut dirs = vec![root.clone()];
    let mut found = Vec::new();
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let inner = path.strip_prefix(&root).unwrap();
                let first = inner.components().next().unwrap().as_os_str().to_str().unwrap();
                let room = first.trim_end_matches(".rs").to_owned();
                found.push(Source { text: fs::read_to_string(&path).unwrap(), room, path });
            }
        }
    }
    assert!(found.len() > 40, "only {} files found below {}", found.len(), root.display());
    found
}

fn floor(room: &str) -> Option<u32> {
    FLOORS.iter().find(|(name, _)| *name == room).map(|(_, floor)| *floor)
}

/// Code without comments and without tests, whose rules are laxer: those at a file's end and a file of them.
fn code(source: &Source) -> impl Iterator<Item = (usize, &str)> {
    let tests = source.path.ends_with("tests.rs") || source.path.iter().any(|part| part == "tests");
    let text = if tests { "" } else { source.text.as_str() };
    let lines = text.lines().enumerate().take_while(|(_, l)| l.trim() != "#[cfg(test)]");
    lines.map(|(n, line)| (n + 1, line.split("//").next().unwrap_or_default()))
}

/// Rooms that a line names: `crate::room` and, in a grouped import, `{room::…}`.
fn named(line: &str) -> Vec<&str> {
    line.match_indices("crate::")
        .map(|(at, word)| {
            let rest = &line[at + word.len()..];
            rest.split(|c: char| !(c.is_alphanumeric() || c == '_')).next().unwrap_or_default()
        })
        .collect()
}

fn upward(source: &Source) -> Vec<String> {
    let Some(own) = floor(&source.room) else { return Vec::new() };
    let mut found = Vec::new();
    for (number, line) in code(source) {
        for room in named(line) {
            let wrong = match floor(room) {
                Some(other) => room != source.room && other >= own,
                None => line.contains("crate::{"),
            };
            if wrong {
                found.push(format!("{}:{number}: {} names {room}", source.path.display(), source.room));
            }
        }
    }
    found
}

fn effects(source: &Source) -> Vec<String> {
    if !PURE.contains(&source.room.as_str()) {
        return Vec::new();
    }
    let mut found = Vec::new();
    for (number, line) in code(source) {
        for effect in EFFECTS.iter().filter(|e| line.contains(**e)) {
            found.push(format!(
                "{}:{number}: the pure room {} names {effect}",
                source.path.display(),
                source.room
            ));
        }
    }
    found
}

#[test]
fn a_room_names_only_lower_floors() {
    let found: Vec<String> = sources().iter().flat_map(upward).collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn pure_rooms_name_no_effect() {
    let found: Vec<String> = sources().iter().flat_map(effects).collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn every_room_has_a_floor_and_no_file_is_too_long() {
    for source in sources() {
        let known = floor(&source.room).is_some() || source.room == "lib";
        assert!(known, "{} is on no floor", source.path.display());
        let lines = source.text.lines().count();
        assert!(lines <= LONGEST_FILE, "{}: {lines} lines", source.path.display());
    }
}

/// Functions of more than LONGEST_FUNCTION lines, tests aside. By the layout of rustfmt: a function ends with a
/// brace below its first letter.
fn long_functions(source: &Source) -> Vec<String> {
    let lines: Vec<(usize, &str)> = code(source).collect();
    let begins = |line: &str| {
        let Some((before, _)) = line.split_once("fn ") else { return false };
        let visibility = before.split_once("pub(").and_then(|(_, rest)| rest.split_once(')'));
        let mut words = visibility.map_or(before, |(_, rest)| rest).split_whitespace();
        words.all(|word| matches!(word, "pub" | "const" | "async"))
    };
    let length = |at: usize| {
        let indent = lines[at].1.len() - lines[at].1.trim_start().len();
        let end = format!("{}}}", " ".repeat(indent));
        lines[at..].iter().position(|(_, line)| *line == end).map_or(0, |offset| offset + 1)
    };
    let long = (0..lines.len()).filter(|at| begins(lines[*at].1) && length(*at) > LONGEST_FUNCTION);
    long.map(|at| format!("{}:{}: {} lines", source.path.display(), lines[at].0, length(at))).collect()
}

#[test]
fn no_function_is_too_long() {
    let found: Vec<String> = sources().iter().flat_map(long_functions).collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn planted_violations_are_found() {
    let plant =
        |room: &str, text: &str| Source { path: "planted.rs".into(), room: room.into(), text: text.into() };
    assert_eq!(upward(&plant("model", "use crate::host::Host;")).len(), 1);
    assert_eq!(upward(&plant("plan", "fn f() { crate::journal::Journal::at(\"x\"); }")).len(), 1);
    assert_eq!(upward(&plant("host", "use crate::{converge, model};")).len(), 1);
    assert_eq!(upward(&plant("converge", "use crate::host::Host;")).len(), 0);
    assert_eq!(effects(&plant("run", "let now = std::time::SystemTime::now();")).len(), 1);
    assert_eq!(effects(&plant("plan", "use std::fs::File;")).len(), 1);
    assert_eq!(effects(&plant("host", "use std::fs::File;")).len(), 0);
    let function = |lines: usize| {
        format!("    pub(in super::super) async fn f() {{\n{}    }}\n", "        g();\n".repeat(lines - 2))
    };
    assert_eq!(long_functions(&plant("host", &function(LONGEST_FUNCTION))).len(), 0);
    assert_eq!(long_functions(&plant("host", &function(LONGEST_FUNCTION + 1))).len(), 1);
}
