//! `wait`: returns once the host serves its committed release, for CI and for other units of the host. Takes no lock.

use std::rc::Rc;
use std::time::Duration;

use serde::Serialize;
use tokio::time::{Instant, sleep, timeout};

use super::status::{self, Status};
use super::{out, session, waiting};
use crate::converge::Refused;
use crate::model::problem::Cause;

const PAUSE: Duration = Duration::from_secs(1);
/// The last look, too, has this long: an engine that wakes up takes a second.
const LOOK: Duration = Duration::from_secs(10);

/// The JSON of `wait --json`.
#[derive(Serialize)]
struct Waited {
    serves: bool,
    release: Option<u64>,
    /// Why it does not serve.
    reason: Option<String>,
    seconds: f64,
}

/// Exit code 0 once the host serves; 1 at the end of `limit`, with the reason.
pub async fn run(limit: Duration, json: bool) -> Result<u8, Refused> {
    session::root()?;
    let line = waiting::begin("waiting until the host serves", json);
    let begun = Instant::now();
    let mut reason = String::new();
    loop {
        let left = limit.saturating_sub(begun.elapsed());
        let why = match timeout(left.max(LOOK), look()).await {
            Ok(Ok(status)) => {
                drop(line);
                tell_serving(&status, begun.elapsed(), json);
                return Ok(0);
            }
            Ok(Err(why)) => why,
            Err(_) => format!("looking at the host did not end within {} s", left.max(LOOK).as_secs()),
        };
        if why != reason {
            (line.detail())(&why);
            reason = why;
        }
        let left = limit.saturating_sub(begun.elapsed());
        if left.is_zero() {
            break;
        }
        sleep(PAUSE.min(left)).await;
    }
    drop(line);
    tell_end(reason, begun.elapsed(), json);
    Ok(Cause::Host.exit_code())
}

/// The status of a host that serves, or why it does not.
async fn look() -> Result<Status, String> {
    let status = status::look(Rc::new(|_| ()), Rc::new(|_| ())).await.map_err(|refused| {
        let before = if refused.cause == Cause::Config { "not installed yet: " } else { "" };
        format!("{before}{}", out::first_line(&refused.to_string()))
    })?;
    status.obstacle().map_or(Ok(status), Err)
}

fn tell_serving(status: &Status, waited: Duration, json: bool) {
    let (release, seconds) = (status.release, waited.as_secs_f64());
    if json {
        return out::json(&Waited { serves: true, release, reason: None, seconds });
    }
    for error in &status.config_errors {
        out::warning(&format!("agent.toml is invalid, and what serves is by the last valid one: {error}"));
    }
    out::line(&format!("release {} serves", release.unwrap_or_default()));
}

fn tell_end(reason: String, waited: Duration, json: bool) {
    let seconds = waited.as_secs_f64();
    if json {
        return out::json(&Waited { serves: false, release: None, reason: Some(reason), seconds });
    }
    out::error(&format!("the host does not serve after {seconds:.0} s: {reason}"));
}
