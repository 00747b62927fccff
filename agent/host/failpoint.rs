//! Where a run can be made to die, for the crash campaign (tests/host/kills/points.rs). Only a build with the feature
//! `failpoints` dies of this; in every other one nothing of it is left.

/// Die without a last word, if `ASTRA_FAILPOINT` names this moment. `before:7` and `after:7` stand around the
/// seventh step that this process carries out, `after:drain astra-app@2` behind the step whose line begins so.
/// Within steps: `rename:astra.env`, `stopped:astra-app@1`; besides them `locked:deploy`, `before:open`,
/// `after:open` (the journal of a run), `before:close`, `after:close`.
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

#[cfg(not(feature = "failpoints"))]
pub fn reach(_: &str, _: usize, _: &str) {}
