//! Points where a run can be killed, for the crash campaign (tests/host/kills/points.rs). Compiled only with
//! the feature `failpoints`.

/// Kills the process if `ASTRA_FAILPOINT` names this point. `before:7` and `after:7` surround the seventh
/// step of this process; `after:drain astra-app@2` follows the step whose line begins so. Inside steps:
/// `rename:astra.env`, `stopped:astra-app@1`; outside: `locked:deploy`, `before:open`, `after:open` (the
/// journal of a run), `before:close`, `after:close`.
#[cfg(feature = "failpoints")]
pub fn reach(moment: &str, number: usize, what: &str) {
    let wanted = std::env::var("ASTRA_FAILPOINT").unwrap_or_default();
    let here = match wanted.split_once(':') {
        Some((when, point)) if when == moment => match point.parse::<usize>() {
            Ok(wanted) if number > 0 => number == wanted,
            _ => what.starts_with(point),
        },
        _ => false,
    };
    if here {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::this(), nix::sys::signal::SIGKILL);
    }
}

/// Does nothing: this build has no failpoints.
#[cfg(not(feature = "failpoints"))]
pub fn reach(_: &str, _: usize, _: &str) {}
