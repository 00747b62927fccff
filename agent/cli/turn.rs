//! Takes the lock for a command that changes the host, and limits the wait for it.

use std::path::Path;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::converge::{Refused, SYSTEM_ACTOR};
use crate::host::lock::{self, Held, Lock, LockError};
use crate::model::name::LOCK;
use crate::model::problem::{Cause, Problem};

/// Default wait for a timer's run: it mostly only checks, and ends within seconds.
const TIMERS_MOMENT: Duration = Duration::from_secs(60);
/// Waits longer than this are reported.
const LONG: Duration = Duration::from_secs(1);
const POLL: Duration = Duration::from_millis(50);

/// A command that wants the lock.
pub struct Turn<'a> {
    /// Its command line, without secrets: others see it while they wait.
    pub command: &'a str,
    /// Login name of the user, or [`SYSTEM_ACTOR`].
    pub actor: &'a str,
    /// `--wait`.
    pub wait: Option<Duration>,
    /// The fix in the refusal while another run has the lock.
    pub hint: &'a str,
}

impl Turn<'_> {
    /// Takes the lock, and waits for another run to end. A run of the timer or of recover that only repairs is
    /// asked to stop: it may wait for minutes until an instance is ready, and this command may be a rollback.
    /// `say` gets lines about the wait, `count` the time waited so far.
    ///
    /// # Errors
    /// Exit code 75, with the holder of the lock, since when, and the hint.
    pub async fn take(&self, say: impl Fn(&str), count: impl Fn(&str)) -> Result<Lock, Refused> {
        let begun = Instant::now();
        let mut said = false;
        let mut asked = None;
        loop {
            let held = match self.try_take() {
                Ok(lock) => return Ok(lock),
                Err(LockError::Other(error)) => return Err(error.into()),
                Err(LockError::Held(held)) => held,
            };
            let (waited, limit) = (begun.elapsed(), self.limit(&held));
            if waited >= limit {
                return Err(self.busy(&held));
            }
            if waited >= LONG {
                if !std::mem::replace(&mut said, true) {
                    say(&format!("waiting: {held}"));
                }
                if asked != Some(held.pid) && self.ask_to_stop(&held) {
                    say(&format!(
                        "asked `{}` to stop: it only repairs, and the next one goes on",
                        held.command
                    ));
                    asked = Some(held.pid);
                }
                count(&format!("waited {} of {} s", waited.as_secs(), limit.as_secs()));
            }
            sleep(POLL).await;
        }
    }

    fn try_take(&self) -> Result<Lock, LockError> {
        let lock = Lock::try_take(Path::new(LOCK), self.command, self.actor)?;
        if self.actor == SYSTEM_ACTOR {
            // If this fails, others wait for the lock as usual.
            let _ = lock.yield_when_asked();
        }
        Ok(lock)
    }

    /// Without `--wait` an operator's command only waits for the timer.
    fn limit(&self, held: &Held) -> Duration {
        let timers = held.actor == SYSTEM_ACTOR && self.actor != SYSTEM_ACTOR;
        self.wait.unwrap_or(if timers { TIMERS_MOMENT } else { Duration::ZERO })
    }

    fn ask_to_stop(&self, held: &Held) -> bool {
        held.yields && self.actor != SYSTEM_ACTOR && lock::ask_to_stop(held)
    }

    fn busy(&self, held: &Held) -> Refused {
        Problem { cause: Cause::Busy, ..Problem::host("lock", held.to_string(), self.hint) }.into()
    }
}
