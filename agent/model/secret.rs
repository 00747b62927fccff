//! A value that must never be shown: it prints, and serialises, as `***`.

use std::fmt;

use serde::{Serialize, Serializer};

/// Text that may only be written to an env file or an `Authorization` header.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(String);

impl Secret {
    /// Takes the text as it is, also an empty one.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The bytes themselves. Every caller is a place to audit.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("***")
    }
}
