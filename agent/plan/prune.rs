//! Housekeeping after a run. Images that run, are on trial or are rollback targets are never removed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::model::digest::Digest;
use crate::model::entry::Verb;
use crate::model::envfile::ManagedLines;
use crate::model::history::History;
use crate::model::image::PinnedImage;
use crate::model::name::LAST_APP_IMAGE;
use crate::model::release::Release;
use crate::model::step::{Content, Step};

use super::policy::VerbPolicy;
use super::{Inputs, accessories};

/// The steps after every run, whatever its outcome: update `last_app_image` to the rollback target, and
/// remove left-over containers and surplus images. A failure here is a warning. Reconcile alone pulls a lost image
/// again: a user waits for the end of any other run, and perhaps for its undo.
pub fn housekeeping(inputs: &Inputs<'_>, verb: Verb) -> Vec<Step> {
    let seen = inputs.observed.files.get(Path::new(LAST_APP_IMAGE));
    let mut steps: Vec<_> =
        pointer(inputs.history, seen.map(|file| file.bytes.as_slice())).into_iter().collect();
    if VerbPolicy::of(verb).pulls_way_back {
        steps.extend(
            lost_way_back(inputs).into_iter().flat_map(|image| [Step::Pull { image }, Step::FlushImages]),
        );
    }
    let strays = inputs.observed.strays.iter();
    steps.extend(strays.map(|stray| Step::RemoveContainer { container: stray.clone() }));
    steps.extend(images(inputs));
    steps
}

/// The images of the rollback target that were removed from this host.
pub fn lost_way_back(inputs: &Inputs<'_>) -> Vec<PinnedImage> {
    let observed = inputs.observed;
    let answers = observed.engine.as_ref().is_some_and(|engine| !engine.version.is_empty());
    let target = inputs.history.rollback_target().filter(|_| answers);
    let lost = |image: &&PinnedImage| {
        let here = observed.images.iter().any(|seen| seen.repo_digests.contains(image));
        // A power cut during the pull leaves an image that is listed and may be empty.
        !here || observed.store_suspect && observed.unflushed.contains(image)
    };
    let own = target.into_iter().flat_map(|target| &target.images);
    // A rollback starts no service that left the config.
    let own = own.filter(|(name, _)| inputs.config.service(**name).is_some_and(|of| of.image.is_some()));
    let images = target.map(|target| &target.image).into_iter().chain(own.map(|(_, image)| image));
    images.filter(lost).cloned().collect()
}

/// The step that corrects `last_app_image`, whose content is `seen`: written if it differs, removed if there is
/// no rollback target.
pub fn pointer(history: &History, seen: Option<&[u8]>) -> Option<Step> {
    let path = PathBuf::from(LAST_APP_IMAGE);
    match history.rollback_target() {
        Some(target) => {
            let bytes = format!("{}\n", target.image).into_bytes();
            let differs = seen.is_none_or(|seen| seen != bytes);
            differs.then_some(Step::WriteFile { path, mode: 0o644, content: Content::Plain(bytes) })
        }
        None => seen.map(|_| Step::RemoveFile { path }),
    }
}

/// Removes images of the app's repository, and those of services, beyond `[deploy] keep`. At least two besides the current one are kept.
fn images(inputs: &Inputs<'_>) -> Vec<Step> {
    // Without a trusted history, no image is known to be surplus.
    if inputs.history.damaged.is_some() || inputs.history.commits.is_empty() {
        return Vec::new();
    }
    let keep = kept(inputs);
    let images = inputs.observed.images.iter();
    let surplus = images.filter(|image| {
        // An image has several digests (index and platform manifest): it is kept if one of them is.
        !image.repo_digests.is_empty() && !image.repo_digests.iter().any(|r| keep.contains(&r.digest))
    });
    let of_services: BTreeSet<_> = inputs.history.releases.iter().flat_map(|r| r.images.values()).collect();
    surplus
        .filter_map(|image| {
            let ours = |image: &&PinnedImage| {
                // Others may use a public repository, too: only images that were part of a release are removed.
                image.repository == inputs.config.image.repository || of_services.contains(*image)
            };
            image.repo_digests.iter().find(ours)
        })
        .map(|image| Step::RemoveImage { image: image.clone() })
        .collect()
}

fn kept(inputs: &Inputs<'_>) -> BTreeSet<Digest> {
    let keep = inputs.config.deploy.keep.max(3);
    let mut digests: BTreeSet<Digest> = inputs.history.newest_digests(keep).into_iter().collect();
    let committed = inputs.committed();
    digests.extend(committed.iter().flat_map(ManagedLines::all).map(|(_, of)| of.image.digest.clone()));
    digests.extend(inputs.history.rollback_target().into_iter().flat_map(Release::digests).cloned());
    let pins = inputs.config.accessories.keys().filter_map(|name| accessories::pinned(inputs, *name).ok()?);
    digests.extend(pins.map(|pin| pin.app.image.digest));
    digests.extend(inputs.caddy_image.map(|image| image.digest.clone()));
    let all = inputs.observed.instances.values().chain(inputs.observed.accessories.values());
    let running = all.filter_map(|i| i.runs.as_ref());
    digests.extend(running.map(|r| r.image.digest.clone()));
    digests
}
