//! A release: the images of all services by digest, and the fingerprint of the config they run with, numbered per
//! host.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::digest::Digest;
use super::envfile::ManagedLines;
use super::fingerprint::Fingerprint;
use super::image::PinnedImage;
use super::instance::ServiceName;

/// A release in the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// From 1, counted up per host and never reused after a commit.
    pub number: u64,
    /// The image of the app, and of all services without one of their own, by its digest.
    pub image: PinnedImage,
    /// The images of services that have their own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub images: BTreeMap<ServiceName, PinnedImage>,
    /// Covers environment, arguments, commands, ports, and the images in `images`.
    pub fingerprint: Fingerprint,
}

impl Release {
    /// Whether both are of the same images. A service with an image of its own in only one of them does not count:
    /// it came or went with the config.
    pub fn same_images(&self, other: &Self) -> bool {
        let same = |(name, image): (&ServiceName, &PinnedImage)| {
            other.images.get(name).is_none_or(|of| of.digest == image.digest)
        };
        self.image.digest == other.image.digest && self.images.iter().all(same)
    }

    /// Its digests in short form, those of services with their name: `sha256:9a4d0f88f07d, front sha256:4f121600410b`.
    pub fn short(&self) -> String {
        self.image.digest.short().to_owned() + &self.own_short()
    }

    /// The same with the whole name of the app's image.
    pub fn named(&self) -> String {
        self.image.to_string() + &self.own_short()
    }

    fn own_short(&self) -> String {
        self.images.iter().map(|(name, image)| format!(", {name} {}", image.digest.short())).collect()
    }

    /// Whether it has each image of `other`.
    pub fn covers(&self, other: &Self) -> bool {
        other.beyond(self).is_empty()
    }

    /// The images that `other` does not have.
    pub fn beyond(&self, other: &Self) -> BTreeMap<ServiceName, Digest> {
        let new = |(name, image): &(ServiceName, &PinnedImage)| {
            other.image_of(*name).is_none_or(|of| of.digest != image.digest)
        };
        self.by_service().filter(new).map(|(name, image)| (name, image.digest.clone())).collect()
    }

    /// Whether it has all of these images.
    pub fn has(&self, images: &BTreeMap<ServiceName, Digest>) -> bool {
        images.iter().all(|(name, digest)| self.image_of(*name).is_some_and(|of| of.digest == *digest))
    }

    fn image_of(&self, service: ServiceName) -> Option<&PinnedImage> {
        if service.is_app() { Some(&self.image) } else { self.images.get(&service) }
    }

    /// The images by service: that of the app, and those of services that have their own.
    pub fn by_service(&self) -> impl Iterator<Item = (ServiceName, &PinnedImage)> {
        let own = self.images.iter().map(|(name, image)| (*name, image));
        std::iter::once((ServiceName::app(), &self.image)).chain(own)
    }

    /// The images, that of the app first.
    pub fn all_images(&self) -> impl Iterator<Item = &PinnedImage> {
        std::iter::once(&self.image).chain(self.images.values())
    }

    /// The digests of the images, that of the app first.
    pub fn digests(&self) -> impl Iterator<Item = &Digest> {
        self.all_images().map(|image| &image.digest)
    }

    /// Whether the services of `lines` run these images.
    pub fn is_of(&self, lines: &ManagedLines) -> bool {
        let runs =
            |(name, image): (&ServiceName, &PinnedImage)| lines.of(*name).is_none_or(|of| of.image == *image);
        self.image == lines.app.image && self.images.iter().all(runs)
    }
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
