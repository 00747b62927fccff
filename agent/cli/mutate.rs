//! The verbs that change the host. The user's process starts a transient unit of the same binary and waits
//! for it. The work runs inside that unit, so it survives a dropped terminal.

use std::collections::BTreeMap;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use anyhow::anyhow;
use tokio::time::{Instant, sleep};

use super::scale::{self, Applied, Change};
use super::session::{self, Session};
use super::turn::Turn;
use super::{Accessory, How, Mutate, Reconcile, Verb, out, plan, progress, report, unit};
use crate::config::{Config, OwnImage};
use crate::converge::{Choice, Event, Refused, Report, RollbackTarget, Selector, VerbRequest, Watch};
use crate::host::engine::EngineClient;
use crate::host::failpoint;
use crate::host::files::Files;
use crate::host::signals::Signals;
use crate::journal::Journal;
use crate::model::entry::Verb as Name;
use crate::model::history::History;
use crate::model::image::DigestArg;
use crate::model::instance::ServiceName;
use crate::model::name::JOURNAL_DIR;
use crate::model::outcome::Outcome;
use crate::model::problem::{Cause, Problem};
use crate::model::selector::{DigestSelector, ReleaseSelector};
use crate::plan::release::Only;

/// At first boot the network or the registry may not be up yet.
const INSTALL_TRIES: u32 = 4;
const INSTALL_PAUSE: Duration = Duration::from_secs(10);
/// Recover runs unattended, so it can wait long for another run's lock.
const RECOVER_WAITS: Duration = Duration::from_secs(600);

pub(super) async fn run(verb: Verb, json: bool, in_unit: bool) -> Result<u8, Refused> {
    session::root()?;
    let change = change(&verb);
    let (ask, mutate, dry_run) = ask(verb, in_unit)?;
    if dry_run {
        return plan::run(&ask, json).await;
    }
    if !in_unit {
        // Validated before a unit is started, so that a typo in agent.toml starts no run.
        let config = match change {
            Some(_) => scale::base()?,
            None => session::config_for(ask.verb)?.0,
        };
        session::directories()?;
        session::writable()?;
        if ask.selector == Selector::Keep && ask.verb == Name::Reconcile && quiet(json).await? {
            return Ok(0);
        }
        // The engine wakes up while the unit starts.
        if let Some(engine) = EngineClient::detect(Path::new("/"), super::engine::preferred(&config)) {
            engine.wake().await;
        }
        return unit::run_in_unit(ask.verb, json).await;
    }
    inside(&ask, &mutate, change.as_ref(), json).await
}

/// The run itself, inside the unit.
async fn inside(
    ask: &VerbRequest,
    mutate: &Mutate,
    change: Option<&Change>,
    json: bool,
) -> Result<u8, Refused> {
    let (watch, detail) = progress::watch(json);
    let config = config_of_run(ask, change, &watch)?;
    let mut session = Session::open_with(config, detail, Signals::catch()?).await?;
    let wait = mutate.wait.or((ask.verb == Name::Recover).then_some(RECOVER_WAITS));
    let command = format!("astra-agent {}", ask.verb.as_str());
    let turn = Turn { command: &command, actor: &ask.actor, wait, hint: "wait for it with `--wait 60s`" };
    let lock = tokio::select! {
        lock = turn.take(|text| watch(&Event::Note(text)), |waited| watch(&Event::Detail(waited))) => lock?,
        signal = session.host.signals.wait() => {
            let what = format!("{signal} while waiting for another run; nothing was touched");
            let fix = "the other run goes on; `astra-agent history` tells how it ends";
            return Err(Problem::host("lock", what, fix).into());
        }
    };
    failpoint::reach("locked", 0, ask.verb.as_str());
    session.make_key(&lock)?;
    let applied = change.map(|change| scale::apply(&session.host.files, change)).transpose()?;
    session.config = match &applied {
        Some(applied) => applied.config.clone(),
        // Another run may have changed it while this one waited.
        None => session::config_for(ask.verb)?.0,
    };
    session::keep_config(&session.host.files);
    let reconciler = session.reconciler(watch.clone())?;
    let mut tries = 1;
    loop {
        let ended = reconciler.converge(ask, &lock).await;
        reconciler.log_end(ask, &ended);
        if let Some(applied) = &applied {
            settle(applied, &ended, &session.host.files, &watch)?;
        }
        // No retry once something is serving (the boot is done), nor after a failed release (it would fail
        // again).
        let again = ask.verb == Name::Install
            && tries < INSTALL_TRIES
            && session.host.signals.asked().is_none()
            && session.journal.history()?.commits.is_empty();
        if !again || code_of(&ended) != 1 {
            let report = ended?;
            report::show(&report, json);
            return Ok(report.exit_code);
        }
        let pause = INSTALL_PAUSE * 2_u32.pow(tries - 1);
        // The log lines of the failed step were printed already.
        let why = match &ended {
            Ok(report) => report.error.clone().unwrap_or_default(),
            Err(refused) => refused.to_string(),
        };
        let said = format!("attempt {tries} of {INSTALL_TRIES} failed: {}", out::first_line(&why));
        watch(&Event::Warning(&said));
        pause_before(tries + 1, pause, &watch, &session.host.signals).await?;
        tries += 1;
    }
}

/// A change of numbers that took no effect is taken back; one that is half done stays, and the timer goes on with it.
fn settle(
    applied: &Applied,
    ended: &Result<Report, Refused>,
    files: &Files,
    watch: &Watch,
) -> Result<(), Refused> {
    match ended {
        Err(_) => applied.revert(files)?,
        Ok(report) => match report.outcome {
            Outcome::Converged => {}
            Outcome::Failed { .. } | Outcome::Undone { .. } => applied.revert(files)?,
            Outcome::Incomplete => watch(&Event::Warning(
                "the numbers are in force, and the timer goes on with them; `astra-agent resume` takes them back",
            )),
        },
    }
    Ok(())
}

/// The config of the run, with a warning if it is not the present one.
fn config_of_run(ask: &VerbRequest, change: Option<&Change>, watch: &Watch) -> Result<Config, Refused> {
    if !unit::is_sandboxed() {
        watch(&Event::Warning(
            "this run has no sandbox: `astra-agent reconcile` writes the drop-in of its unit",
        ));
    }
    if change.is_some() {
        return scale::base();
    }
    let (config, last) = session::config_for(ask.verb)?;
    if let Some(text) = &last {
        watch(&Event::Warning(text));
    }
    Ok(config)
}

fn code_of(ended: &Result<Report, Refused>) -> u8 {
    match ended {
        Ok(report) => report.exit_code,
        Err(refused) => refused.exit_code(),
    }
}

/// Waits before the next attempt of an install, with a countdown.
async fn pause_before(
    attempt: u32,
    pause: Duration,
    watch: &Watch,
    signals: &Signals,
) -> Result<(), Refused> {
    watch(&Event::Note(&format!(
        "attempt {attempt} of {INSTALL_TRIES} in {} s (Ctrl-C stops)",
        pause.as_secs()
    )));
    let until = Instant::now() + pause;
    while Instant::now() < until {
        let left = until.saturating_duration_since(Instant::now());
        watch(&Event::Detail(&format!("{} s to go", left.as_secs())));
        tokio::select! {
            () = sleep(left.min(Duration::from_secs(1))) => {}
            signal = signals.wait() => {
                let what = format!("stopped by {signal} between two attempts; nothing serves yet");
                let fix = "`astra-agent install` goes on where this one was stopped";
                return Err(Problem::host("installed", what, fix).into());
            }
        }
    }
    Ok(())
}

/// Whether nothing differs. Checked without starting a unit, because the timer asks every few minutes.
async fn quiet(json: bool) -> Result<bool, Refused> {
    let (watch, detail) = progress::watch(true);
    let session = Session::open(detail, Signals::none()).await?;
    let reconciler = session.reconciler(watch)?;
    let snapshot = reconciler.snapshot(false).await?;
    let calm = snapshot.history.damaged.is_none()
        && snapshot.history.open_runs().next().is_none()
        && snapshot.caddy_image.is_some()
        && reconciler.refuse_env(&snapshot).is_ok()
        && reconciler.keep_plan(&snapshot, Name::Reconcile).is_empty()
        && reconciler.accessory_repairs(&snapshot).is_empty()
        && !reconciler.pointer_is_wrong(&snapshot.history);
    if calm {
        session::keep_config(&session.host.files);
        report::nothing_to_do(&reconciler, &snapshot, json);
    }
    Ok(calm)
}

/// The change of the numbers of instances that a verb asks for.
fn change(verb: &Verb) -> Option<Change> {
    match verb {
        Verb::Scale(scale) => Some(Change::To(scale.to.clone())),
        Verb::Pause(some) => Some(Change::Pause(some.services.clone())),
        Verb::Resume(some) => Some(Change::Resume(some.services.clone())),
        _ => None,
    }
}

/// Translates the verb's arguments into a request.
fn ask(verb: Verb, in_unit: bool) -> Result<(VerbRequest, Mutate, bool), Refused> {
    let keep = |name, mutate| (name, Selector::Keep, How { mutate, ..How::default() });
    let only = match &verb {
        Verb::Deploy(deploy) => only(&deploy.services),
        _ => Only::default(),
    };
    let (name, selector, how) = match verb {
        Verb::Install(mutate) => (Name::Install, Selector::Tracked, How { mutate, ..How::default() }),
        Verb::Deploy(d) if d.keep_image => (Name::Deploy, Selector::Committed, d.how),
        Verb::Deploy(d) if d.restart => (Name::Deploy, Selector::Restart, d.how),
        Verb::Deploy(d) => (Name::Deploy, chosen(&d.image)?, d.how),
        Verb::DeploySha(d) => (Name::DeploySha, Selector::digest(known(&d.digest)?), d.how),
        Verb::Rollback(r) => (Name::Rollback, Selector::Rollback(back(r.to.as_ref())?), r.how),
        Verb::Reconcile(Reconcile { dry_run, mutate }) => {
            (Name::Reconcile, Selector::Keep, How { dry_run, mutate, ..How::default() })
        }
        Verb::Recover(mutate) => keep(Name::Recover, mutate),
        Verb::CaddyUpgrade(mutate) => keep(Name::CaddyUpgrade, mutate),
        Verb::Scale(s) => keep(Name::Scale, s.mutate),
        Verb::Pause(s) => keep(Name::Pause, s.mutate),
        Verb::Resume(s) => keep(Name::Resume, s.mutate),
        Verb::Accessory(what) => {
            let (name, one) = match what {
                Accessory::Upgrade(one) => (Name::AccessoryUpgrade, one),
                Accessory::Restart(one) => (Name::AccessoryRestart, one),
            };
            (name, Selector::Accessory(one.name), How { mutate: one.mutate, ..How::default() })
        }
        _ => return Err(anyhow!("not a mutating verb").into()),
    };
    let migrate = how.attempt.policy();
    let ask = VerbRequest {
        verb: name,
        selector,
        only,
        migrate,
        force: how.attempt.force,
        soak: !how.no_soak,
        actor: unit::actor(in_unit),
    };
    Ok((ask, how.mutate, how.dry_run))
}

/// `REF` or `SERVICE=REF`
#[derive(Clone, Debug)]
pub struct ImageOption {
    service: ServiceName,
    image: OwnImage,
}

impl FromStr for ImageOption {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (service, image) = match text.split_once('=') {
            Some((service, image)) => (service.parse().map_err(|error| format!("{error}"))?, image),
            None => (ServiceName::app(), text),
        };
        Ok(Self { service, image: image.parse().map_err(|error| format!("{error}"))? })
    }
}

/// The images of `--image`; without one, the tracked tags.
pub(super) fn chosen(images: &[ImageOption]) -> Result<Selector, Refused> {
    let mut chosen = BTreeMap::new();
    for ImageOption { service, image } in images {
        if chosen.insert(*service, Choice::from(image.clone())).is_some() {
            let what = format!("`--image` names two images of {service}");
            return Err(Problem::config("image", what, "write one").into());
        }
    }
    Ok(if chosen.is_empty() { Selector::Tracked } else { Selector::Chosen(chosen) })
}

/// The services of the command line.
pub(super) fn only(services: &[ServiceName]) -> Only {
    Only(services.iter().copied().collect())
}

/// The target of `--to`; without it, the previous release.
pub(super) fn back(to: Option<&ReleaseSelector>) -> Result<RollbackTarget, Refused> {
    match to {
        None => Ok(RollbackTarget::Nearest),
        Some(ReleaseSelector::Number(number)) => Ok(RollbackTarget::Release(*number)),
        Some(ReleaseSelector::Digest(digest)) => {
            let found = digest.resolve_any(&history()?).map_err(|e| Refused::of(Cause::Config, e))?;
            Ok(RollbackTarget::Digest(found.digest))
        }
    }
}

fn history() -> Result<History, Refused> {
    Ok(Journal::at(JOURNAL_DIR).history()?)
}

/// The full digest; a shortened one is looked up among the releases that this host knows.
pub(super) fn known(digest: &DigestSelector) -> Result<DigestArg, Refused> {
    digest.resolve(&history()?).map_err(|e| Refused::of(Cause::Config, e))
}
