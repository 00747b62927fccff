//! The user's process: starts the transient unit, passes the terminal in and Ctrl-C on, and waits.

use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use super::out;
use crate::converge::{Refused, SYSTEM_ACTOR};
use crate::host::binary;
use crate::host::engine;
use crate::host::files::Files;
use crate::host::signals::Signals;
use crate::host::systemd::Systemd;
use crate::host::transient::{Transient, run_transient};
use crate::model::entry::Verb;
use crate::model::name::{RECOVER_UNIT, SANDBOX_FILE, SANDBOX_FILE_NOW};
use crate::model::problem::Problem;
use crate::plan::files::MODE;
use crate::plan::policy::VerbPolicy;
use crate::plan::units::SANDBOX;

/// A shutdown sends SIGTERM, and undoing a whole deploy takes minutes.
const STOP: Duration = Duration::from_secs(300);
const ACTOR: &str = "ASTRA_ACTOR";

/// Login name of the user. Inside a unit, the name is handed over by the user's process; a unit started by a
/// timer or by OnFailure= has the system actor.
pub fn actor(in_unit: bool) -> String {
    let named = |names: &[&str]| names.iter().find_map(|n| std::env::var(n).ok());
    if in_unit {
        return named(&[ACTOR]).unwrap_or_else(|| SYSTEM_ACTOR.to_owned());
    }
    named(&["SUDO_USER", "LOGNAME", "USER"]).unwrap_or_else(|| "root".to_owned())
}

/// Runs this command line inside a transient unit, and returns its exit code.
pub async fn run_in_unit(verb: Verb, json: bool) -> Result<u8, Refused> {
    if verb != Verb::Reconcile {
        // A reconcile that finds nothing to do needs no engine.
        engine::wake_podman();
    }
    let systemd = Systemd::connect().await?;
    if let Err(error) = prepare_sandbox(&systemd).await {
        // A rollback must work on a host that cannot be written.
        if !VerbPolicy::of(verb).takes_last_config {
            return Err(error.context("preparing the sandbox of the run").into());
        }
        out::warning(&format!("this run has no sandbox: {error:#}"));
    }
    // From here on a signal is passed on instead of ending this process.
    let mut signals = Signals::catch()?;
    let name = format!("astra-agent-{}-{}.service", verb.as_str(), std::process::id());
    let mut argv = vec![binary::path()?];
    // Placed before any `--`, behind which nothing is an option.
    argv.push("--in-unit".to_owned());
    argv.extend(std::env::args().skip(1));
    let run = run_transient(
        &systemd,
        Transient {
            name: &name,
            description: &format!("astra-agent {}", verb.as_str()),
            argv: &argv,
            limit: None,
            env: &environment(),
            stdout: std::io::stdout().as_fd(),
            stderr: std::io::stderr().as_fd(),
            on_failure: RECOVER_UNIT,
            // The agent's own exit codes are answers; only a killed run counts as a failure.
            success_exit: &[1, 2, 3, 4, 75],
            stop_timeout: STOP,
        },
    )
    .await
    .map_err(anyhow::Error::new)?;
    let mut asked = false;
    let exit = loop {
        tokio::select! {
            exit = run.wait() => break exit.map_err(|error| lost(run.unit(), &error))?,
            signal = signals.next() => {
                if !json {
                    out::aside(&interrupted(signal, asked, run.unit()));
                }
                if !asked {
                    asked = true;
                    run.interrupt(nix::libc::SIGINT).await?;
                }
            }
        }
    };
    match (exit.code, exit.signal) {
        (Some(code), _) => Ok(u8::try_from(code).unwrap_or(1)),
        (None, signal) => Err(killed(signal.unwrap_or_default())),
    }
}

/// Writes the sandbox of the run's unit, if it is missing (before the first installation) or was changed. Where
/// the directory of units cannot be written, the one in /run has the same effect until the next boot.
async fn prepare_sandbox(systemd: &Systemd) -> anyhow::Result<()> {
    let files = Files::new(Path::new("/"));
    let is_there = |path: &str| {
        // One that cannot be read, e.g. a symlink that masks it, is replaced.
        files.read(Path::new(path)).ok().flatten().is_some_and(|seen| seen.bytes == SANDBOX.as_bytes())
    };
    if is_there(SANDBOX_FILE) || is_there(SANDBOX_FILE_NOW) {
        return Ok(());
    }
    let write = |path: &Path| {
        path.parent().map_or(Ok(()), |dir| files.make_dir(dir, 0o755))?;
        files.write_atomic(path, SANDBOX.as_bytes(), MODE)
    };
    if let Err(error) = write(Path::new(SANDBOX_FILE)) {
        write(Path::new(SANDBOX_FILE_NOW)).map_err(|_| error)?;
    }
    // systemd reads the drop-ins of a new unit from the disk; the reload is for units that it has loaded.
    let _ = systemd.reload().await;
    Ok(())
}

/// Whether this process runs in the sandbox: its unit may have been started without the drop-in.
pub fn is_sandboxed() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().any(|line| line.strip_prefix("NoNewPrivs:").is_some_and(|value| value.trim() == "1"))
}

/// The message for a signal; `again`: the run was already asked to stop.
fn interrupted(signal: &str, again: bool, unit: &str) -> String {
    let key = if signal == "SIGINT" { "Ctrl-C" } else { signal };
    if again {
        return format!(
            "{key} again: the run is still undoing, and ends by itself (`systemctl kill --signal=KILL {unit}` ends it \
             now; recover then does the rest)"
        );
    }
    format!("{key}: undoing, please wait (past its commit a release stays)")
}

/// The variables of the caller's environment that a run gets.
fn environment() -> Vec<(String, String)> {
    let passed = ["TERM", "NO_COLOR", "COLUMNS", "ASTRA_FAILPOINT"];
    let mut env = vec![(ACTOR.to_owned(), actor(false))];
    env.extend(passed.iter().filter_map(|name| Some(((*name).to_owned(), std::env::var(name).ok()?))));
    env
}

/// The error for a run whose exit status could not be read.
fn lost(unit: &str, error: &anyhow::Error) -> Refused {
    let fix = format!(
        "it may go on as {unit}; fix the bus (`systemctl status dbus`), then `astra-agent status` shows how it ended"
    );
    Problem::unfinished("run_lost", format!("lost contact with the run: {error:#}"), fix).into()
}

/// The error for a run that was killed: systemd has started recover by then.
fn killed(signal: i32) -> Refused {
    let what = format!(
        "the run was killed (signal {signal}); systemd has started astra-agent-recover, which brings back the \
         committed release"
    );
    Problem::unfinished("run_killed", what, "`astra-agent status` shows what runs").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_ctrl_c_gets_an_answer() {
        assert!(interrupted("SIGINT", false, "x").starts_with("Ctrl-C: undoing, please wait"));
        assert!(interrupted("SIGTERM", false, "x").starts_with("SIGTERM: undoing"));
        assert!(interrupted("SIGINT", true, "astra-agent-deploy-1.service").contains("still undoing"));
    }
}
