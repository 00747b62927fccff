//! Text layout for the terminal: its width, word wrapping, ages instead of times. Called by the verbs that
//! show something; pure except for [`columns`] and [`now`].

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Width of the terminal on standard output; `None` if it is not a terminal, and lines are not wrapped.
pub fn columns() -> Option<usize> {
    let (width, _) = terminal_size::terminal_size_of(std::io::stdout())?;
    Some(usize::from(width.0).max(20))
}

/// Milliseconds since 1970.
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// `7 s`, `3 min`, `2 h`, `5 d`: the largest unit that is at least 1.
pub fn span(elapsed: Duration) -> String {
    let seconds = elapsed.as_secs();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// `2 h ago`, from two times in milliseconds since 1970.
pub fn ago(now: u64, at: u64) -> String {
    match now.saturating_sub(at) {
        0..1000 => "just now".to_owned(),
        elapsed => format!("{} ago", span(Duration::from_millis(elapsed))),
    }
}

/// Wraps `text` at `columns` between words; continuation lines begin with `indent` spaces. A word longer than
/// a line, such as a path or a digest, is never broken, so that it can be copied.
pub fn wrap(text: &str, indent: usize, columns: Option<usize>) -> String {
    let Some(columns) = columns.map(|c| c.max(indent + 20)) else { return text.to_owned() };
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines() {
        let body = line.trim_start();
        let mut current = " ".repeat(shown(line) - shown(body));
        let mut empty = true;
        for word in body.split(' ') {
            if !empty && indent + shown(&current) + 1 + shown(word) > columns {
                lines.push(std::mem::take(&mut current));
                empty = true;
            }
            if !empty {
                current.push(' ');
            }
            current.push_str(word);
            empty = false;
        }
        lines.push(current);
    }
    lines.join(&format!("\n{}", " ".repeat(indent)))
}

/// Width of `text`: its characters without the escape sequences of out.rs.
pub fn shown(text: &str) -> usize {
    let mut count = 0;
    let mut escape = false;
    for c in text.chars() {
        match (escape, c) {
            (false, '\x1b') => escape = true,
            (false, _) => count += 1,
            (true, 'm') => escape = false,
            (true, _) => {}
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_have_one_unit() {
        let told = |seconds| span(Duration::from_secs(seconds));
        assert_eq!([0, 59, 60, 3599].map(told), ["0 s", "59 s", "1 min", "59 min"]);
        assert_eq!([3600, 172_799, 172_800, 864_000].map(told), ["1 h", "47 h", "2 d", "10 d"]);
        assert_eq!(ago(10_000, 3_000), "7 s ago");
        // A clock that was set back must not give a negative age.
        assert_eq!(ago(10_000, 99_000), "just now");
    }

    #[test]
    fn words_are_wrapped_whole_and_colours_take_no_room() {
        assert_eq!(wrap("one two three four", 11, None), "one two three four");
        let painted = "\x1b[31mnot ready\x1b[0m, release 6, active (running)";
        assert_eq!(
            wrap(painted, 11, Some(38)),
            "\x1b[31mnot ready\x1b[0m, release 6,\n           active (running)"
        );
        let digest = "a".repeat(64);
        assert_eq!(wrap(&format!("image {digest} here"), 2, Some(30)), format!("image\n  {digest}\n  here"));
        assert_eq!(wrap("two\nlines", 3, Some(80)), "two\n   lines");
    }
}
