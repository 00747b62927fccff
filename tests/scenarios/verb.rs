//! One verb of the agent, in the manner of cli/mutate.rs and cli/session.rs inside the unit of a run.

use std::any::Any;
use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use astra_agent::config::Config;
use astra_agent::converge::{Event, Reconciler, Refused, Report, VerbRequest};
use astra_agent::host::lock::Lock;
use astra_agent::host::signals::Signals;
use astra_agent::host::{Endpoints, Host};
use astra_agent::journal::Journal;
use astra_agent::model::fingerprint::HostKey;
use astra_agent::model::name;
use astra_agent::model::observed::Engine;
use futures_util::FutureExt;
use tokio::sync::{Notify, watch};

use crate::bus;
use crate::state::Shared;

/// Where a run stops.
#[derive(Clone)]
pub enum Stop {
    /// Killed at this call.
    Kill(String),
    /// Killed before this step, counted from 1.
    KillBefore(usize),
    /// Gets SIGINT at this call.
    Signal(String),
}

/// How the run ended (`None`: it was killed), and what the terminal showed.
pub type Ended = (Option<Result<Report, Refused>>, String);

pub async fn run(shared: &Shared, config: &Config, ask: &VerbRequest, stop: Option<Stop>) -> Ended {
    let (tell, asked) = watch::channel(None);
    let reached = Arc::new(Notify::new());
    let last = match &stop {
        Some(Stop::KillBefore(step)) => *step,
        Some(Stop::Kill(call) | Stop::Signal(call)) => {
            shared.lock().awaited = Some((call.clone(), Arc::clone(&reached)));
            usize::MAX
        }
        None => usize::MAX,
    };
    let told = Rc::new(RefCell::new(Told { text: String::new(), last }));
    let run = std::panic::AssertUnwindSafe(perform(shared, config, ask, asked, &told)).catch_unwind();
    tokio::pin!(run);
    let ended = tokio::select! {
        ended = &mut run => ended.map_err(unless_killed).ok(),
        () = reached.notified() => match stop {
            Some(Stop::Signal(_)) => {
                let _ = tell.send(Some("SIGINT"));
                run.await.map_err(unless_killed).ok()
            }
            _ => None,
        },
    };
    (ended, told.take().text)
}

async fn perform(
    shared: &Shared,
    config: &Config,
    ask: &VerbRequest,
    asked: watch::Receiver<Option<&'static str>>,
    told: &Rc<RefCell<Told>>,
) -> Result<Report, Refused> {
    let root = shared.lock().root.clone();
    let health_port = shared.lock().health_port;
    let imds = shared.lock().imds.clone();
    let bus = Some(bus::address(&root));
    let endpoints =
        Endpoints { root: root.clone(), engine: Some(Engine::Podman), bus, health_port, imds, aws: None };
    let host = Host::connect(&endpoints, Signals::from(asked), Box::new(|_| ())).await?;
    for (dir, mode) in [(name::ETC, 0o700), (name::STATE, 0o700), (name::RUN, 0o755)] {
        host.files.make_dir(Path::new(dir), mode)?;
    }
    let journal = Journal::at(root.join(name::JOURNAL_DIR.trim_start_matches('/')));
    let lock = root.join(name::LOCK.trim_start_matches('/'));
    let lock = Lock::try_take(&lock, "astra-agent", &ask.actor).expect("the lock is free");
    let told = Rc::clone(told);
    let reconciler = Reconciler {
        host: &host,
        config,
        journal: &journal,
        key: HostKey::new([7; 32]),
        engine: Engine::Podman,
        agent: "/usr/local/bin/astra-agent".to_owned(),
        watch: Rc::new(move |event| tell(&mut told.borrow_mut(), event)),
    };
    let ended = reconciler.converge(ask, &lock).await;
    reconciler.log_end(ask, &ended);
    ended
}

#[derive(Default)]
struct Told {
    text: String,
    /// The run is killed before this step.
    last: usize,
}

/// The panic of a killed run.
struct Killed;

fn unless_killed(panic: Box<dyn Any + Send>) {
    if !panic.is::<Killed>() {
        std::panic::resume_unwind(panic);
    }
}

fn tell(told: &mut Told, event: &Event<'_>) {
    if matches!(event, Event::Step { number, .. } if *number >= told.last) {
        std::panic::resume_unwind(Box::new(Killed));
    }
    let line = match event {
        Event::Step { text, undoing, .. } => format!("{} {text}", if *undoing { "undo" } else { "step" }),
        Event::Done { told, .. } => format!("  {}", told.text.as_deref().unwrap_or("done")),
        Event::Failed { error, .. } => format!("  failed: {error}"),
        Event::Stopped { told, .. } => format!("  stopped: {told}"),
        Event::Warning(text) | Event::Note(text) => format!("  {text}"),
        _ => return,
    };
    told.text.push_str(&line);
    told.text.push('\n');
}
