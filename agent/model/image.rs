//! Image references: the tracked one (a tag, in the config) and the pinned one (a digest, on the host).
//! Grammar: distribution/reference; short names are refused, because podman and docker read them differently.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::digest::{BadDigest, Digest};

/// Why a text is not an image reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadImage {
    /// The text, at most its first 200 characters, and the reason.
    #[error("`{0}` is not an image reference: {1}")]
    Form(String, &'static str),
    /// The part after `@` is not a digest.
    #[error(transparent)]
    Digest(#[from] BadDigest),
}

/// A registry and a repository in it, e.g. `ghcr.io/almalinux/astra`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Repository {
    registry: String,
    path: String,
}

impl Repository {
    /// Host and optional port of the registry, e.g. `127.0.0.1:5000`.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// Path below the registry, e.g. `almalinux/astra`.
    pub fn path(&self) -> &str {
        &self.path
    }
}

impl FromStr for Repository {
    type Err = BadImage;

    fn from_str(text: &str) -> Result<Self, BadImage> {
        let bad = |reason| Err(BadImage::Form(text.chars().take(200).collect(), reason));
        if text.contains("://") || text.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return bad("it must be plain `registry/repository`, without a transport and without spaces");
        }
        if text.len() > 255 {
            return bad("it is longer than 255 characters");
        }
        let Some((registry, path)) = text.split_once('/') else {
            return bad("it must name its registry, e.g. `docker.io/library/NAME`");
        };
        let (host, port) = match registry.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (registry, None),
        };
        let label = |l: &str| {
            !l.is_empty()
                && !l.starts_with('-')
                && !l.ends_with('-')
                && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        };
        if !(host.contains('.') || host == "localhost" || port.is_some()) {
            return bad("it must name its registry, e.g. `docker.io/library/NAME`");
        }
        if !host.split('.').all(label) {
            return bad("its registry is not a host name");
        }
        if port.is_some_and(|p| !p.parse::<u16>().is_ok_and(|p| p > 0) || p.starts_with('+')) {
            return bad("its registry port is not a number from 1 to 65535");
        }
        let part = |p: &str| {
            let edge = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
            edge(p.bytes().next())
                && edge(p.bytes().next_back())
                && p.bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-'))
                && !p.contains("..")
        };
        if !path.split('/').all(part) {
            return bad("its repository may only have lower-case letters, digits, `.`, `_`, `-` and `/`");
        }
        Ok(Self { registry: registry.to_owned(), path: path.to_owned() })
    }
}

/// The tagged reference that `deploy` resolves to a digest.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TrackedImage {
    /// Registry and path, without the tag.
    pub repository: Repository,
    /// At most 128 letters, digits, `_`, `.` and `-`; `latest` if the text has none.
    pub tag: String,
}

impl FromStr for TrackedImage {
    type Err = BadImage;

    fn from_str(text: &str) -> Result<Self, BadImage> {
        let bad = |reason| Err(BadImage::Form(text.chars().take(200).collect(), reason));
        if text.contains('@') {
            return bad("the tracked image takes a tag, not a digest (to pin one, use `deploy-sha`)");
        }
        let slash = text.rfind('/').map_or(0, |at| at + 1);
        let (repository, tag) = match text.get(slash..).and_then(|last| last.find(':')) {
            Some(colon) => {
                (text.get(..slash + colon).unwrap_or(""), text.get(slash + colon + 1..).unwrap_or(""))
            }
            None => (text, "latest"),
        };
        let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        if tag.len() > 128
            || !tag.bytes().next().is_some_and(word)
            || !tag.bytes().all(|b| word(b) || matches!(b, b'.' | b'-'))
        {
            return bad("its tag may only have letters, digits, `_`, `.` and `-`, at most 128");
        }
        Ok(Self { repository: repository.parse()?, tag: tag.to_owned() })
    }
}

/// `registry/repository@sha256:…`: the reference that runs.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PinnedImage {
    /// Registry and path, without a tag.
    pub repository: Repository,
    /// Digest of the manifest, or of the index of a multi-platform image.
    pub digest: Digest,
}

impl FromStr for PinnedImage {
    type Err = BadImage;

    fn from_str(text: &str) -> Result<Self, BadImage> {
        let bad = |reason| Err(BadImage::Form(text.chars().take(200).collect(), reason));
        let Some((repository, digest)) = text.split_once('@') else {
            return bad("it must be pinned, `registry/repository@sha256:…`");
        };
        let slash = repository.rfind('/').map_or(0, |at| at + 1);
        if repository.get(slash..).is_some_and(|last| last.contains(':')) {
            return bad("it has a tag and a digest; podman would silently ignore the tag, so name one");
        }
        Ok(Self { repository: repository.parse()?, digest: digest.parse()? })
    }
}

/// An image on the command line: `<64 hex>`, `sha256:<hex>` or `image@sha256:<hex>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DigestArg {
    /// `None`: the tracked image's repository.
    pub repository: Option<Repository>,
    /// The digest, with `sha256:` also where the argument has the digits alone.
    pub digest: Digest,
}

impl FromStr for DigestArg {
    type Err = BadImage;

    fn from_str(text: &str) -> Result<Self, BadImage> {
        if text.contains('@') {
            let PinnedImage { repository, digest } = text.parse()?;
            return Ok(Self { repository: Some(repository), digest });
        }
        let digest = if text.contains(':') { text.parse()? } else { format!("sha256:{text}").parse()? };
        Ok(Self { repository: None, digest })
    }
}

macro_rules! as_text {
    ($name:ident, |$self:ident, $f:ident| $body:expr) => {
        impl fmt::Display for $name {
            fn fmt(&$self, $f: &mut fmt::Formatter<'_>) -> fmt::Result {
                $body
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl TryFrom<String> for $name {
            type Error = BadImage;

            fn try_from(text: String) -> Result<Self, BadImage> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.to_string()
            }
        }
    };
}

as_text!(Repository, |self, f| write!(f, "{}/{}", self.registry, self.path));
as_text!(TrackedImage, |self, f| write!(f, "{}:{}", self.repository, self.tag));
as_text!(PinnedImage, |self, f| write!(f, "{}@{}", self.repository, self.digest));

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

    #[test]
    fn three_ways_to_name_a_digest() {
        for text in [HEX.to_owned(), format!("sha256:{HEX}"), format!("ghcr.io/almalinux/astra@sha256:{HEX}")]
        {
            assert_eq!(text.parse::<DigestArg>().unwrap().digest.hex(), HEX);
        }
        for bad in ["sha256:", "sha256:garbage", "sha256:../../x", " ", "evil.example/x:latest", "", "-x"] {
            assert!(bad.parse::<DigestArg>().is_err(), "{bad}");
        }
        assert!(format!("ghcr.io/a/b:tag@sha256:{HEX}").parse::<DigestArg>().is_err());
        assert!(format!("a@b@sha256:{HEX}").parse::<DigestArg>().is_err());
    }

    #[test]
    fn tracked_references() {
        let image: TrackedImage = "127.0.0.1:5000/astra".parse().unwrap();
        assert_eq!((image.repository.registry(), image.tag.as_str()), ("127.0.0.1:5000", "latest"));
        assert_eq!("ghcr.io/a/b:v1".parse::<TrackedImage>().unwrap().to_string(), "ghcr.io/a/b:v1");
        for bad in [
            "astra:latest",
            "docker://ghcr.io/a/b:c",
            "ghcr.io/A/b:c",
            "ghcr.io/a/b:c d",
            "ghcr.io/a/../b:c",
            "ghcr.io:99999/a:b",
            "ghcr.io/a:",
            "-x.io/a:b",
            "[::1]:5000/a:b",
            "ghсr.io/a:b",
        ] {
            assert!(bad.parse::<TrackedImage>().is_err(), "{bad}");
        }
    }
}
