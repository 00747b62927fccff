//! Acts on one container, and the networks of the engine.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use anyhow::{Context, Result};
use bollard::exec::StartExecResults;
use bollard::models::{ExecConfig, NetworkCreateRequest};
use bollard::query_parameters::{InspectContainerOptions, ListNetworksOptions};
use futures_util::StreamExt;

use super::connect::{EngineError, accept, message_text};
use super::{EngineClient, QUERY_TIMEOUT, check_name};

/// Longest output of a command that is kept, in bytes.
const OUTPUT: usize = 500;

/// A command in a container that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecEnded {
    /// Its exit code.
    pub code: i32,
    /// The start of what it wrote to stdout and stderr, without control characters.
    pub output: String,
}

impl EngineClient {
    /// Runs `argv` in a running container, and waits for its end. After `deadline` it goes on in the container, for the
    /// engines cannot end it.
    ///
    /// # Errors
    ///
    /// The container does not run, the program is not in it, or the command does not end within `deadline`.
    pub async fn exec(&self, container: &str, argv: &[String], deadline: Duration) -> Result<ExecEnded> {
        check_name(container)?;
        let doing = || format!("running `{}` in {container}", argv.join(" "));
        let run = async {
            let config = || ExecConfig {
                cmd: Some(argv.to_vec()),
                attach_stdout: Some(true),
                attach_stderr: Some(true),
                ..Default::default()
            };
            let made = self.call(QUERY_TIMEOUT, |docker| docker.create_exec(container, config())).await?;
            let output = self.output(&made.id).await?;
            let seen = self.call(QUERY_TIMEOUT, |docker| docker.inspect_exec(&made.id)).await?;
            // A stream may end before the command.
            let code = seen.exit_code.filter(|_| seen.running == Some(false));
            let code = code.and_then(|code| i32::try_from(code).ok()).unwrap_or(-1);
            Ok::<_, EngineError>(ExecEnded { code, output })
        };
        match tokio::time::timeout(deadline, run).await {
            Ok(ended) => ended.with_context(doing),
            Err(_) => Err(self.late(deadline)).with_context(doing),
        }
    }

    /// Starts an exec session, and reads its output to the end.
    async fn output(&self, exec: &str) -> Result<String, EngineError> {
        let started = self.call(QUERY_TIMEOUT, |docker| docker.start_exec(exec, None)).await?;
        let StartExecResults::Attached { mut output, .. } = started else { return Ok(String::new()) };
        let mut bytes = Vec::new();
        while let Some(Ok(chunk)) = output.next().await {
            bytes.extend(chunk.into_bytes().iter().take(OUTPUT.saturating_sub(bytes.len())));
        }
        let text = String::from_utf8_lossy(&bytes);
        Ok(if text.trim().is_empty() { "no output".to_owned() } else { message_text(&text) })
    }

    /// The address of a running container on its network; 127.0.0.1 on the host's network.
    ///
    /// # Errors
    ///
    /// The engine does not answer within 15 s, there is no such container, or it has no address: it has ended.
    pub async fn address(&self, container: &str) -> Result<IpAddr> {
        check_name(container)?;
        let seen = self
            .call(QUERY_TIMEOUT, |docker| {
                docker.inspect_container(container, None::<InspectContainerOptions>)
            })
            .await
            .with_context(|| format!("asking for the address of {container}"))?;
        if seen.host_config.and_then(|config| config.network_mode).is_some_and(|mode| mode == "host") {
            return Ok(IpAddr::V4(Ipv4Addr::LOCALHOST));
        }
        let networks = seen.network_settings.and_then(|settings| settings.networks).unwrap_or_default();
        let mut addresses = networks.values().filter_map(|network| network.ip_address.as_ref()?.parse().ok());
        addresses.next().with_context(|| format!("{container} has no address"))
    }

    /// The names of all networks.
    ///
    /// # Errors
    ///
    /// The engine does not answer within 15 s.
    pub async fn networks(&self) -> Result<BTreeSet<String>> {
        let listed =
            self.call(QUERY_TIMEOUT, |docker| docker.list_networks(None::<ListNetworksOptions>)).await;
        let listed = listed.context("listing the networks")?;
        Ok(listed.into_iter().filter_map(|network| network.name).collect())
    }

    /// Creates a bridge network on which containers have names. One that exists is no error.
    ///
    /// # Errors
    ///
    /// The engine refuses, e.g. because all its subnets are taken, or does not answer within 15 s.
    pub async fn make_network(&self, name: &str) -> Result<()> {
        let ask = || NetworkCreateRequest {
            name: name.to_owned(),
            driver: Some("bridge".to_owned()),
            labels: Some(HashMap::from([("astra.role".to_owned(), "site".to_owned())])),
            ..Default::default()
        };
        let made = self.call(QUERY_TIMEOUT, |docker| docker.create_network(ask())).await;
        accept(made, &[409]).with_context(|| format!("creating the network {name}"))
    }
}
