//! A release: an image digest and the fingerprint of the config it runs with, numbered per host.

use serde::{Deserialize, Serialize};

use super::envfile::ManagedLines;
use super::fingerprint::Fingerprint;
use super::image::PinnedImage;

/// A release in the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// From 1, counted up per host and never reused after a commit.
    pub number: u64,
    /// The image by its digest.
    pub image: PinnedImage,
    /// Covers environment, arguments, command and port.
    pub fingerprint: Fingerprint,
}

/// A release with everything needed to start it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// Number, image and fingerprint; in JSON its fields stand beside `lines`.
    #[serde(flatten)]
    pub release: Release,
    /// The managed lines of astra.env and of the trial files.
    pub lines: ManagedLines,
}
