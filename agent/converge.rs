//! Floor 4: the foreman. Lock, load, observe, plan, run, report: every verb is this one path with another
//! request, so a reader who knows it knows them all.

use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::config::Config;
use crate::host::lock::Lock;
use crate::host::observe::Scope;
use crate::host::{Host, failpoint, perform};
use crate::journal::Journal;
use crate::model::entry::{Entry, Verb};
use crate::model::fingerprint::HostKey;
use crate::model::history::History;
use crate::model::image::{DigestArg, PinnedImage};
use crate::model::observed::{Engine, Observed};
use crate::model::outcome::Outcome;
use crate::model::plan::Plan;
use crate::model::step::Step;
use crate::plan::instances::{self, Reach};
use crate::plan::release::{Refusal, Request};
use crate::plan::{Inputs, files, moves, prune, release, units};
use crate::run::{self, Failure, Performed};

mod proxy;
mod recover;
mod refuse;
mod report;
mod resolve;

use refuse::Committed;
use report::Book;
pub use report::{Report, Requests};
pub use resolve::{Back, Want};

/// What is going on, for whoever watches.
#[derive(Debug)]
pub enum Event<'a> {
    /// A run has ended.
    Ended,
    Step {
        number: usize,
        of: usize,
        text: &'a str,
        undoing: bool,
    },
    /// What the step waits for right now.
    Detail(&'a str),
    Done {
        note: Option<&'a str>,
        elapsed: Duration,
    },
    Failed {
        error: &'a str,
        elapsed: Duration,
    },
    Warning(&'a str),
    /// Something that is no step: resolving a tag, closing a cut-off run.
    Note(&'a str),
}

/// Takes events; called from inside steps, so it must not block.
pub type Watch = Rc<dyn Fn(&Event<'_>)>;

/// What a verb asks of the foreman.
#[derive(Clone, Debug)]
pub struct Ask {
    pub verb: Verb,
    pub want: Want,
    pub migrate: crate::plan::migrations::Wish,
    pub force: bool,
    /// Login name behind the command; [`NOBODY`] when a timer asks.
    pub actor: String,
}

/// The actor of a run that no person asked for.
pub const NOBODY: &str = "systemd";

impl Ask {
    fn automatic(&self) -> bool {
        self.actor == NOBODY
    }
}

/// A refusal or failure before any run, with its exit code.
#[derive(Debug, thiserror::Error)]
#[error("{error:#}")]
pub struct Refused {
    pub exit_code: u8,
    pub error: anyhow::Error,
}

impl Refused {
    fn of(exit_code: u8, error: impl Into<anyhow::Error>) -> Self {
        Self { exit_code, error: error.into() }
    }
}

impl From<anyhow::Error> for Refused {
    fn from(error: anyhow::Error) -> Self {
        Self::of(1, error)
    }
}

/// The host with the config it is held against.
pub struct Foreman<'a> {
    pub host: &'a Host,
    pub config: &'a Config,
    pub journal: &'a Journal,
    pub key: HostKey,
    pub engine: Engine,
    /// Absolute path of this binary, for units.
    pub agent: String,
    pub watch: Watch,
}

/// What is known of the host at one moment.
pub struct Look {
    pub observed: Observed,
    pub history: History,
    pub caddy_image: Option<PinnedImage>,
}

impl Foreman<'_> {
    /// Carry out `ask` under `lock`.
    pub async fn converge(&self, ask: &Ask, lock: &Lock) -> Result<Report, Refused> {
        let begun = Instant::now();
        let mut report = Report::new(ask.verb);
        self.close_open_runs(ask, lock, &mut report).await?;
        if ask.verb == Verb::Recover {
            self.forget_killed_units().await?;
        }
        let history = self.journal.history()?;
        self.refuse_in_safe_mode(ask, &history)?;
        let committed = self.committed(history)?;
        if ask.verb == Verb::CaddyUpgrade && !self.upgrade_caddy(ask, &mut report).await? {
            return Ok(self.close_report(report, begun).await);
        }
        let before = self.host.caddy.metrics().await.ok();
        let kept = self.keep(ask, &mut report).await;
        match kept {
            Ok(true) => {}
            // The way back must work on the worst night, whatever else does not.
            Ok(false) if ask.want.by_hand() => {
                report.warn("going on although the host could not be kept in order")
            }
            Err(refused) if ask.want.by_hand() => report.warn(&format!("going on although: {refused}")),
            Ok(false) => return Ok(self.close_report(report, begun).await),
            Err(refused) => return Err(refused),
        }
        if let Some(want) = self.wanted(ask, committed.as_ref()) {
            self.release(&Ask { want, ..ask.clone() }, &mut report).await?;
        }
        // A killed run may have been killed at tidying up.
        if !report.nothing_to_do || ask.verb == Verb::Recover {
            self.housekeeping(&mut report).await;
        }
        let after = self.host.caddy.metrics().await.ok();
        report.requests = before.zip(after).map(|(b, a)| Requests::between(&b, &a));
        Ok(self.close_report(report, begun).await)
    }

    async fn close_report(&self, mut report: Report, begun: Instant) -> Report {
        report.seconds = begun.elapsed().as_secs_f64();
        report.exit_code = report.outcome.exit_code();
        report
    }

    /// The release that this run is to bring into service, if any: with `auto` the timer follows the tag too,
    /// unless a person chose what runs, be it in astra.env; and an install that is run again keeps that choice.
    fn wanted(&self, ask: &Ask, committed: Option<&Committed>) -> Option<Want> {
        let chosen = committed.filter(|c| c.chosen).map(|c| &c.image);
        let ours = |image: &&PinnedImage| image.repository == self.config.app.image.repository;
        if let (Verb::Install, Some(image)) = (ask.verb, chosen.filter(ours)) {
            (self.watch)(&Event::Note(
                "a person chose what runs here: it stays (`astra-agent deploy` follows the tag)",
            ));
            return Some(Want::Digest(DigestArg { repository: None, digest: image.digest.clone() }));
        }
        if ask.want != Want::Keep {
            return Some(ask.want.clone());
        }
        let follows = self.config.deploy.auto && ask.verb == Verb::Reconcile && ask.automatic();
        (follows && committed.is_some() && chosen.is_none()).then_some(Want::Tracked)
    }

    /// Everything but the release: files, units, Caddy, and the committed release in every instance.
    /// A change can call for another (Caddy tells its version once it runs), so it repeats until nothing
    /// differs. `false`: it did not get there.
    async fn keep(&self, ask: &Ask, report: &mut Report) -> Result<bool, Refused> {
        for _ in 0..4 {
            let mut look = self.look(false).await?;
            self.refuse_env(&look)?;
            self.find_caddy_image(&mut look).await?;
            let mut plan = self.keep_plan(&look, ask.verb);
            if plan.is_empty() {
                plan = self.move_plan(&look, ask.verb)?;
            }
            if plan.is_empty() {
                return Ok(true);
            }
            self.check_caddyfiles(&plan).await?;
            let outcome = self.carry_out(ask, &look, &plan, report).await?;
            if outcome != Outcome::Converged {
                return Ok(false);
            }
        }
        report.error =
            Some("the host does not settle: something else changes what the agent writes".to_owned());
        report.outcome = Outcome::Incomplete;
        Ok(false)
    }

    /// The plan that keeps the committed state: all of it, or after a cut only what a cut leaves.
    pub fn keep_plan(&self, look: &Look, verb: Verb) -> Plan {
        let inputs = self.inputs(look);
        let mut steps = Vec::new();
        if verb == Verb::Recover {
            steps.extend(files::routes(&inputs));
        } else {
            steps.extend(files::steps(&inputs));
            steps.extend(files::activation(&inputs));
        }
        let reach = match verb {
            Verb::Reconcile | Verb::Recover | Verb::CaddyUpgrade => Reach::All,
            Verb::Install | Verb::Deploy | Verb::DeploySha | Verb::Rollback => Reach::Leftovers,
        };
        steps.extend(instances::steps(&inputs, reach));
        if verb != Verb::Recover {
            steps.extend(files::farewell(&inputs));
        }
        // Whatever was cut off: what is committed comes back at the next boot.
        steps.extend(files::enabling(&inputs));
        let warnings = if steps.is_empty() { Vec::new() } else { files::pending(&inputs) };
        Plan::forward(steps, warnings)
    }

    /// The plan that moves instances to where the config wants them. Only who brings a release into service
    /// restarts what serves.
    fn move_plan(&self, look: &Look, verb: Verb) -> Result<Plan, Refused> {
        let inputs = self.inputs(look);
        if !matches!(verb, Verb::Install | Verb::Deploy) {
            return Ok(Plan::default());
        }
        let problems = moves::problems(&inputs);
        if problems.is_empty() {
            return Ok(moves::plan(&inputs));
        }
        Err(Refused::of(1, anyhow::Error::new(Refusal::Preflight(problems))))
    }

    /// Bring the wanted image into service.
    async fn release(&self, ask: &Ask, report: &mut Report) -> Result<(), Refused> {
        let look = self.look(true).await?;
        let request = self.request(ask, &look).await?;
        let plan = match self.release_plan(&look, &request) {
            // The timer asks every few minutes: a held digest is no news then.
            Err(refused) if request.automatic && refused.is_held() => return Ok(()),
            plan => plan?,
        };
        report.first = look.history.current().is_none();
        report.release = look.history.current().map(|r| r.number);
        report.image = Some(request.image.clone());
        if plan.is_empty() {
            let by_hand = ask.want.by_hand();
            if self.inputs(&look).is_chosen() == by_hand {
                return Ok(());
            }
            (self.watch)(&Event::Note(if by_hand {
                "it serves already; from now on it stays, until a plain `deploy`"
            } else {
                "it serves already; from now on the tag is followed again"
            }));
        }
        report.release = plan.candidate.as_ref().map(|c| c.release.number);
        self.carry_out(ask, &look, &plan, report).await?;
        Ok(())
    }

    /// # Errors
    /// The refusal, with exit code 2 when the config or the env file is what has to change.
    pub fn release_plan(&self, look: &Look, request: &Request) -> Result<Plan, Refused> {
        release::plan(&self.inputs(look), request).map_err(|refusal| {
            let config = match &refusal {
                Refusal::Preflight(problems) => problems.iter().any(|p| p.config),
                Refusal::Env(_) => true,
                Refusal::Held { .. } => false,
            };
            Refused::of(if config { 2 } else { 1 }, anyhow::Error::new(refusal))
        })
    }

    /// Journal, perform, journal: one run of `plan`.
    async fn carry_out(
        &self,
        ask: &Ask,
        look: &Look,
        plan: &Plan,
        report: &mut Report,
    ) -> Result<Outcome, Refused> {
        let mut file = self.journal.open()?;
        failpoint::reach("before", 0, "open");
        file.append(&self.opening(ask, look, plan), true)?;
        failpoint::reach("after", 0, "open");
        for warning in &plan.warnings {
            report.warn(warning);
        }
        let book = Book::default();
        let mut committed = false;
        let mut number = 0;
        let perform = async |step: &Step, undoing: bool| {
            number += 1;
            let text = step.to_string();
            let of = plan.steps.len();
            (self.watch)(&Event::Step { number, of, text: &text, undoing });
            failpoint::reach("before", number, &text);
            let begun = Instant::now();
            let performed = self.perform(ask.verb, step, undoing || committed).await;
            failpoint::reach("after", number, &text);
            committed |= matches!((step, &performed), (Step::Commit { .. }, Performed::Done(_)));
            let elapsed = begun.elapsed();
            book.add(if undoing { "undo" } else { step.phase() }, elapsed);
            self.tell(&performed, elapsed);
            performed
        };
        if let (true, Some(candidate)) = (plan.is_empty(), &plan.candidate) {
            // It serves already: a person wrote it into astra.env, or the record of its commit was lost.
            let release = candidate.release.clone();
            if look.history.current() != Some(&release) {
                file.append(&Entry::Committed { release }, true)?;
            }
        }
        let mut untold = None;
        let (outcome, entries) = run::run(plan, perform, |entry, durable| {
            let written = file.append(entry, durable);
            if written.is_err() && matches!(entry, Entry::Committed { .. }) {
                untold = Some(entry.clone());
            }
            written
        })
        .await?;
        (self.watch)(&Event::Ended);
        book.into_report(report);
        let reason = report::reason(&entries);
        let closed = Entry::Closed { outcome, reason: reason.clone(), recovered: false };
        failpoint::reach("before", 0, "close");
        // A run without its commit must not be closed: recover finds it open, and the release in astra.env.
        for entry in untold.iter().chain([&closed]) {
            if let Err(error) = file.append(entry, true) {
                report.warn(&format!("{error:#}"));
                break;
            }
        }
        failpoint::reach("after", 0, "close");
        report.outcome = outcome;
        report.error = reason;
        report.nothing_to_do = false;
        Ok(outcome)
    }

    /// One step. A signal is obeyed where the step can be left: before the commit point and not on the way back.
    async fn perform(&self, verb: Verb, step: &Step, forward_only: bool) -> Performed {
        let signals = &self.host.signals;
        let own_handling = matches!(step, Step::Migrate { .. } | Step::Commit { .. });
        let done = if forward_only || own_handling {
            self.host.perform(step).await
        } else {
            tokio::select! {
                done = self.host.perform(step) => done,
                signal = signals.wait() => return Performed::Interrupted(signal.to_owned()),
            }
        };
        match done {
            Ok(note) => Performed::Done(note),
            // Nobody is served by it, and it must not keep what worked before from coming back.
            Err(error) if (forward_only || !verb.is_new()) && error.is::<perform::CaddyHangs>() => {
                Performed::Done(Some(format!("{error:#}: going on")))
            }
            Err(error) => match signals.asked() {
                Some(signal) if !forward_only => Performed::Interrupted(signal.to_owned()),
                _ => Performed::Failed(Failure { blame: perform::blame(step, &error), error }),
            },
        }
    }

    fn tell(&self, performed: &Performed, elapsed: Duration) {
        match performed {
            Performed::Done(note) => (self.watch)(&Event::Done { note: note.as_deref(), elapsed }),
            Performed::Failed(failure) => {
                (self.watch)(&Event::Failed { error: &format!("{:#}", failure.error), elapsed });
            }
            Performed::Interrupted(signal) => {
                (self.watch)(&Event::Failed { error: &format!("{signal}: taking it back"), elapsed });
            }
        }
    }

    fn opening(&self, ask: &Ask, look: &Look, plan: &Plan) -> Entry {
        Entry::Opened {
            verb: ask.verb,
            actor: ask.actor.clone(),
            agent: env!("CARGO_PKG_VERSION").to_owned(),
            plan: plan.steps.iter().map(ToString::to_string).collect(),
            old: look.history.current().cloned(),
            new: plan.candidate.as_ref().map(|c| c.release.clone()),
            pins: ask.want.by_hand(),
        }
    }

    /// Look at the host; `images` as well when a release is to be planned.
    pub async fn look(&self, images: bool) -> Result<Look> {
        let history = self.journal.history()?;
        let scope = self.scope(images).await?;
        let observed = self.host.observe(self.config, &scope).await.context("looking at the host")?;
        let env = observed.files.get(std::path::Path::new(crate::model::name::CADDY_ENV));
        let caddy_image = env.and_then(|f| crate::plan::caddy::image(&String::from_utf8_lossy(&f.bytes)));
        Ok(Look { observed, history, caddy_image })
    }

    async fn scope(&self, images: bool) -> Result<Scope> {
        let mut nothing =
            Look { observed: Observed::default(), history: History::default(), caddy_image: None };
        let app = &self.config.app.name;
        let mut ids: std::collections::BTreeSet<_> =
            self.config.instances().chain(self.config.spare()).collect();
        let jobs = format!("{}*", crate::model::name::CRON_PREFIX);
        let loaded = self.host.systemd.list(&[&format!("{app}-app@*.service"), &jobs]).await?;
        let number = |unit: &str| unit.rsplit_once('@')?.1.strip_suffix(".service")?.parse().ok();
        ids.extend(loaded.iter().filter_map(|u| number(u)).filter_map(crate::model::name::InstanceId::new));
        for path in ids.iter().map(|id| units::drop_in(self.config, *id)) {
            if let Ok(Some(seen)) = self.host.files.read(&path) {
                nothing.observed.files.insert(path, seen);
            }
        }
        let inputs = self.inputs(&nothing);
        let wanted = ids.iter().map(|id| inputs.target_at(*id, self.config.app.port_of(*id)));
        let ports = wanted.filter(|t| inputs.target(t.id) != *t).map(|t| t.upstream).collect();
        let mut names = units::enabled(self.config);
        names.extend([crate::model::name::CADDY_UNIT, crate::model::name::MIGRATE_UNIT].map(str::to_owned));
        let wanted = |unit: &String| self.config.cron_jobs.iter().any(|j| *unit == j.name.service());
        names.extend(loaded.into_iter().filter(|unit| !wanted(unit)));
        names.sort();
        names.dedup();
        names.retain(|n| !n.starts_with(&format!("{app}-app@")));
        let mut files: Vec<_> = files::desired(&inputs).into_keys().collect();
        files.push(crate::model::name::CADDY_ENV.into());
        Ok(Scope {
            files,
            units: names,
            instances: ids.into_iter().map(|id| inputs.target(id)).collect(),
            ports,
            probe: Some(inputs.probe()),
            images,
        })
    }

    pub fn inputs<'b>(&'b self, look: &'b Look) -> Inputs<'b> {
        Inputs {
            config: self.config,
            observed: &look.observed,
            history: &look.history,
            key: &self.key,
            engine: self.engine,
            agent: &self.agent,
            caddy_image: look.caddy_image.as_ref(),
        }
    }

    /// The pointer back and superfluous images; a failure is a warning, and the next run tries again.
    async fn housekeeping(&self, report: &mut Report) {
        let done = async {
            let look = self.look(true).await?;
            for step in prune::housekeeping(&self.inputs(&look)) {
                let text = step.to_string();
                failpoint::reach("before", 0, &text);
                self.host.perform(&step).await.with_context(|| text.clone())?;
                failpoint::reach("after", 0, &text);
            }
            anyhow::Ok(())
        };
        if let Err(error) = done.await {
            report.warn(&format!("tidying up: {error:#}"));
        }
    }
}
