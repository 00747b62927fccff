//! Checks the language of comments, messages and docs: phrases that a reader had to read twice must not come back.
//! Each finding names the file, the line, the phrase and a better one. docs/GLOSSARY.md has the project's words.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may fail by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

/// A phrase and its replacement. Compared without regard to case, as whole words.
const PHRASES: &[(&str, &str)] = &[
    // Subjects that name no one.
    ("nobody", "name the subject: no process, no instance, unknown"),
    ("somebody", "name the subject: an operator, another process"),
    ("a person", "an operator, a user, by hand"),
    ("whoever", "name the subject: the caller, the client"),
    ("everybody", "all users, every request"),
    // One word for one thing.
    ("foreman", "reconciler"),
    ("way back", "undo (of this run), rollback, rollback target"),
    ("time-out", "timeout"),
    ("time-outs", "timeouts"),
    ("superfluous", "surplus"),
    ("twin", "second marker"),
    ("outrank", "override"),
    ("outranks", "overrides"),
    ("tidying up", "housekeeping"),
    ("tidies up", "cleans up"),
    ("the process in front", "the user's process"),
    ("brought into service", "deployed"),
    ("bring into service", "deploy"),
    ("brings into service", "deploys"),
    // Plain English.
    ("mend", "fix, repair"),
    ("mends", "fixes, repairs"),
    ("mended", "fixed, repaired"),
    ("for ever", "forever"),
    ("of old", "former"),
    ("worst night", "in an emergency"),
    ("bad hour", "temporary problem"),
    ("bad night", "in an emergency"),
    ("no news", "not reported"),
    ("what becomes of", "the result of"),
    ("what came of", "the result of"),
    ("what comes of", "the result of"),
    ("whatever became of it", "whatever its outcome"),
    ("whatever came of it", "whatever its result"),
    ("goes on where it was", "continues"),
    ("dies with the boot", "is empty after a boot"),
    ("takes its time", "is slow, takes long"),
    ("nothing automatic", "no automatic run"),
    ("tells of", "reports, shows"),
    ("has no say", "does not decide"),
    // Messages.
    ("stands twice", "duplicate"),
    ("is no value of", "is not a valid"),
    ("is no app name", "is not a valid app name"),
    ("must be a text", "must be a string"),
    ("list of texts", "list of strings"),
    ("ends in a blank", "has a trailing space"),
    ("say of what", "add a unit, e.g. \"30s\""),
    ("given up after", "gave up after"),
    ("losing sight of", "lost contact with"),
    ("does not settle", "files keep changing: another process overwrites them"),
    ("could not be kept in order", "repairs failed"),
    ("nothing is unsafe or broken", "no problems found"),
    ("502 to 504 of caddy", "502-504 from Caddy"),
];

/// A comment or a sentence of the docs does not open with these: they lead to sentences without a subject.
const OPENERS: &[(&str, &str)] = &[
    ("What ", "the noun itself: \"The values of …\""),
    ("Of ", "\"Only …\", or the noun first"),
    ("Nobody ", "the subject: \"No process …\""),
    ("Whoever ", "the subject: \"A client that …\""),
];

const SCANNED: &[&str] =
    &["agent", "units", "caddy", "packaging", "tests", "docs", "README.md", "CONTRIBUTING.md"];

/// This list and the glossary, pages that a campaign or a benchmark writes, and rendered files.
const SKIPPED: &[&str] = &[
    "tests/words.rs",
    "docs/GLOSSARY.md",
    "docs/proof.md",
    "docs/proof",
    "docs/benchmarks.md",
    "tests/golden",
];

/// The comment of a line, or the line itself where the file is prose.
fn prose<'a>(path: &str, line: &'a str) -> Option<&'a str> {
    let line = line.trim();
    if path.ends_with(".md") {
        return Some(line.trim_start_matches(['#', '-', '*', '>', '|', ' ']));
    }
    if path.ends_with(".rs") {
        let at = if line.starts_with("//") { Some(0) } else { line.find(" // ").map(|at| at + 1) };
        return at.map(|at| line[at..].trim_start_matches(['/', '!', ' ']));
    }
    line.strip_prefix('#').map(|comment| comment.trim_start_matches(['#', ' ']))
}

fn has(line: &str, phrase: &str) -> bool {
    let word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    line.match_indices(phrase).any(|(at, found)| {
        !word(line[..at].chars().next_back()) && !word(line[at + found.len()..].chars().next())
    })
}

fn findings(path: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let mut tell = |phrase: &str, better: &str| {
            found.push(format!("{path}:{}: `{}`: better: {better}", number + 1, phrase.trim()));
        };
        let lower = line.to_lowercase();
        PHRASES.iter().filter(|(phrase, _)| has(&lower, phrase)).for_each(|(p, better)| tell(p, better));
        let Some(prose) = prose(path, line) else { continue };
        let opens = |word: &str| prose.starts_with(word) || prose.contains(&format!(". {word}"));
        OPENERS.iter().filter(|(word, _)| opens(word)).for_each(|(word, better)| tell(word, better));
    }
    found
}

fn files(path: &Path, root: &Path, found: &mut Vec<PathBuf>) {
    let inner = path.strip_prefix(root).unwrap();
    if SKIPPED.iter().any(|skipped| inner == Path::new(skipped)) {
        return;
    }
    if !path.is_dir() {
        return found.push(path.to_owned());
    }
    for entry in fs::read_dir(path).unwrap() {
        files(&entry.unwrap().path(), root, found);
    }
}

#[test]
fn comments_messages_and_docs_use_plain_words() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = Vec::new();
    SCANNED.iter().for_each(|name| files(&root.join(name), root, &mut paths));
    paths.sort();
    assert!(paths.len() > 200, "only {} files found", paths.len());
    let all: Vec<String> = paths
        .iter()
        .filter_map(|path| Some((path, fs::read_to_string(path).ok()?)))
        .flat_map(|(path, text)| findings(path.strip_prefix(root).unwrap().to_str().unwrap(), &text))
        .collect();
    assert!(all.is_empty(), "{} phrases to replace:\n{}", all.len(), all.join("\n"));
}

#[test]
fn planted_phrases_are_found() {
    let lines = "/// What the file holds.\nlet x = 1; // Of a file.\n// Fine. Nobody knows.\n\"the Foreman\"\nfn way_back()";
    let found = findings("agent/x.rs", lines);
    assert_eq!(found.len(), 5, "{found:#?}");
    assert_eq!(found[0], "agent/x.rs:1: `What`: better: the noun itself: \"The values of …\"");
    assert_eq!(findings("units/x.service", "# Of all units\nWhat=1").len(), 1);
    assert_eq!(findings("docs/x.md", "- What it is\n## Of files\nplain words").len(), 2);
}
