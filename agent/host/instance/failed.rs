//! Why an instance did not start or has ended, and whether the release is to blame. Called by instance.rs.

use anyhow::anyhow;

use crate::host::Host;
use crate::host::logs::LastWords;
use crate::host::perform::{HostFault, NO_LIMIT};
use crate::host::systemd::{JobError, JobResult};
use crate::model::exit::ExitCode;
use crate::model::observed::{Engine, UnitSeen};
use crate::model::step::Target;

impl Host {
    /// A start that failed, or that systemd did not even try.
    pub(super) async fn start_failed(&self, instance: &Target, error: JobError) -> anyhow::Error {
        let unit = self.systemd.unit(&instance.unit).await.unwrap_or_default();
        let others = matches!(error.result, JobResult::Canceled | JobResult::Dependency);
        if let (false, Some(signal)) = (others, unit.killed_by()) {
            return self.killed(instance, signal, "started").await;
        }
        let said = self.last_words(&instance.unit, Some(&instance.container)).await;
        let fault = if others {
            Some(HostFault("another systemd job interfered"))
        } else {
            unit.exit_code.and_then(|code| host_fault(ExitCode(code), &said))
        };
        let error = said.explain(anyhow::Error::new(error));
        match fault {
            Some(fault) => error.context(fault),
            None => error,
        }
    }

    /// An instance that has ended, and why.
    pub(super) async fn ended(&self, instance: &Target, unit: &UnitSeen, when: &str) -> anyhow::Error {
        match unit.killed_by() {
            Some(signal) => self.killed(instance, signal, "ran").await,
            None => self.explain(instance, anyhow!("{instance}: {} {when}", died(unit))).await,
        }
    }

    /// The release is not to blame: the process that held its container was killed.
    async fn killed(&self, instance: &Target, signal: i32, did: &str) -> anyhow::Error {
        let engine = match self.engine.as_ref().map(|engine| engine.kind()) {
            Some(Engine::Docker) => "docker",
            _ => "podman",
        };
        let error = anyhow!(
            "{engine} was killed (signal {signal}) while it {did} {instance}: journalctl -u {instance}"
        );
        self.explain(instance, error).await.context(HostFault("the engine failed"))
    }

    /// Adds the container's last log lines to the error.
    pub(super) async fn explain(&self, instance: &Target, error: anyhow::Error) -> anyhow::Error {
        self.last_words(&instance.unit, Some(&instance.container)).await.explain(error)
    }
}

/// The fault of the host behind a start that ended with `code`.
fn host_fault(code: ExitCode, said: &LastWords) -> Option<HostFault> {
    // An app may end with this code, too: then the engine logs nothing.
    let engine = code == ExitCode::ENGINE && (said.lines.is_empty() || !said.engine.is_empty());
    if engine {
        return Some(HostFault("the engine itself failed"));
    }
    code.is_limit(&said.engine).then_some(NO_LIMIT)
}

fn died(unit: &UnitSeen) -> String {
    match unit.exit_code {
        Some(code) if unit.result == "exit-code" || code != 0 => {
            format!("the app exited with code {}", ExitCode(code))
        }
        _ if unit.result != "success" && !unit.result.is_empty() => {
            format!("the app ended ({})", unit.result)
        }
        _ => "the app exited".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(engine: &[&str], app: &[&str]) -> LastWords {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        LastWords { lines: [texts(engine), texts(app)].concat(), engine: texts(engine) }
    }

    #[test]
    fn an_app_that_ends_with_the_engines_code_is_blamed_itself() {
        let fault =
            |code, words: &LastWords| host_fault(ExitCode(code), words).map(|fault| fault.to_string());
        let engine = Some("the engine itself failed".to_owned());
        assert_eq!(fault(125, &said(&["Error: statfs /x: no such file or directory"], &[])), engine);
        assert_eq!(fault(125, &said(&[], &[])), engine);
        assert_eq!(fault(125, &said(&[], &["giving up"])), None);
        assert_eq!(fault(1, &said(&[], &["giving up"])), None);
    }

    #[test]
    fn a_limit_that_the_host_cannot_set_is_the_host_s_fault() {
        let crun = "Error: crun: opening file `memory.max` for writing: No such file or directory: OCI runtime \
                    attempted to invoke a command that was not found";
        let fault = host_fault(ExitCode(127), &said(&[crun], &[])).map(|fault| fault.to_string());
        assert!(fault.is_some_and(|text| text.contains("cannot set a limit")));
        let command = "Error: crun: executable file `no-such` not found in $PATH: No such file or directory: OCI \
                       runtime attempted to invoke a command that was not found";
        assert!(host_fault(ExitCode(127), &said(&[command], &[])).is_none());
    }
}
