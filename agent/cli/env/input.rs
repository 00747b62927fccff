//! Reads the value for `env set`: from a pipe until end of file, or from a terminal without echo.

use std::io::{IsTerminal, Read, stdin};

use anyhow::{Context, Result, anyhow};
use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use tokio::sync::oneshot;

use crate::cli::out;
use crate::converge::Refused;
use crate::model::name::EnvKey;
use crate::model::problem::Problem;
use crate::model::secret::Secret;

/// Larger values do not fit into an env file.
const LARGEST: u64 = 64 << 10;

pub(super) async fn value(key: &EnvKey, empty: bool) -> Result<Secret, Refused> {
    if empty {
        return Ok(Secret::new(""));
    }
    let terminal = stdin().is_terminal();
    let text = if terminal { typed(key).await? } else { piped()? };
    let value = text.strip_suffix('\n').unwrap_or(&text);
    if !value.is_empty() {
        return Ok(Secret::new(value));
    }
    let pipe = if terminal { "" } else { "; a command before the pipe may have failed" };
    let what = format!("setting {key}: no value came on standard input{pipe}");
    let fix = format!(
        "`astra-agent env set --empty {key}` sets an empty text, `astra-agent env unset {key}` removes the variable"
    );
    Err(Problem::config("env_value", what, fix).into())
}

fn piped() -> Result<String> {
    let mut text = String::new();
    stdin().take(LARGEST).read_to_string(&mut text).context("reading the value")?;
    Ok(text)
}

/// Reads one line from the terminal without echo. Ctrl-C ends the wait and not the process, so that the
/// terminal's echo is restored.
async fn typed(key: &EnvKey) -> Result<String> {
    out::line(&format!("value of {key} (not shown), then Enter:"));
    let hidden = Hidden::begin()?;
    let (send, read) = oneshot::channel();
    // A thread instead of a runtime task: the runtime waits for its tasks at exit, and a blocked read from a
    // terminal cannot be cancelled.
    std::thread::spawn(move || {
        let mut line = String::new();
        let _ = send.send(stdin().read_line(&mut line).map(|_| line));
    });
    let line = tokio::select! {
        line = read => line.context("reading the value")?.context("reading the value"),
        _ = tokio::signal::ctrl_c() => Err(anyhow!("stopped by SIGINT: {key} is as it was")),
    };
    drop(hidden);
    line
}

/// Turns the terminal's echo off until dropped.
struct Hidden(Termios);

impl Hidden {
    fn begin() -> Result<Self> {
        let before = tcgetattr(stdin()).context("asking the terminal for its settings")?;
        let mut quiet = before.clone();
        quiet.local_flags.remove(LocalFlags::ECHO);
        // Echo the newline, so that later output starts on a new line.
        quiet.local_flags.insert(LocalFlags::ECHONL);
        tcsetattr(stdin(), SetArg::TCSAFLUSH, &quiet).context("hiding what is typed")?;
        Ok(Self(before))
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        let _ = tcsetattr(stdin(), SetArg::TCSAFLUSH, &self.0);
    }
}
