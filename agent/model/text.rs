//! Cleans text from others (an app, an engine, a registry) for a terminal or the journal. Called by the
//! adapters that receive it.

/// `text` without control characters, at most `longest` characters: foreign text must not move a cursor or
/// forge a line of ours.
pub fn clean(text: &str, longest: usize) -> String {
    text.chars().take(longest).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// `text` without a repeated cause: `manifest unknown: manifest unknown`.
pub fn once(text: &str) -> String {
    let mut causes: Vec<&str> = text.split(": ").collect();
    causes.dedup();
    causes.join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_cause_is_shown_once() {
        assert_eq!(once("pulling: manifest unknown: manifest unknown"), "pulling: manifest unknown");
        assert_eq!(once("a: b: a"), "a: b: a");
    }

    #[test]
    fn no_control_character_is_left() {
        assert_eq!(clean("  \u{1b}[2Jdown\nconverged\u{9b}\t", 300), "   [2Jdown converged  ");
        assert_eq!(clean("a\rb\u{7}c", 300), "a b c");
        assert_eq!(clean("é".repeat(9).as_str(), 4), "éééé");
    }
}
