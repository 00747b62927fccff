//! `readiness` of a service: when an instance is ready, and how often Caddy asks. Called by app.rs.

use std::time::Duration;

use super::error::{Problems, ValueError};
use super::read::Reader;
use super::tree::Table;
use super::value;
use super::{Liveness, Readiness};

/// Shortest interval between two health checks of an instance, and the longest answer to one.
const SHORTEST_INTERVAL: Duration = Duration::from_secs(1);
const LONGEST_ANSWER: Duration = Duration::from_secs(60);

pub(super) fn readiness(table: &Table<'_>, problems: &mut Problems<'_>) -> Option<Readiness> {
    let mut r = Reader { table, problems };
    let notify = r.boolean("notify");
    let timeout = r.time("timeout");
    Some(Readiness { notify: notify?, timeout: timeout? })
}

/// The interval of Caddy's checks, and the limit for an answer.
pub(super) fn checks(r: &mut Reader<'_, '_, '_>, instances: u16) -> Option<(Duration, Duration)> {
    let answer_timeout = answer_timeout(r);
    let given = r.node("interval").is_some();
    let interval = if given { r.time("interval") } else { Some(usual_interval(instances)) };
    if given && interval.is_some_and(|interval| interval < SHORTEST_INTERVAL) {
        r.fault("interval", ValueError::new("`interval` must be at least 1s"));
    }
    let (interval, answer_timeout) = (interval?, answer_timeout?);
    // Overlapping checks would add load to a busy application.
    Some((interval.max(answer_timeout), answer_timeout))
}

/// The default interval: about three readiness requests a second over all instances at most, so that a host
/// with many instances is idle without traffic.
fn usual_interval(instances: u16) -> Duration {
    Duration::from_secs(3).max(Duration::from_millis(300) * u32::from(instances))
}

/// When an instance without a port behind Caddy is ready: by time, by a command or by a port.
pub(super) fn liveness(r: &mut Reader<'_, '_, '_>) -> Option<Liveness> {
    let command = r.optional("command", |r, key| r.list(key, value::argument))?;
    let tcp: Option<u16> = r.optional("tcp", |r, key| r.integer(key, 1..=65535))?;
    let settles = r.node("settle").is_some_and(|node| node.span.file > 0);
    if usize::from(command.is_some()) + usize::from(tcp.is_some()) + usize::from(settles) > 1 {
        let key = if tcp.is_some() { "tcp" } else { "command" };
        r.fault(
            key,
            ValueError::new("`settle`, `command` and `tcp` exclude each other").help("write one of them"),
        );
        return None;
    }
    if let Some(argv) = command {
        let answer_timeout = answer_timeout(r)?;
        if argv.first().is_none_or(String::is_empty) {
            r.fault("command", ValueError::new("`command` has no program"));
            return None;
        }
        return Some(Liveness::Command { argv, answer_timeout });
    }
    Some(match tcp {
        Some(port) => Liveness::Tcp(port),
        None => Liveness::Settle(settle(r)?),
    })
}

fn answer_timeout(r: &mut Reader<'_, '_, '_>) -> Option<Duration> {
    let answer = r.time("answer_timeout")?;
    if answer > LONGEST_ANSWER {
        r.fault("answer_timeout", ValueError::new("`answer_timeout` may be 60s at most"));
        return None;
    }
    Some(answer)
}

fn settle(r: &mut Reader<'_, '_, '_>) -> Option<Duration> {
    let (settle, timeout) = (r.time("settle")?, value::duration(r.node("timeout")?.value.as_str()?).ok()?);
    if settle >= timeout {
        r.fault("settle", ValueError::new("`settle` must be shorter than `timeout`"));
        return None;
    }
    Some(settle)
}
