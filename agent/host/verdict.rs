//! Who is to blame for a failed unit that runs the release's code. Called by migrate.rs and instance/failed.rs.

use super::logs::LastWords;
use super::systemd::JobResult;
use crate::model::exit::ExitCode;
use crate::model::unit::{ServiceResult, UnitSeen};

/// The fault of the host behind a job that ended with `result`; `None`: the release's own process failed.
pub(super) fn host_fault(result: &JobResult, unit: &UnitSeen, said: &LastWords) -> Option<String> {
    if *result == JobResult::NotBegun {
        return Some("systemd did not start it in time".to_owned());
    }
    if !result.is_of_the_unit() {
        return Some("another systemd job interfered (`systemctl stop`?)".to_owned());
    }
    if let Some(signal) = unit.killed_by() {
        return Some(format!("the engine was killed (signal {signal})"));
    }
    // systemd.exec(5): for example a file of EnvironmentFile= that is gone.
    if unit.result == ServiceResult::Resources {
        return Some("systemd could not run the unit".to_owned());
    }
    unit.exit_code.and_then(|code| engine_fault(ExitCode(code), said)).map(str::to_owned)
}

fn engine_fault(code: ExitCode, said: &LastWords) -> Option<&'static str> {
    // An app may end with this code, too: then the engine logs nothing.
    if code == ExitCode::ENGINE && (said.lines.is_empty() || !said.engine.is_empty()) {
        return Some("the engine itself failed");
    }
    // The kernel lacks this control group controller, or it is not delegated.
    code.is_limit(&said.engine)
        .then_some("this host cannot set a limit that the config asks for (`memory`, `cpus`, `ulimits`)")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(engine: &[&str], app: &[&str]) -> LastWords {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        LastWords { lines: [texts(engine), texts(app)].concat(), engine: texts(engine) }
    }

    fn ended(code: i32) -> UnitSeen {
        UnitSeen { exit_code: Some(code), result: ServiceResult::ExitCode, ..UnitSeen::default() }
    }

    #[test]
    fn an_app_that_ends_with_the_engines_code_is_blamed_itself() {
        let fault = |code, words: &LastWords| host_fault(&JobResult::Failed, &ended(code), words);
        let engine = Some("the engine itself failed".to_owned());
        assert_eq!(fault(125, &said(&["Error: statfs /x: no such file or directory"], &[])), engine);
        assert_eq!(fault(125, &said(&[], &[])), engine);
        assert_eq!(fault(125, &said(&[], &["giving up"])), None);
        assert_eq!(fault(1, &said(&[], &["giving up"])), None);
    }

    #[test]
    fn a_limit_that_the_host_cannot_set_is_the_hosts_fault() {
        let fault = |line| host_fault(&JobResult::Failed, &ended(127), &said(&[line], &[]));
        let crun = "Error: crun: opening file `memory.max` for writing: No such file or directory: OCI runtime \
                    attempted to invoke a command that was not found";
        assert!(fault(crun).is_some_and(|text| text.contains("cannot set a limit")));
        let command = "Error: crun: executable file `no-such` not found in $PATH: No such file or directory: OCI \
                       runtime attempted to invoke a command that was not found";
        assert_eq!(fault(command), None);
    }

    #[test]
    fn only_the_units_own_end_blames_the_release() {
        let words = said(&[], &["giving up"]);
        let own = [JobResult::Failed, JobResult::Timeout, JobResult::Deadline];
        assert!(own.iter().all(|result| host_fault(result, &ended(1), &words).is_none()));
        let others = [JobResult::Canceled, JobResult::Dependency, JobResult::Refused, JobResult::NotBegun];
        assert!(others.iter().all(|result| host_fault(result, &ended(1), &words).is_some()));
        let unrunnable = UnitSeen { result: ServiceResult::Resources, ..UnitSeen::default() };
        assert!(host_fault(&JobResult::Failed, &unrunnable, &words).is_some());
        let killed = UnitSeen { signal: Some(9), result: ServiceResult::Signal, ..UnitSeen::default() };
        assert!(host_fault(&JobResult::Failed, &killed, &words).is_some());
    }
}
