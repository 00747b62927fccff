//! Splits a command into arguments like a POSIX shell (XCU 2.2, 2.6.5). Syntax that needs a shell is refused
//! instead of passed on as text. Called by jobs.rs.

use super::error::ValueError;

const HINT: &str = "no shell runs this; where one is needed, write [\"/bin/sh\", \"-c\", \"…\"]";

/// The arguments of `text`.
pub(super) fn split(text: &str) -> Result<Vec<String>, ValueError> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\t' => words.extend(word.take()),
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next() {
                        Some('\'') => break,
                        Some(c) => word.push(c),
                        None => return Err(ValueError::new("a single quote is not closed")),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next() {
                        Some('"') => break,
                        // XCU 2.2.3: between double quotes a backslash escapes only these.
                        Some('\\') => match chars.next() {
                            Some(c @ ('$' | '`' | '"' | '\\')) => word.push(c),
                            Some(c) => word.extend(['\\', c]),
                            None => return Err(ValueError::new("a double quote is not closed")),
                        },
                        Some(c @ ('$' | '`')) => return Err(refused(c)),
                        Some(c) => word.push(c),
                        None => return Err(ValueError::new("a double quote is not closed")),
                    }
                }
            }
            '\\' => match chars.next() {
                Some(c) => word.get_or_insert_default().push(c),
                None => return Err(ValueError::new("a backslash stands at the end")),
            },
            '|' | '&' | ';' | '<' | '>' | '$' | '`' | '(' | ')' | '*' | '?' | '[' | '\n' => {
                return Err(refused(c));
            }
            '#' | '~' if word.is_none() => return Err(refused(c)),
            _ => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

fn refused(c: char) -> ValueError {
    let name = if c == '\n' { "a line break".to_owned() } else { format!("`{c}`") };
    ValueError::new(format!(
        "{name} means something to a shell only: put it in single quotes if it is plain text"
    ))
    .help(HINT)
}
