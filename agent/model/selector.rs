//! A release on the command line: a number, a digest, or the start of one. `history` shows all three.

use std::fmt;
use std::str::FromStr;

use super::digest::Digest;
use super::history::History;
use super::image::{DigestArg, Repository};
use super::release::Release;

/// Enough digits to tell the images of one host apart, and too many for a typing error.
const SHORTEST: usize = 8;
const WHOLE: usize = 64;

/// `<64 hex>`, `sha256:<hex>`, `image@sha256:<hex>`, each also shortened, in upper or lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DigestSelector {
    repository: Option<Repository>,
    /// Lower-case hex digits.
    hex: String,
}

/// The argument of `rollback --to`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReleaseSelector {
    /// The number of a release, at most seven digits.
    Number(u64),
    /// The whole digest or its start.
    Digest(DigestSelector),
}

/// Why a text does not name a release.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSelector {
    /// The text, and a reference to show in the hint.
    #[error("`{0}` is a tag, not a digest: `astra-agent deploy --image {1}`")]
    Tag(String, String),
    /// Not a number, and not in the form of a digest.
    #[error("`{0}` is neither a release number nor a digest")]
    Neither(String),
    /// The text, and the reason as a clause.
    #[error("`{0}` is not a digest: {1}")]
    Form(String, &'static str),
    /// The part before `@` is not a repository.
    #[error("{0}")]
    Repository(#[from] super::image::BadImage),
    /// The start of a digest that no release has.
    #[error(
        "no release of this host has a digest that begins with {0}\n  hint: `astra-agent history` shows those that do; any \
         other digest needs all its 64 digits"
    )]
    Unknown(String),
    /// The start of a digest, and all digests of releases that it fits.
    #[error("{0} is ambiguous: {1}\n  hint: add digits")]
    Ambiguous(String, String),
}

impl FromStr for DigestSelector {
    type Err = BadSelector;

    fn from_str(text: &str) -> Result<Self, BadSelector> {
        let shown: String = text.chars().take(100).collect();
        let (repository, digest) = match text.split_once('@') {
            Some((repository, digest)) => (Some(repository.parse()?), digest),
            None => (None, text),
        };
        let lower = digest.to_ascii_lowercase();
        let hex = lower.strip_prefix("sha256:").unwrap_or(&lower);
        let is_hex = !hex.is_empty() && hex.bytes().all(|b| b.is_ascii_hexdigit());
        if !is_hex && repository.is_none() && !lower.starts_with("sha256:") && is_tag(text) {
            let reference = if text.contains(['/', ':']) { shown.clone() } else { format!("…:{shown}") };
            return Err(BadSelector::Tag(shown, reference));
        }
        let reason = match hex.len() {
            _ if !is_hex => "only the digits 0-9 and a-f may follow `sha256:`",
            0..SHORTEST => "it needs at least 8 digits",
            SHORTEST..=WHOLE => return Ok(Self { repository, hex: hex.to_owned() }),
            _ => "it has more than 64 digits",
        };
        Err(BadSelector::Form(shown, reason))
    }
}

/// The form of a tag, or of a reference with one (OCI distribution specification).
fn is_tag(text: &str) -> bool {
    let tag = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b'/' | b':');
    text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric()) && text.bytes().all(tag)
}

impl FromStr for ReleaseSelector {
    type Err = BadSelector;

    fn from_str(text: &str) -> Result<Self, BadSelector> {
        // A number of eight or more digits is taken for a digest, because no host has that many releases.
        if let Some(number) = text.parse().ok().filter(|_| text.len() < SHORTEST) {
            return Ok(Self::Number(number));
        }
        text.parse().map(Self::Digest).map_err(|error| match error {
            BadSelector::Tag(shown, _) => BadSelector::Neither(shown),
            error => error,
        })
    }
}

impl fmt::Display for DigestSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex)
    }
}

impl DigestSelector {
    /// The digest itself if it is complete, else the one digest of the app in `history` that starts with it.
    ///
    /// # Errors
    ///
    /// No release has such a digest, or several do.
    pub fn resolve(&self, history: &History) -> Result<DigestArg, BadSelector> {
        self.among(history.releases.iter().map(|release| &release.image.digest).collect())
    }

    /// The same among the digests of all services.
    ///
    /// # Errors
    ///
    /// As of [`DigestSelector::resolve`].
    pub fn resolve_any(&self, history: &History) -> Result<DigestArg, BadSelector> {
        self.among(history.releases.iter().flat_map(Release::digests).collect())
    }

    fn among(&self, mut known: Vec<&Digest>) -> Result<DigestArg, BadSelector> {
        let found = |digest| Ok(DigestArg { repository: self.repository.clone(), digest });
        if let Ok(whole) = self.to_string().parse() {
            return found(whole);
        }
        known.retain(|digest| digest.hex().starts_with(&self.hex));
        known.sort();
        known.dedup();
        match known.as_slice() {
            [one] => found((*one).clone()),
            [] => Err(BadSelector::Unknown(self.to_string())),
            several => {
                let several: Vec<_> = several.iter().map(ToString::to_string).collect();
                Err(BadSelector::Ambiguous(self.to_string(), several.join(", ")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::fingerprint::HostKey;

    fn told<T: FromStr<Err = BadSelector>>(text: &str) -> String {
        text.parse::<T>().map(|_| "taken".to_owned()).unwrap_or_else(|error| error.to_string())
    }

    fn history(digests: &[&str]) -> History {
        let release = |(number, hex): (usize, &&str)| Release {
            number: number as u64 + 1,
            image: format!("ghcr.io/a/b@sha256:{hex:0<64}").parse().unwrap(),
            images: std::collections::BTreeMap::new(),
            fingerprint: HostKey::new([0; 32]).fingerprint([b"env".as_slice()]),
        };
        History { releases: digests.iter().enumerate().map(release).collect(), ..History::default() }
    }

    #[test]
    fn an_unambiguous_start_of_a_digest_is_enough() {
        let history = history(&["c56b3cc898c4", "c56b3cc8ffff", "d0525f2251ba", "d0525f2251ba"]);
        let meant = |text: &str| text.parse::<DigestSelector>().unwrap().resolve(&history);
        for text in ["d0525f22", "D0525F2251BA", "sha256:d0525f2251ba", "ghcr.io/a/b@sha256:d0525f2251ba"] {
            assert!(meant(text).unwrap().digest.hex().starts_with("d0525f2251ba0"), "{text}");
        }
        let ambiguous = meant("c56b3cc8").unwrap_err().to_string();
        assert!(ambiguous.starts_with("sha256:c56b3cc8 is ambiguous: sha256:c56b3cc898c40"), "{ambiguous}");
        let unknown = meant("aaaaaaaa").unwrap_err().to_string();
        assert!(unknown.starts_with("no release of this host has a digest that begins with"), "{unknown}");
        // A complete one need not be known, and may be typed in upper case.
        assert_eq!(meant(&"AB".repeat(32)).unwrap().digest.hex(), "ab".repeat(32));
    }

    #[test]
    fn invalid_selectors_are_refused_by_kind() {
        assert_eq!(
            told::<DigestSelector>("latest"),
            "`latest` is a tag, not a digest: `astra-agent deploy --image …:latest`"
        );
        assert_eq!(
            told::<DigestSelector>("ghcr.io/a/b:v1"),
            "`ghcr.io/a/b:v1` is a tag, not a digest: `astra-agent deploy --image ghcr.io/a/b:v1`"
        );
        assert_eq!(told::<DigestSelector>("c56b"), "`c56b` is not a digest: it needs at least 8 digits");
        let long = "a".repeat(65);
        assert_eq!(
            told::<DigestSelector>(&long),
            format!("`{long}` is not a digest: it has more than 64 digits")
        );
        for bad in ["", " ", "sha256:", "sha256:garbage", "sha256:../../x", "-x", "a@b@sha256:ab"] {
            assert_ne!(told::<DigestSelector>(bad), "taken", "{bad}");
        }
        assert_eq!(told::<ReleaseSelector>("v1"), "`v1` is neither a release number nor a digest");
        assert_eq!(told::<ReleaseSelector>("4"), "taken");
        assert_eq!("4".parse(), Ok(ReleaseSelector::Number(4)));
        assert!(matches!("12345678".parse(), Ok(ReleaseSelector::Digest(_))));
    }
}
