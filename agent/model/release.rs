//! A release: an image digest and the fingerprint of the config it runs with, numbered per host.

use serde::{Deserialize, Serialize};

use super::envfile::ManagedLines;
use super::fingerprint::Fingerprint;
use super::image::PinnedImage;

/// A release in the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    pub number: u64,
    pub image: PinnedImage,
    pub fingerprint: Fingerprint,
}

/// A release with everything needed to start it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    #[serde(flatten)]
    pub release: Release,
    /// The managed lines of astra.env and of the trial files.
    pub lines: ManagedLines,
}
