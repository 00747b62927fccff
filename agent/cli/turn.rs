//! Takes the lock for a command that changes the host, and limits the wait for it.

use std::path::Path;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::converge::{Refused, SYSTEM_ACTOR};
use crate::host::lock::{self, Lock, LockError};
use crate::model::name::LOCK;
use crate::model::problem::{Cause, Problem};

/// Default wait for a timer's run: it mostly only checks, and ends within seconds.
const TIMERS_MOMENT: Duration = Duration::from_secs(60);
/// Waits longer than this are reported.
const LONG: Duration = Duration::from_secs(1);
const POLL: Duration = Duration::from_millis(50);

/// Takes the lock for `command` of `actor`, waiting for at most `wait`. A run of the timer or of recover that
/// only repairs is asked to stop: it may wait for minutes until an instance is ready, and the command may be
/// a rollback.
///
/// # Errors
/// Exit code 75, with the holder of the lock, since when, and `hint`.
pub async fn take(
    command: &str,
    actor: &str,
    wait: Option<Duration>,
    hint: &str,
    say: impl Fn(&str),
) -> Result<Lock, Refused> {
    take_watched(command, actor, wait, hint, say, |_| ()).await
}

/// Like `take`, and calls `count` with the time waited.
pub async fn take_watched(
    command: &str,
    actor: &str,
    wait: Option<Duration>,
    hint: &str,
    say: impl Fn(&str),
    count: impl Fn(&str),
) -> Result<Lock, Refused> {
    let begun = Instant::now();
    let mut said = false;
    let mut asked = None;
    loop {
        let held = match Lock::try_take(Path::new(LOCK), command, actor) {
            Ok(lock) => {
                if actor == SYSTEM_ACTOR {
                    // If this fails, others wait for the lock as usual.
                    let _ = lock.yield_when_asked();
                }
                return Ok(lock);
            }
            Err(LockError::Other(error)) => return Err(error.into()),
            Err(LockError::Held(held)) => held,
        };
        let patience =
            if held.actor == SYSTEM_ACTOR && actor != SYSTEM_ACTOR { TIMERS_MOMENT } else { Duration::ZERO };
        let limit = wait.unwrap_or(patience);
        if begun.elapsed() >= limit {
            let busy = Problem { cause: Cause::Busy, ..Problem::host("lock", held.to_string(), hint) };
            return Err(busy.into());
        }
        if !said && begun.elapsed() >= LONG {
            say(&format!("waiting: {held}"));
            said = true;
        }
        let may_ask = held.yields && actor != SYSTEM_ACTOR && begun.elapsed() >= LONG;
        if may_ask && asked != Some(held.pid) && lock::ask_to_stop(&held) {
            say(&format!("asked `{}` to stop: it only repairs, and the next one goes on", held.command));
            asked = Some(held.pid);
        }
        if said {
            count(&format!("waited {} of {} s", begun.elapsed().as_secs(), limit.as_secs()));
        }
        sleep(POLL).await;
    }
}
