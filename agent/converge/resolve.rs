//! Resolves a request to one image: the tag to a digest, a digest checked, the rollback target from the
//! history.

use std::time::Duration;

use anyhow::{Context, anyhow};

use super::{Event, Reconciler, Refused, Report, Snapshot, VerbRequest};
use crate::config::OwnImage;
use crate::model::digest::Digest;
use crate::model::history::{Held, History};
use crate::model::image::{DigestArg, PinnedImage, TrackedImage};
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
    /// The committed image, with today's environment and arguments.
    Committed,
    /// The newest digest of the tracked tag.
    Tracked,
    /// The newest digest of another tag of the tracked repository.
    Tag(TrackedImage),
    /// A digest from the command line.
    Digest(DigestArg),
    /// An earlier release.
    Rollback(RollbackTarget),
    /// The committed release, in new containers.
    Restart,
    /// No release: this accessory.
    Accessory(ServiceName),
}

/// The target of a rollback.
#[derive(Clone, Debug, PartialEq)]
pub enum RollbackTarget {
    /// The nearest earlier commit with another digest that is not held.
    Nearest,
    /// The release with this number.
    Release(u64),
    /// The newest release with this digest.
    Digest(Digest),
}

impl Selector {
    /// The digest was chosen by hand: this pins it until the next plain deploy, and only a problem of the
    /// release itself refuses it.
    pub fn by_hand(&self) -> bool {
        match self {
            Self::Keep | Self::Committed | Self::Tracked | Self::Restart | Self::Accessory(_) => false,
            Self::Tag(_) | Self::Digest(_) | Self::Rollback(_) => true,
        }
    }
}

impl Reconciler<'_> {
    /// The request for the planner. Nothing is written before this succeeds.
    ///
    /// # Errors
    ///
    /// No such release is known, the registry has no such tag, or the image is not the app's.
    pub async fn request(&self, ask: &VerbRequest, snapshot: &Snapshot) -> Result<Request, Refused> {
        let image = match &ask.selector {
            Selector::Keep | Selector::Accessory(_) => return Err(anyhow!("asking for no release").into()),
            Selector::Committed => match self.inputs(snapshot).committed() {
                Some(lines) => lines.app.image,
                None => {
                    let fix = "`astra-agent install` begins";
                    return Err(Problem::host("installed", "no image is committed yet", fix).into());
                }
            },
            Selector::Tracked => self.resolve(&self.config.image).await?,
            Selector::Tag(tag) => {
                self.same_repository(&tag.repository.to_string())?;
                self.resolve(tag).await?
            }
            Selector::Digest(arg) => {
                if let Some(repository) = &arg.repository {
                    self.same_repository(&repository.to_string())?;
                }
                PinnedImage { repository: self.config.image.repository.clone(), digest: arg.digest.clone() }
            }
            Selector::Rollback(back) => back_to(back, snapshot, ask.force)?.image.clone(),
            Selector::Restart => match self.inputs(snapshot).committed() {
                Some(committed) => committed.app.image,
                None => {
                    return Err(anyhow!("nothing is committed: there is nothing to restart").into());
                }
            },
        };
        Ok(Request {
            image,
            migrate: ask.migrate,
            force: ask.force || matches!(ask.selector, Selector::Rollback(_)),
            automatic: ask.verb == crate::model::entry::Verb::Reconcile,
            lenient: matches!(ask.selector, Selector::Rollback(_)),
            restart: matches!(ask.selector, Selector::Restart),
            soak: ask.soak,
        })
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

    fn same_repository(&self, named: &str) -> Result<(), Refused> {
        let tracked = self.config.image.repository.to_string();
        if named == tracked {
            return Ok(());
        }
        let what = format!("{named} is not the app's repository {tracked}");
        Err(Problem::config("repository", what, "to move there, change [app] image").into())
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

/// The nearest earlier release is held: the attempt to go there may have failed for a temporary reason.
/// Repeating the command must not silently go to a different release.
fn held_back(held: &Held, behind: Option<&Release>) -> Problem {
    let further = behind.map_or_else(String::new, |release| {
        format!("; `astra-agent rollback --to {0}` goes past it to release {0}", release.number)
    });
    let reason = held.reason.lines().next().unwrap_or_default();
    Problem::host(
        "held",
        format!("release {} is held since run {}: {reason}", held.release.number, held.run),
        format!("`astra-agent rollback --force` tries it again{further}"),
    )
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
    let served = |release: &Release| history.ever_committed.contains(&release.image.digest);
    let found = match back {
        RollbackTarget::Nearest => history.rollback_target(),
        RollbackTarget::Release(number) => history.releases.iter().find(|r| r.number == *number && served(r)),
        RollbackTarget::Digest(digest) => {
            history.releases.iter().rev().find(|r| r.image.digest == *digest && served(r))
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
