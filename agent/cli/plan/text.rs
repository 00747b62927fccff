//! A plan as text: the release before and after, then all steps numbered, each with the diff of its file.

use std::fmt::Write;

use super::{Change, Shown};
use crate::cli::out::{BOLD, DIM, GREEN, RED, YELLOW, paint};
use crate::cli::step_line::short;
use crate::cli::terminal;

/// Columns of a step's number and the spaces after it.
const NUMBERS: usize = 5;

/// `columns`: the terminal's width. Without one, digests are not shortened.
pub(super) fn text(shown: &Shown, columns: Option<usize>, styled: bool) -> String {
    let release = shown.release.as_deref().unwrap_or_default();
    if shown.host.is_empty() && release.is_empty() {
        let nothing =
            shown.choice.map_or("nothing to do".to_owned(), |choice| format!("nothing to restart: {choice}"));
        return warned(shown, columns, styled) + &nothing;
    }
    let mut text = warned(shown, columns, styled);
    let _ = writeln!(text, "`astra-agent {}` would do this; nothing was changed\n", shown.verb);
    head(shown, columns, styled, &mut text);
    let mut list = Steps { shown, columns, styled, next: 0 };
    list.section("Host", &shown.host, None, &mut text);
    let title = shown.to.as_ref().map_or("Release".to_owned(), |to| format!("Release {}", to.release));
    list.section(&title, release, shown.commit, &mut text);
    text.trim_end().to_owned()
}

fn warned(shown: &Shown, columns: Option<usize>, styled: bool) -> String {
    let mark = paint(YELLOW, "warning:", styled);
    shown.warnings.iter().map(|w| terminal::wrap(&format!("{mark} {w}"), 2, columns) + "\n").collect()
}

/// The release and its image, from -> to.
fn head(shown: &Shown, columns: Option<usize>, styled: bool, text: &mut String) {
    let Some(to) = &shown.to else { return };
    let from = shown.from.as_ref();
    let change = |old: Option<String>, new: String| match old {
        Some(old) if old == new => format!("{new} (the same)"),
        Some(old) => format!("{old} -> {new}"),
        None => format!("none -> {new}"),
    };
    // On a terminal, a new digest gets a line of its own.
    let name = |image: &crate::model::image::PinnedImage| match columns {
        Some(_) => image.digest.short().to_owned(),
        None => image.to_string(),
    };
    let release = change(from.map(|f| f.release.to_string()), to.release.to_string());
    let image = change(from.map(|f| name(&f.image)), name(&to.image));
    let own = to.images.iter().map(|(service, image)| {
        let old = from.and_then(|from| from.images.get(service));
        (service.to_string(), change(old.map(name), name(image)))
    });
    let rows: Vec<_> =
        [("release".to_owned(), release), ("image".to_owned(), image)].into_iter().chain(own).collect();
    let width = rows.iter().map(|(label, _)| label.len()).fold(8, usize::max);
    for (label, what) in rows {
        let _ = writeln!(text, "  {} {what}", paint(BOLD, &format!("{label:<width$}"), styled));
    }
    text.push('\n');
}

struct Steps<'a> {
    shown: &'a Shown,
    columns: Option<usize>,
    styled: bool,
    /// Index of the next step, counted over all lists.
    next: usize,
}

impl Steps<'_> {
    fn section(&mut self, title: &str, steps: &[String], commit: Option<usize>, text: &mut String) {
        if steps.is_empty() {
            return;
        }
        let count = if steps.len() == 1 { "1 step".to_owned() } else { format!("{} steps", steps.len()) };
        let _ = writeln!(text, "{}", paint(BOLD, &format!("{title}: {count}"), self.styled));
        for (n, step) in steps.iter().enumerate() {
            let mark = if commit == Some(n) { "   <- commit point: from here on only forward" } else { "" };
            let step = if self.columns.is_some() { short(step) } else { step.clone() };
            let line = terminal::wrap(&format!("{step}{mark}"), NUMBERS, self.columns);
            let _ = writeln!(text, "{:>3}  {line}", self.next + 1);
            for change in self.shown.changes.iter().filter(|c| c.step == self.next) {
                self.difference(change, text);
            }
            self.next += 1;
        }
        text.push('\n');
    }

    fn difference(&self, change: &Change, text: &mut String) {
        for line in change.diff.lines() {
            let style = match line.as_bytes().first() {
                Some(b'+') => GREEN,
                Some(b'-') => RED,
                _ => DIM,
            };
            let _ = writeln!(text, "       {}", paint(style, line, self.styled));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::plan::Named;

    fn named(release: u64, byte: &str) -> Named {
        Named {
            release,
            image: format!("ghcr.io/you/shop@sha256:{}", byte.repeat(32)).parse().unwrap(),
            images: std::collections::BTreeMap::new(),
        }
    }

    fn deploy() -> Shown {
        let diff = "--- /etc/astra/Caddyfile\n+++ /etc/astra/Caddyfile\n@@ -1 +1 @@\n-a\n+b\n".to_owned();
        Shown {
            choice: None,
            verb: "deploy",
            from: Some(named(5, "c5")),
            to: Some(named(6, "d0")),
            host: vec!["load /etc/astra/Caddyfile into Caddy (2 bytes, sha256 bc9b1a15a9bf)".to_owned()],
            release: Some(vec![
                format!("pull ghcr.io/you/shop@sha256:{}", "d0".repeat(32)),
                "commit release 6".to_owned(),
            ]),
            commit: Some(1),
            changes: vec![Change { step: 0, path: "/etc/astra/Caddyfile".to_owned(), diff }],
            warnings: vec!["rolling with one instance: the site is down while it restarts".to_owned()],
        }
    }

    #[test]
    fn steps_are_numbered_through_with_headings_and_diffs() {
        let expected = "\
warning: rolling with one instance: the site is down while it restarts
`astra-agent deploy` would do this; nothing was changed

  release  5 -> 6
  image    sha256:c5c5c5c5c5c5 -> sha256:d0d0d0d0d0d0

Host: 1 step
  1  load /etc/astra/Caddyfile into Caddy (2 bytes, sha256 bc9b1a15a9bf)
       --- /etc/astra/Caddyfile
       +++ /etc/astra/Caddyfile
       @@ -1 +1 @@
       -a
       +b

Release 6: 2 steps
  2  pull ghcr.io/you/shop@sha256:d0d0d0d0d0d0…
  3  commit release 6   <- commit point: from here on only forward";
        assert_eq!(text(&deploy(), Some(80), false), expected);
    }

    #[test]
    fn a_pipe_gets_whole_digests() {
        let text = text(&deploy(), None, false);
        let whole = format!("image    {} -> {}", named(5, "c5").image, named(6, "d0").image);
        assert!(text.contains(&whole), "{text}");
    }

    #[test]
    fn a_first_release_an_unchanged_image_and_nothing_at_all() {
        let first = text(&Shown { from: None, ..deploy() }, Some(80), false);
        assert!(first.contains("  release  none -> 6\n"), "{first}");
        let same = text(&Shown { to: Some(named(6, "c5")), ..deploy() }, Some(80), false);
        assert!(same.contains("  image    sha256:c5c5c5c5c5c5 (the same)\n"), "{same}");
        let none = Shown { verb: "reconcile", ..Shown::default() };
        assert_eq!(text(&none, None, false), "nothing to do");
    }
}
