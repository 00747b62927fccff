//! Fits the spinner's line to the terminal's width. Called by progress.rs.

use super::step_line::done;

/// With fewer columns than this for the text, the step counter is left out.
const COUNTED: usize = 45;
/// Minimum width of a step's own text, so that steps remain distinguishable.
const SHORTEST: usize = 12;

/// Joins `text`, the step number and the wait detail within `room` columns. The detail is shortened last, and
/// from its end.
pub fn fit(text: &str, number: &str, detail: &str, room: usize) -> String {
    let gap = if detail.is_empty() { "" } else { "  " };
    let whole = |text: &str, number: &str| format!("{text}{number}{gap}{detail}");
    let fits = |line: &String| width(line) <= room;
    let first = [whole(text, number), whole(&done(text), number)].into_iter().find(fits);
    if let Some(line) = first {
        return line;
    }
    let number = if room < COUNTED { "" } else { number };
    let rest = width(number) + width(gap) + width(detail);
    let text = cut(&done(text), room.saturating_sub(rest).max(SHORTEST.min(room)));
    cut(&whole(&text, number), room)
}

/// The start of `text`, with an ellipsis if it was cut.
fn cut(text: &str, room: usize) -> String {
    if width(text) <= room {
        return text.to_owned();
    }
    let mut kept: String = text.chars().take(room.saturating_sub(1)).collect();
    kept.truncate(kept.trim_end().len());
    if room > 0 {
        kept.push('…');
    }
    kept
}

fn width(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: &str = "drain astra-app@1 (at most 30s)";
    const NUMBER: &str = "  step 5 of 18";
    const DETAIL: &str = "waiting for 4 requests in flight, 3 of 30 s";

    #[test]
    fn the_detail_keeps_its_start_at_every_width() {
        let wide = fit(STEP, NUMBER, DETAIL, 185);
        assert_eq!(wide, format!("{STEP}{NUMBER}  {DETAIL}"));
        assert_eq!(
            fit(STEP, NUMBER, DETAIL, 65),
            "drain astra…  step 5 of 18  waiting for 4 requests in flight, 3…"
        );
        assert_eq!(fit(STEP, NUMBER, DETAIL, 25), "drain astra…  waiting fo…");
        for room in 0..120 {
            let line = fit(STEP, NUMBER, DETAIL, room);
            assert!(width(&line) <= room, "{room}: {line}");
            if room > 20 {
                assert!(line.contains("  wait"), "{room}: {line}");
            }
        }
    }

    #[test]
    fn a_line_without_a_detail_ends_in_an_ellipsis() {
        let pull = "pull 127.0.0.1:5000/astra@sha256:0123456789ab…";
        assert_eq!(fit(pull, NUMBER, "", 200), format!("{pull}{NUMBER}"));
        assert_eq!(fit(pull, NUMBER, "", 25), "pull 127.0.0.1:5000/astr…");
    }
}
