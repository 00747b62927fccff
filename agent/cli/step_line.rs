//! The text of a finished step: short, and one line for consecutive file steps. The journal and `plan` have
//! the long form. Called by progress.rs.

use std::path::{Path, PathBuf};
use std::time::Duration;

/// Number of hex digits of a shortened digest.
const SHORT: usize = 12;
const LONG: usize = 64;

/// The text of a step without limits that only matter while it runs, with short digests.
pub fn done(text: &str) -> String {
    let text = match text.find("at most ").map(|at| text.split_at(at)) {
        Some((head, _)) if head.ends_with('(') => head.trim_end_matches([' ', '(']).to_owned(),
        Some((head, _)) => format!("{})", head.trim_end_matches([' ', ','])),
        None => text.to_owned(),
    };
    short(&text)
}

/// Digests cut to twelve hex digits; the closing summary shows them whole.
pub fn short(text: &str) -> String {
    let mut parts = text.split("sha256:");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let hex = part.bytes().take_while(u8::is_ascii_hexdigit).count();
        let (digest, rest) = part.split_at(hex);
        out.push_str("sha256:");
        match digest.get(..SHORT) {
            Some(head) if hex == LONG => out.extend([head, "…"]),
            _ => out.push_str(digest),
        }
        out.push_str(rest);
    }
    out
}

/// Consecutive steps that only write, create or remove files.
#[derive(Debug, Default)]
pub struct Files {
    seen: Vec<(String, PathBuf)>,
    elapsed: Duration,
}

impl Files {
    /// `false`: the step is not a file step.
    pub fn add(&mut self, text: &str, elapsed: Duration) -> bool {
        let Some((verb, rest)) = text.split_once(' ') else { return false };
        if !matches!(verb, "create" | "write" | "remove" | "keep") || !rest.starts_with('/') {
            return false;
        }
        let path = rest.split(" (").next().and_then(|p| p.split(" as /").next()).unwrap_or(rest);
        self.seen.push((verb.to_owned(), path.into()));
        self.elapsed += elapsed;
        true
    }

    /// One line for all of them.
    pub fn take(&mut self) -> Option<(String, Duration)> {
        let elapsed = std::mem::take(&mut self.elapsed);
        let seen = std::mem::take(&mut self.seen);
        if let [(verb, path)] = seen.as_slice() {
            return Some((format!("{verb} {}", path.display()), elapsed));
        }
        let mut groups: Vec<(&str, &Path, usize)> = Vec::new();
        for (verb, path) in &seen {
            let dir = home(path);
            match groups.iter_mut().find(|(v, d, _)| v == verb && *d == dir) {
                Some((_, _, count)) => *count += 1,
                None => groups.push((verb, dir, 1)),
            }
        }
        let words: Vec<_> =
            groups.iter().map(|(verb, dir, n)| format!("{verb} {n} in {}", dir.display())).collect();
        (!words.is_empty()).then(|| (format!("files: {}", words.join(", ")), elapsed))
    }
}

/// The directory that a path is listed under; a unit's drop-in is listed with the unit.
fn home(path: &Path) -> &Path {
    let dir = path.parent().unwrap_or(path);
    let drop_in =
        dir.extension().is_some_and(|e| e == "d") && dir.file_name().is_some_and(|n| n != "agent.d");
    if drop_in && dir.starts_with("/etc/systemd/system") { dir.parent().unwrap_or(dir) } else { dir }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finished_step_has_no_limits_and_short_digests() {
        let digest = "ab".repeat(32);
        assert_eq!(done("drain astra-app@1 (at most 30s)"), "drain astra-app@1");
        assert_eq!(
            done("wait until astra-app@1 is ready (/readyz, at most 60s)"),
            "wait until astra-app@1 is ready (/readyz)"
        );
        assert_eq!(done(&format!("pull r/astra@sha256:{digest}")), "pull r/astra@sha256:abababababab…");
        assert_eq!(done(&format!("commit 2 (r@sha256:{digest})")), "commit 2 (r@sha256:abababababab…)");
        assert_eq!(done("try release 2 (sha256:abababababab)"), "try release 2 (sha256:abababababab)");
    }

    #[test]
    fn files_in_a_row_become_one_line() {
        let mut files = Files::default();
        let second = Duration::from_secs(1);
        assert!(files.add("write /run/astra/trial.env (0600; keys SECRET_KEY)", second));
        assert_eq!(files.take(), Some(("write /run/astra/trial.env".to_owned(), second)));
        assert_eq!(files.take(), None);

        assert!(files.add("create /run/astra/drain (0755)", second));
        for unit in ["a.service", "b.service", "b.service.d/10-astra.conf"] {
            assert!(
                files.add(&format!("write /etc/systemd/system/{unit} (0644; 9 bytes, sha256 ab)"), second)
            );
        }
        assert!(files.add("remove /run/astra/trial-1.env", second));
        assert!(!files.add("remove the image r@sha256:ab", second));
        assert!(!files.add("reload systemd's unit files", second));
        let line = "files: create 1 in /run/astra, write 3 in /etc/systemd/system, remove 1 in /run/astra";
        assert_eq!(files.take(), Some((line.to_owned(), 5 * second)));
    }
}
