//! Readiness of an instance without a port behind Caddy: a command in its container, or a port there. Called by
//! instance.rs.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::host::Host;
use crate::model::exit::ExitCode;
use crate::model::step::{CommandCheck, Target};

/// Limit for one connection within the host.
const CONNECT: Duration = Duration::from_secs(2);

impl Host {
    /// Runs the readiness command once; it must end with code 0.
    pub(super) async fn command(&self, instance: &Target, ask: &CommandCheck) -> Result<()> {
        let command = ask.argv.join(" ");
        let ended = self.engine()?.exec(&instance.container, &ask.argv, ask.answer).await?;
        if ended.code == 0 {
            return Ok(());
        }
        bail!("`{command}` ended with code {}: {}", ExitCode(ended.code), ended.output)
    }

    /// Connects to a port of the container.
    pub(super) async fn accepts(&self, instance: &Target, port: u16) -> Result<()> {
        let at = SocketAddr::new(self.engine()?.address(&instance.container).await?, port);
        let connected = timeout(CONNECT, TcpStream::connect(at)).await;
        connected
            .with_context(|| format!("connecting to port {port}: no answer"))?
            .with_context(|| format!("connecting to port {port}"))?;
        Ok(())
    }
}
