//! Floor 4: the reconciler. Lock, load, observe, plan, run, report: every verb takes this path, with its own
//! request.

use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::config::Config;
use crate::host::Host;
use crate::host::instance::drain::NoneReady;
use crate::host::lock::Lock;
use crate::journal::Journal;
use crate::model::entry::Verb;
use crate::model::fingerprint::HostKey;
use crate::model::history::History;
use crate::model::image::{DigestArg, PinnedImage};
use crate::model::name::INSTALLED;
use crate::model::observed::{Engine, Observed};
use crate::model::outcome::Outcome;
use crate::model::plan::Plan;
use crate::model::problem::{Cause, Problem};
use crate::model::step_error::StepError;
use crate::model::step_note::StepNote;
use crate::plan::policy::VerbPolicy;
use crate::plan::release::Refusal;
use crate::plan::{keep, moves};

mod accessories;
mod ask;
mod entry;
mod execute;
mod proxy;
mod recover;
mod refresh;
mod refuse;
mod release;
mod repairs;
mod report;
mod resolve;
mod snapshot;

pub use ask::{SYSTEM_ACTOR, VerbRequest};
use refuse::Committed;
pub use report::{Report, Requests};
pub use resolve::{Choice, RollbackTarget, Selector};

/// Progress of a command, for its observer.
#[derive(Debug)]
pub enum Event<'a> {
    /// A run has ended.
    Ended,
    /// A step begins.
    Step {
        /// From 1; undo steps continue the count.
        number: usize,
        /// Number of steps in the plan, without those of an undo.
        of: usize,
        /// The step, by its Display.
        text: &'a str,
        /// It belongs to the undo.
        undoing: bool,
    },
    /// The current wait of a step.
    Detail(&'a str),
    /// The step succeeded.
    Done {
        /// Its note, empty for most.
        told: &'a StepNote,
        /// Time since its [`Event::Step`].
        elapsed: Duration,
    },
    /// The step failed.
    Failed {
        /// The whole error chain.
        error: &'a str,
        /// Time since its [`Event::Step`].
        elapsed: Duration,
    },
    /// A signal came, and the step was abandoned.
    Stopped {
        /// The signal, in words for the user.
        told: &'a str,
        /// Time since its [`Event::Step`].
        elapsed: Duration,
    },
    /// A problem that stops nothing.
    Warning(&'a str),
    /// Progress outside of steps: resolving a tag, closing a cut-off run.
    Note(&'a str),
}

/// Receives events; called from inside steps, so it must not block.
pub type Watch = Rc<dyn Fn(&Event<'_>)>;

/// A refusal or failure before any run.
#[derive(Debug, thiserror::Error)]
#[error("{error:#}")]
pub struct Refused {
    /// Decides the exit code.
    pub cause: Cause,
    /// The chain for the user, with its hint.
    pub error: anyhow::Error,
}

impl Refused {
    /// A refusal because of `cause`.
    pub fn of(cause: Cause, error: impl Into<anyhow::Error>) -> Self {
        Self { cause, error: error.into() }
    }

    /// The process exit code.
    pub fn exit_code(&self) -> u8 {
        self.cause.exit_code()
    }
}

impl From<Problem> for Refused {
    fn from(problem: Problem) -> Self {
        Self::of(problem.cause, problem)
    }
}

impl From<anyhow::Error> for Refused {
    fn from(error: anyhow::Error) -> Self {
        Self::of(Cause::Host, error)
    }
}

impl From<StepError> for Refused {
    fn from(error: StepError) -> Self {
        Self::of(Cause::Host, error)
    }
}

/// The host, its config and its journal.
pub struct Reconciler<'a> {
    /// The host to observe and change.
    pub host: &'a Host,
    /// The desired state, or for a rollback with an invalid config the last valid one.
    pub config: &'a Config,
    /// The record of all runs.
    pub journal: &'a Journal,
    /// The key of the fingerprints.
    pub key: HostKey,
    /// The engine that runs the containers.
    pub engine: Engine,
    /// Absolute path of this binary, for units.
    pub agent: String,
    /// Receives the progress.
    pub watch: Watch,
}

/// The state of the host at one moment.
pub struct Snapshot {
    /// The observed state.
    pub observed: Observed,
    /// The state derived from the journal at the same moment.
    pub history: History,
    /// The image in caddy.env, or the digest found for Caddy's tag; `None`: neither is known yet.
    pub caddy_image: Option<PinnedImage>,
}

impl Reconciler<'_> {
    /// Carries out `ask` under `lock`.
    ///
    /// # Errors
    ///
    /// The request is refused, and nothing is changed; a run that fails later gives a report.
    pub async fn converge(&self, ask: &VerbRequest, lock: &Lock) -> Result<Report, Refused> {
        let begun = Instant::now();
        let mut report = Report::new(ask.verb);
        self.close_open_runs(ask, lock, &mut report).await?;
        if ask.verb == Verb::Recover {
            self.forget_killed_units().await?;
        }
        let history = self.journal.history()?;
        self.refuse_in_safe_mode(ask, &history)?;
        self.know_services(ask)?;
        let due = self.housekeeping_is_due(ask.verb, &history);
        let committed = self.committed(history)?;
        if !self.change_beside(ask, &mut report).await? {
            return Ok(self.close_report(report, begun).await);
        }
        let mut before = self.host.caddy.metrics().await.ok();
        let back = matches!(ask.selector, Selector::Rollback(_));
        let down = self.keep_accessories(ask, !back, &mut report).await?;
        let kept = self.keep(ask, &mut report).await;
        let in_order = match kept {
            Ok(true) => true,
            // A rollback goes on even when repairs fail: it must work on a broken host.
            Ok(false) if ask.selector.by_hand() => {
                report.warn("continuing although repairs failed");
                false
            }
            // With this config no release would become ready, and the serving one could not be restored.
            Err(refused) if ask.selector.by_hand() && !refused.error.is::<NoneReady>() => {
                report.warn(&format!("continuing although repairs failed: {refused}"));
                false
            }
            Ok(false) => return Ok(self.close_report(report, begun).await),
            Err(refused) => return Err(refused),
        };
        if !report.nothing_to_do {
            // Repairs may have loaded a config into Caddy, which resets its counters.
            before = self.host.caddy.metrics().await.ok();
        }
        let selector = self.wanted(ask, committed.as_ref());
        if selector.is_some() && down.is_some() && !back && !ask.force {
            // A release that needs it would fail, and be held for that.
            (report.outcome, report.error) = (Outcome::Incomplete, down);
            return Ok(self.close_report(report, begun).await);
        }
        if selector.is_some() || down.is_none() {
            self.releases(ask, selector, committed.as_ref(), lock, &mut report).await?;
        }
        if down.is_some() && ask.selector == Selector::Keep && report.outcome == Outcome::Converged {
            (report.outcome, report.error) = (Outcome::Incomplete, down);
        }
        if !in_order {
            self.repair_again(ask, &mut report).await;
        }
        if !report.nothing_to_do || due {
            self.housekeeping(&mut report).await;
        }
        let after = self.host.caddy.metrics().await.ok();
        report.requests = before.zip(after).and_then(|(b, a)| Requests::between(&b, &a));
        Ok(self.close_report(report, begun).await)
    }

    /// The marker is on disk before the command ends.
    fn note_installed(&self, report: &mut Report) {
        let path = Path::new(INSTALLED);
        let is_there = self.host.files.read(path).is_ok_and(|seen| seen.is_some());
        if !is_there && let Err(error) = self.host.files.write_atomic(path, b"", 0o600) {
            report.warn(&format!("{error:#}; the next `astra-agent install` writes it"));
        }
    }

    async fn close_report(&self, mut report: Report, begun: Instant) -> Report {
        if report.verb == Verb::Install && report.outcome == Outcome::Converged {
            self.note_installed(&mut report);
        }
        report.seconds = begun.elapsed().as_secs_f64();
        report.exit_code = report.outcome.exit_code();
        report
    }

    /// The release that this run deploys, if any. With `auto` the timer follows the tag too, unless the
    /// release is pinned, by a command or in astra.env; a repeated install keeps the pin.
    fn wanted(&self, ask: &VerbRequest, committed: Option<&Committed>) -> Option<Selector> {
        let chosen = committed.filter(|c| c.chosen).map(|c| &c.image);
        let ours = |image: &&PinnedImage| image.repository == self.config.image.repository;
        if let (Verb::Install, Some(image)) = (ask.verb, chosen.filter(ours)) {
            (self.watch)(&Event::Note(
                "the running release is pinned (`astra-agent deploy` follows the tag)",
            ));
            return Some(Selector::digest(DigestArg { repository: None, digest: image.digest.clone() }));
        }
        if !matches!(ask.selector, Selector::Keep | Selector::Accessory(_)) {
            return Some(ask.selector.clone());
        }
        // A paused service would commit one untried release after another.
        let paused = self.config.paused().next().is_some();
        let follows = self.config.deploy.auto && !paused && ask.verb == Verb::Reconcile && ask.automatic();
        (follows && committed.is_some() && chosen.is_none()).then_some(Selector::Tracked)
    }

    /// Repairs everything but the release: files, units, Caddy, and the committed release in every instance.
    /// One change can require another (Caddy's version is only known once it runs), so this repeats until
    /// nothing differs. `false`: it did not get there.
    async fn keep(&self, ask: &VerbRequest, report: &mut Report) -> Result<bool, Refused> {
        for _ in 0..4 {
            let mut snapshot = self.snapshot(false).await?;
            self.refuse_env(&snapshot)?;
            self.find_caddy_image(&mut snapshot).await?;
            if VerbPolicy::of(ask.verb).repairs_drift {
                self.restore_caddy_image(&snapshot, report).await;
            }
            let mut plan = self.keep_plan(&snapshot, ask.verb);
            if plan.is_empty() {
                plan = self.move_plan(&snapshot, ask)?;
            }
            if plan.is_empty() {
                return Ok(true);
            }
            self.check_caddyfiles(&snapshot, &plan).await?;
            let outcome = self.carry_out(ask, &snapshot, &plan, report).await?;
            if outcome != Outcome::Converged {
                return Ok(false);
            }
        }
        report.error = Some("files keep changing: another process overwrites them".to_owned());
        report.outcome = Outcome::Incomplete;
        Ok(false)
    }

    /// The plan that keeps the committed state: all of it, or after a cut-off run only what such a run
    /// leaves.
    pub fn keep_plan(&self, snapshot: &Snapshot, verb: Verb) -> Plan {
        keep::plan(&self.inputs(snapshot), verb)
    }

    /// All steps that a run would take before its release.
    ///
    /// # Errors
    /// A move that the host cannot make.
    pub fn host_plan(&self, snapshot: &Snapshot, ask: &VerbRequest) -> Result<Plan, Refused> {
        self.know_services(ask)?;
        let mut plan = self.keep_plan(snapshot, ask.verb);
        plan.steps.splice(0..0, self.accessory_repairs(snapshot));
        let moves = self.move_plan(snapshot, ask)?;
        plan.steps.extend(moves.steps);
        plan.warnings.extend(moves.warnings);
        Ok(plan)
    }

    /// The plan that moves instances to the configured ports. Only verbs that deploy a release restart
    /// serving instances.
    ///
    /// # Errors
    ///
    /// A configured port is used by another process.
    pub fn move_plan(&self, snapshot: &Snapshot, ask: &VerbRequest) -> Result<Plan, Refused> {
        let inputs = self.inputs(snapshot);
        // A move restarts instances, and a deploy of some services leaves the others alone.
        if !VerbPolicy::of(ask.verb).moves || !ask.only.0.is_empty() {
            return Ok(Plan::default());
        }
        let problems = moves::problems(&inputs);
        if problems.is_empty() {
            return Ok(moves::plan(&inputs));
        }
        Err(Refused::of(Cause::Host, Refusal::Preflight(problems)))
    }
}
