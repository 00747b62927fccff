//! Words and tables.

use std::collections::BTreeSet;

use crate::records::Line;

/// A table; `none` if there is no row.
pub fn table(header: &[&str], rows: &[Vec<String>], none: &str) -> String {
    if rows.is_empty() {
        return format!("{none}\n");
    }
    // A bar or a line break in a cell would end it.
    let line = |cells: Vec<String>| {
        let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "/").replace('\n', " ")).collect();
        format!("| {} |\n", cells.join(" | ")).replace("  |", " |")
    };
    let mut text = line(header.iter().map(|cell| (*cell).to_owned()).collect());
    text += &format!("|{}\n", "---|".repeat(header.len()));
    rows.iter().for_each(|row| text += &line(row.clone()));
    text
}

pub fn plural(count: usize, word: &str) -> String {
    format!("{count} {word}{}", if count == 1 { "" } else { "s" })
}

/// The days of some lines: one, or the first and the last.
pub fn days<L: Line>(lines: &[L]) -> String {
    let days: BTreeSet<&str> = lines.iter().map(|line| line.origin().day()).collect();
    match (days.first(), days.last()) {
        (Some(first), Some(last)) if first != last => format!("{first} to {last}"),
        (Some(day), _) => (*day).to_owned(),
        _ => String::new(),
    }
}

/// The measured agent, and the tools that measured it.
pub fn built<L: Line>(build: &str, lines: &[L]) -> String {
    let all = |of: fn(&L) -> &str| {
        let values: BTreeSet<&str> = lines.iter().map(of).collect();
        values.into_iter().collect::<Vec<_>>().join(", ")
    };
    format!(
        "Measured {}. Agent: {build}, commit {}; load, scripts and checks: the tree at {}.\n",
        days(lines),
        all(|line| &line.origin().commit),
        all(|line| &line.origin().tree)
    )
}

/// "median s, longest s"
pub fn took(seconds: &[f64]) -> String {
    let mut sorted = seconds.to_vec();
    sorted.sort_by(f64::total_cmp);
    match (sorted.get(sorted.len() / 2), sorted.last()) {
        (Some(median), Some(longest)) => format!("{median} s, {longest} s"),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_cannot_end_its_row() {
        let text = table(&["a", "b"], &[vec!["x | y\nz".into(), String::new()]], "Not run.");
        assert_eq!(text, "| a | b |\n|---|---|\n| x / y z | |\n");
        assert_eq!(table(&["a"], &[], "Not run."), "Not run.\n");
    }

    #[test]
    fn durations_are_told_by_their_median_and_the_longest() {
        assert_eq!(took(&[3.0, 1.0, 2.5]), "2.5 s, 3 s");
        assert_eq!(took(&[]), "");
    }
}
