//! Ctrl-C and SIGTERM as a value that long waits check.

use anyhow::{Context, Result};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Whether the run was asked to stop.
#[derive(Clone, Debug)]
pub struct Signals {
    asked: watch::Receiver<Option<&'static str>>,
}

impl Signals {
    /// Catches SIGINT and SIGTERM from now on. SIGHUP and SIGPIPE are ignored: a run outlives its terminal.
    ///
    /// # Errors
    ///
    /// The process cannot install a signal handler.
    pub fn catch() -> Result<Self> {
        let (tell, asked) = watch::channel(None);
        let mut interrupt = signal(SignalKind::interrupt()).context("catching SIGINT")?;
        let mut terminate = signal(SignalKind::terminate()).context("catching SIGTERM")?;
        let mut hangup = signal(SignalKind::hangup()).context("catching SIGHUP")?;
        tokio::spawn(async move {
            loop {
                let name = tokio::select! {
                    _ = interrupt.recv() => "SIGINT",
                    _ = terminate.recv() => "SIGTERM",
                    _ = hangup.recv() => continue,
                };
                if tell.send(Some(name)).is_err() {
                    return;
                }
            }
        });
        Ok(Self { asked })
    }

    /// Signals of another source than the kernel.
    pub fn from(asked: watch::Receiver<Option<&'static str>>) -> Self {
        Self { asked }
    }

    /// Catches nothing: a read-only verb ends by the default action.
    pub fn none() -> Self {
        Self { asked: watch::channel(None).1 }
    }

    /// The signal received, if any.
    pub fn asked(&self) -> Option<&'static str> {
        *self.asked.borrow()
    }

    /// Waits for the next signal, also of a kind received before; forever if none comes.
    pub async fn next(&mut self) -> &'static str {
        loop {
            if self.asked.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
            if let Some(name) = *self.asked.borrow_and_update() {
                return name;
            }
        }
    }

    /// Waits for a signal; forever if none comes.
    pub async fn wait(&self) -> &'static str {
        let mut asked = self.asked.clone();
        loop {
            if let Some(name) = *asked.borrow_and_update() {
                return name;
            }
            if asked.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}
