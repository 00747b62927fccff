//! Resolves a request to the images of a release: tags to digests, digests checked, the rollback target from the
//! history.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, anyhow};

use super::{Event, Reconciler, Refused, Report, Snapshot, VerbRequest};
use crate::config::{OwnImage, Service};
use crate::model::digest::Digest;
use crate::model::entry::Verb;
use crate::model::envfile::ManagedLines;
use crate::model::history::{Held, History, RunRecord};
use crate::model::image::{DigestArg, PinnedImage, Repository, TrackedImage};
use crate::model::instance::ServiceName;
use crate::model::name::CADDY_UNIT;
use crate::model::problem::Problem;
use crate::model::release::Release;
use crate::model::step::Step;
use crate::model::unit::UnitSeen;
use crate::plan::release::Request;

/// A registry answers a HEAD in milliseconds; the rest is for retries.
const RESOLVE: Duration = Duration::from_secs(30);
const RETRIES: u32 = 5;

/// The release that a verb asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Selector {
    /// No release: only keep what is committed.
    Keep,
    /// The committed images, with today's environment and arguments.
    Committed,
    /// The newest digest of each tracked tag.
    Tracked,
    /// Images from the command line, for these services; the others keep theirs.
    Chosen(BTreeMap<ServiceName, Choice>),
    /// An earlier release.
    Rollback(RollbackTarget),
    /// The committed release, in new containers.
    Restart,
    /// No release: this accessory.
    Accessory(ServiceName),
}

/// An image from the command line, of the service's own repository.
#[derive(Clone, Debug, PartialEq)]
pub enum Choice {
    /// The newest digest of another tag.
    Tag(TrackedImage),
    /// A digest.
    Digest(DigestArg),
}

impl From<OwnImage> for Choice {
    fn from(image: OwnImage) -> Self {
        match image {
            OwnImage::Tracked(image) => Self::Tag(image),
            OwnImage::Pinned(PinnedImage { repository, digest }) => {
                Self::Digest(DigestArg { repository: Some(repository), digest })
            }
        }
    }
}

/// The target of a rollback.
#[derive(Clone, Debug, PartialEq)]
pub enum RollbackTarget {
    /// The nearest earlier commit of other images that is not held.
    Nearest,
    /// The release with this number.
    Release(u64),
    /// The newest release with this digest.
    Digest(Digest),
}

impl Selector {
    /// An image of this digest for the app.
    pub fn digest(digest: DigestArg) -> Self {
        Self::Chosen(BTreeMap::from([(ServiceName::app(), Choice::Digest(digest))]))
    }

    /// An image was chosen by hand: this pins it until the next plain deploy, and only a problem of the
    /// release itself refuses it.
    pub fn by_hand(&self) -> bool {
        match self {
            Self::Keep | Self::Committed | Self::Tracked | Self::Restart | Self::Accessory(_) => false,
            Self::Chosen(_) | Self::Rollback(_) => true,
        }
    }
}

impl Reconciler<'_> {
    /// The request for the planner. Nothing is written before this succeeds.
    ///
    /// # Errors
    ///
    /// No such release or service is known, the registry has no such tag, or an image is not of the service's
    /// repository.
    pub async fn request(&self, ask: &VerbRequest, snapshot: &Snapshot) -> Result<Request, Refused> {
        let committed = self.inputs(snapshot).committed();
        let committed = committed.as_ref();
        let target = match &ask.selector {
            Selector::Rollback(back) => Some(back_to(back, snapshot, ask.force)?),
            _ => None,
        };
        let app = match target {
            Some(release) => release.image.clone(),
            None => self.image(ask, &self.config.app, committed).await?.ok_or_else(nothing_committed)?,
        };
        let mut images = BTreeMap::new();
        for service in self.config.others.values().filter(|service| service.image.is_some()) {
            let kept = self.image(ask, service, committed);
            let image = match target.map(|release| (release, release.images.get(&service.name))) {
                Some((_, Some(image))) => Some(image.clone()),
                // It came later and stays as it is, unless it still runs the image of the app.
                Some((release, None)) => kept.await?.map(|kept| match committed {
                    Some(lines) if lines.app.image == kept => release.image.clone(),
                    _ => kept,
                }),
                None => kept.await?,
            };
            images.extend(image.map(|image| (service.name, image)));
        }
        Ok(Request {
            image: app,
            images,
            only: ask.only.clone(),
            migrate: ask.migrate,
            force: ask.force || target.is_some(),
            automatic: ask.verb == Verb::Reconcile,
            lenient: target.is_some(),
            restart: matches!(ask.selector, Selector::Restart),
            refresh: false,
            soak: ask.soak,
        })
    }

    /// The image that a deploy starts in `service`: the chosen one, that of its tag, or the committed one if the
    /// command leaves the service as it is. `None`: the service stays out.
    async fn image(
        &self,
        ask: &VerbRequest,
        service: &Service,
        committed: Option<&ManagedLines>,
    ) -> Result<Option<PinnedImage>, Refused> {
        let own = self.config.image_of(service);
        let chosen = match &ask.selector {
            Selector::Chosen(chosen) => chosen.get(&service.name),
            _ => None,
        };
        let follows = match &ask.selector {
            Selector::Tracked => ask.only.includes(service),
            // The first release of a host has all services.
            Selector::Chosen(_) => committed.is_none(),
            _ => false,
        };
        Ok(match chosen {
            Some(choice) => Some(self.chosen(service, own.repository(), choice).await?),
            None if follows => Some(self.newest(&own).await?),
            None => committed.and_then(|lines| Some(lines.of(service.name)?.image.clone())),
        })
    }

    /// # Errors
    /// The command names a service that no release has, or chooses an image for one without its own.
    pub(super) fn know_services(&self, ask: &VerbRequest) -> Result<(), Refused> {
        let none = BTreeMap::new();
        let chosen = if let Selector::Chosen(chosen) = &ask.selector { chosen } else { &none };
        for name in ask.only.0.iter().chain(chosen.keys()) {
            self.config.service_of_release(*name)?;
        }
        let shares = |name: &&ServiceName| {
            !name.is_app() && self.config.service(**name).is_some_and(|s| s.image.is_none())
        };
        if let Some(name) = chosen.keys().find(shares) {
            let what = format!("{name} has no image of its own: it runs that of the app");
            return Err(Problem::config(
                "image",
                what,
                "leave its name out, or give it an `image` in agent.toml",
            )
            .into());
        }
        Ok(())
    }

    /// The digest of an image of the command line.
    async fn chosen(
        &self,
        service: &Service,
        ours: &Repository,
        choice: &Choice,
    ) -> Result<PinnedImage, Refused> {
        let named = match choice {
            Choice::Tag(tag) => Some(&tag.repository),
            Choice::Digest(arg) => arg.repository.as_ref(),
        };
        if let Some(named) = named.filter(|named| *named != ours) {
            let what = format!("{named} is not the repository of {}, {ours}", service.name);
            let table =
                if service.name.is_app() { "app".to_owned() } else { format!("services.{}", service.name) };
            return Err(Problem::config(
                "repository",
                what,
                format!("to move there, change `image` in [{table}]"),
            )
            .into());
        }
        match choice {
            Choice::Tag(tag) => self.resolve(tag).await,
            Choice::Digest(arg) => Ok(PinnedImage { repository: ours.clone(), digest: arg.digest.clone() }),
        }
    }

    /// The current digest of the tag.
    async fn resolve(&self, tracked: &TrackedImage) -> Result<PinnedImage, Refused> {
        (self.watch)(&Event::Note(&format!("resolving {tracked}")));
        let digest = tokio::select! {
            digest = self.host.registry.resolve(tracked, RESOLVE, RETRIES) => digest.map_err(anyhow::Error::new)?,
            signal = self.host.signals.wait() => return Err(anyhow!("stopped by {signal}: no release was touched").into()),
        };
        Ok(PinnedImage { repository: tracked.repository.clone(), digest })
    }

    /// The digest for caddy.env, if it has none yet: resolved once per host.
    pub(super) async fn find_caddy_image(&self, snapshot: &mut Snapshot) -> Result<(), Refused> {
        if snapshot.caddy_image.is_some() {
            return Ok(());
        }
        snapshot.caddy_image = Some(self.fetch_caddy_image().await?);
        Ok(())
    }

    /// Pulls Caddy's image again if the engine has lost it, since a Caddy that is down could not start. A
    /// failure is reported, and the rest of the host is still repaired.
    pub(super) async fn restore_caddy_image(&self, snapshot: &Snapshot, report: &mut Report) {
        let is_up = snapshot.observed.units.get(CADDY_UNIT).is_some_and(UnitSeen::is_active);
        let Some(image) = snapshot.caddy_image.as_ref().filter(|_| !is_up) else { return };
        if let Err(refused) = self.have_image(image).await {
            report.warn(&format!("fetching the image of Caddy: {refused}"));
        }
    }

    /// Pulls the current image of `[caddy] image` and returns its digest.
    pub(super) async fn fetch_caddy_image(&self) -> Result<PinnedImage, Refused> {
        let image = self.newest(&self.config.caddy.image).await?;
        self.have_image(&image).await?;
        Ok(image)
    }

    /// The current digest of a tag, or the digest itself.
    pub(super) async fn newest(&self, image: &OwnImage) -> Result<PinnedImage, Refused> {
        match image {
            OwnImage::Pinned(image) => Ok(image.clone()),
            OwnImage::Tracked(tracked) => self.resolve(tracked).await,
        }
    }

    /// Pulls an image that the engine does not have.
    pub(super) async fn have_image(&self, image: &PinnedImage) -> Result<(), Refused> {
        let engine = self.host.engine.as_ref().context("the container engine does not answer")?;
        if self.host.store_is_suspect()? || !engine.has_image(image).await? {
            (self.watch)(&Event::Note(&format!("pulling {image}")));
            self.host.perform(&Step::Pull { image: image.clone() }).await?;
            self.host.perform(&Step::FlushImages).await?;
        }
        Ok(())
    }
}

fn nothing_committed() -> Problem {
    Problem::host("installed", "no image is committed yet", "`astra-agent install` begins")
}

/// The nearest earlier release is held: the attempt to go there may have failed for a temporary reason.
/// Repeating the command must not silently go to a different release.
fn held_back(held: &Held, behind: Option<&Release>) -> Problem {
    let further = behind.map_or_else(String::new, |release| {
        format!("; `astra-agent rollback --to {0}` goes past it to release {0}", release.number)
    });
    let reason = held.reason.lines().next().unwrap_or_default();
    let what = format!(
        "{} is held since run {}, with release {}: {reason}",
        held.short(),
        held.run,
        held.release.number
    );
    Problem::host("held", what, format!("`astra-agent rollback --force` goes to it all the same{further}"))
}

/// `history` shows run numbers, too: the two are easily confused.
fn no_release(number: u64, history: &History) -> String {
    let run = history.runs.iter().find(|run| run.id == number);
    let meant = run.and_then(|run| Some((run.opened()?.verb, run.opened()?.new?.number)));
    let meant = meant.map(|(verb, release)| {
        format!("; {number} is the number of a run: that {} was of release {release}", verb.as_str())
    });
    format!("no release {number} ever served on this host{}", meant.unwrap_or_default())
}

fn back_to<'a>(back: &RollbackTarget, snapshot: &'a Snapshot, force: bool) -> Result<&'a Release, Refused> {
    let history = &snapshot.history;
    if let (RollbackTarget::Nearest, false, Some((held, behind))) = (back, force, history.way_back_held()) {
        return Err(held_back(held, behind).into());
    }
    let served = |release: &Release| {
        let mut committed = history.runs.iter().filter_map(RunRecord::committed);
        let alone = release.images.is_empty() && history.knows(&release.image.digest);
        alone || committed.any(|one| one.covers(release))
    };
    let found = match back {
        RollbackTarget::Nearest => history.rollback_target(),
        RollbackTarget::Release(number) => history.releases.iter().find(|r| r.number == *number && served(r)),
        RollbackTarget::Digest(digest) => {
            let has = |r: &&Release| r.digests().any(|of| of == digest);
            let other = || history.releases.iter().rev().find(|r| has(r) && served(r));
            history.current().filter(has).or_else(|| history.earlier().find(has)).or_else(other)
        }
    };
    found.ok_or_else(|| {
        let what = match back {
            RollbackTarget::Nearest => "there is no earlier release to roll back to".to_owned(),
            RollbackTarget::Release(number) => no_release(*number, history),
            RollbackTarget::Digest(digest) => format!("{digest} never served on this host"),
        };
        let fix = "`astra-agent history` lists what there is; `deploy-sha` takes any digest";
        Problem::host("no_release", what, fix).into()
    })
}
