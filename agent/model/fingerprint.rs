//! Fingerprints: equal for equal inputs, and meaningless without the host's key. They cover what changes the
//! container: environment and arguments; not Caddy, cron or `APP_IMAGE`.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// HMAC-SHA-256 (RFC 2104) under the host's key, as 64 hex digits.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fingerprint(String);

/// The host's own random key, 32 bytes, readable by root alone.
#[derive(Clone)]
pub struct HostKey([u8; 32]);

impl HostKey {
    /// The key from the bytes of [`super::name::HOST_KEY`].
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Fingerprint of `parts`; each is prefixed with its length, so that different lists cannot be joined to
    /// the same input.
    pub fn fingerprint<'a>(&self, parts: impl IntoIterator<Item = &'a [u8]>) -> Fingerprint {
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.0) else {
            unreachable!("HMAC takes a key of any length (RFC 2104, 2)")
        };
        for part in parts {
            mac.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            mac.update(part);
        }
        Fingerprint(hex(&mac.finalize().into_bytes()))
    }
}

impl Fingerprint {
    /// The first eight digits, for display.
    pub fn short(&self) -> &str {
        self.0.get(..8).unwrap_or(&self.0)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for HostKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Lower-case hex SHA-256 of `bytes`, which must not hold a secret.
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
