//! The changes by `env set` and `env unset` in astra.staged.env: lines of an env file, and a comment for each
//! variable to remove. Written by cli/env.rs and plan/release/, read by plan/.

use std::collections::BTreeSet;

use super::envfile::EnvFile;
use super::name::EnvKey;

/// Prefix of the line of a variable that the next deploy removes.
const UNSET: &str = "# unset ";

/// Changes of the environment that wait for a deploy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Staged {
    /// Lines of `env set`.
    pub set: EnvFile,
    /// Names of `env unset`.
    pub unset: BTreeSet<EnvKey>,
}

impl Staged {
    /// Accepts any bytes, like [`EnvFile::parse`].
    pub fn parse(bytes: &[u8]) -> Self {
        let mut lines = Vec::new();
        let mut unset = BTreeSet::new();
        for line in bytes.split_inclusive(|b| *b == b'\n') {
            match removed(line) {
                Some(key) => _ = unset.insert(key),
                None => lines.extend_from_slice(line),
            }
        }
        Self { set: EnvFile::parse(lines), unset }
    }

    /// The content of astra.staged.env, with one comment for each variable to remove.
    pub fn render(&self) -> Vec<u8> {
        let mut bytes = self.set.render();
        if !bytes.is_empty() && !bytes.ends_with(b"\n") {
            bytes.push(b'\n');
        }
        bytes.extend(self.unset.iter().flat_map(|key| format!("{UNSET}{key}\n").into_bytes()));
        bytes
    }

    /// Whether no variable is to be set or removed.
    pub fn is_empty(&self) -> bool {
        self.set.keys().is_empty() && self.unset.is_empty()
    }

    /// Whether `env` contains all of it.
    pub fn is_in(&self, env: &EnvFile) -> bool {
        self.set.keys().iter().all(|key| env.get(key) == self.set.get(key))
            && self.unset.iter().all(|key| env.get(key.as_str()).is_none())
    }
}

fn removed(line: &[u8]) -> Option<EnvKey> {
    let text = std::str::from_utf8(line).ok()?;
    text.strip_prefix(UNSET)?.trim_end().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn set_and_unset_variables_are_read_back() {
        let text = b"# kept\nA=1\n# unset OLD\nB=2\n# unset no name\n";
        let staged = Staged::parse(text);
        assert_eq!(staged.set.keys(), ["A", "B"]);
        assert_eq!(staged.unset.iter().map(EnvKey::as_str).collect::<Vec<_>>(), ["OLD"]);
        assert_eq!(staged.render(), b"# kept\nA=1\nB=2\n# unset no name\n# unset OLD\n");
        assert_eq!(Staged::parse(&staged.render()), staged);
        assert!(staged.is_in(&EnvFile::parse("A=1\nB=2\nC=3\n")));
        assert!(!staged.is_in(&EnvFile::parse("A=1\nB=2\nOLD=\n")));
        assert!(Staged::parse(b"# only a remark\n").is_empty() && !Staged::parse(b"# unset A").is_empty());
    }
}
