//! The same host, app, load and releases under four ways to deploy: the agent, the best hand-written setup
//! (careful/), podman auto-update in its best form (auto-update/), and the former scripts (plain/). There is no
//! manual repair: a host broken by a release, a kill or a power cut stays broken until the time is up.

mod ways;

use std::fs;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;

use crate::host::{Host, clock, seconds, since};
use crate::records::{Baseline, Case, Way};
use crate::settings::Settings;
use crate::store::Store;

/// The version that each instance answers with, if it is ready.
const INSTANCES: &str = "for i in 1 2; do
    curl -s -m 3 -f -o /dev/null localhost:800$i/readyz && curl -s -m 3 localhost:800$i/version || echo none
done";

/// Until the first instance of the new release serves.
const REPLACED: &str = "until_replaced() { for _ in $(seq 3000); do for i in 1 2; do
    [[ $(curl -s -m 1 localhost:800$i/version) != v2 ]] || return 0
done; sleep 0.05; done; echo 'no instance was replaced'; return 1; }";

impl Case {
    /// The tag that is deployed.
    fn tag(self) -> &'static str {
        match self {
            Self::NeverReady => "not-ready",
            Self::Exits => "exits",
            Self::MigrationFails => "migrate-fails",
            Self::Good | Self::Killed | Self::PowerCut | Self::RollbackOffline => "v2",
        }
    }
}

pub fn run(settings: &Settings, store: &Store) -> Result<()> {
    let ways = chosen::<Way>(settings.ways.as_deref())?;
    let cases = chosen::<Case>(settings.cases.as_deref())?;
    for (case, way) in left(&cases, &ways, &store.lines("baseline")?) {
        let measured = Measured { settings, store, way, case }.measure();
        store.record("baseline", &measured.with_context(|| format!("{way}, {case}"))?)?;
    }
    Ok(())
}

/// The cases that are not recorded. A way without a rollback has no such case.
fn left(cases: &[Case], ways: &[Way], recorded: &[Baseline]) -> Vec<(Case, Way)> {
    let all = cases.iter().flat_map(|case| ways.iter().map(|way| (*case, *way)));
    let exists = |way| ways::rollback(way).is_some();
    all.filter(|(case, way)| *case != Case::RollbackOffline || exists(*way))
        .filter(|pair| !recorded.iter().any(|line| (line.case, line.way) == *pair))
        .collect()
}

/// All values, or those that are named.
fn chosen<T: ValueEnum>(names: Option<&str>) -> Result<Vec<T>> {
    let Some(names) = names else { return Ok(T::value_variants().to_vec()) };
    let parse = |name: &str| T::from_str(name, false).map_err(|error| anyhow::anyhow!("{name}: {error}"));
    names.split(',').map(parse).collect()
}

struct Measured<'a> {
    settings: &'a Settings,
    store: &'a Store,
    way: Way,
    case: Case,
}

/// The end of a command.
struct Ended {
    code: Option<i32>,
    took: Option<f64>,
    begun: f64,
    said: String,
}

impl Measured<'_> {
    fn measure(&self) -> Result<Baseline> {
        let Self { settings, store, way, case } = *self;
        eprintln!("campaign: baseline: {way}, {case}");
        let host = Host::boot(settings, store, &way.to_string(), None)?;
        ways::install(&host, store, way)?;
        if case == Case::RollbackOffline {
            self.deployed_before(&host)?;
        }
        let mut load = host.load(settings, store, false)?;
        seconds(5);
        let mut ended = match case {
            Case::RollbackOffline => self.go_back(&host)?,
            Case::Killed => self.kill(&host)?,
            Case::PowerCut => {
                self.start_until_replaced(&host)?;
                // Its network ends with the host.
                drop(load);
                host.reboot()?;
                load = host.load(settings, store, false)?;
                Ended { code: None, took: None, begun: clock(), said: String::new() }
            }
            _ => self.deploy(&host)?,
        };
        if case == Case::MigrationFails
            && let Some(timer) = ways::timer(way)
        {
            seconds(5);
            ended.said += &host.sh(timer)?.text();
        }
        seconds(settings.watch);
        let instances = host.sh(INSTANCES)?.stdout.lines().map(str::to_owned).collect();
        let report = load.stop()?;
        let name = format!("baseline-{way}-{case}");
        fs::write(store.file(format!("{name}.log")), &ended.said)?;
        host.explain(store, &report, &name)?;
        let Ended { code, took, begun, .. } = ended;
        let (origin, watch) = (store.origin(), settings.watch);
        let line = Baseline { origin, way, case, code, took, begun, watch, instances, report };
        eprintln!(
            "campaign: baseline: {} of {} failed, {:?}",
            line.report.failed, line.report.total, line.instances
        );
        Ok(line)
    }

    /// Pushes the release, and runs what comes before its deploy.
    fn push(&self, host: &Host) -> Result<Option<(i32, String)>> {
        let tag = self.case.tag();
        host.push(tag)?;
        let Some(before) = ways::before(self.way, tag) else { return Ok(None) };
        let output = host.sh(&before)?;
        Ok((output.code != 0).then(|| (output.code, output.text())))
    }

    fn deploy(&self, host: &Host) -> Result<Ended> {
        let (begun, start) = (clock(), Instant::now());
        let (code, said) = match self.push(host)? {
            Some(failed) => failed,
            None => {
                let output = host.sh(&ways::deploy(self.way, self.case.tag()))?;
                (output.code, output.text())
            }
        };
        Ok(Ended { code: Some(code), took: Some(since(start)), begun, said })
    }

    /// The release to go back from, deployed without load; then the registry goes down.
    fn deployed_before(&self, host: &Host) -> Result<()> {
        let deployed = self.deploy(host)?;
        ensure!(deployed.code == Some(0), "the deploy to go back from failed: {}", deployed.said);
        // The scripts do not wait until the release is ready.
        ways::until_served(host)?;
        host.sh("systemctl stop docker-registry")?.ok().map(drop)
    }

    fn go_back(&self, host: &Host) -> Result<Ended> {
        let command = ways::rollback(self.way).context("no rollback")?;
        let (begun, start) = (clock(), Instant::now());
        let output = host.sh(&command)?;
        Ok(Ended { code: Some(output.code), took: Some(since(start)), begun, said: output.text() })
    }

    /// Kills the process of the deploy once the first instance was replaced.
    fn kill(&self, host: &Host) -> Result<Ended> {
        let (begun, start) = (clock(), Instant::now());
        let failed = self.push(host)?;
        ensure!(failed.is_none(), "{failed:?}");
        let (deploy, process) = (ways::deploy(self.way, self.case.tag()), ways::process(self.way));
        let output = host.sh(&format!(
            "{REPLACED}
            {deploy} >/root/out 2>&1 </dev/null & pid=$!
            until_replaced && kill -KILL {process} || exit 99
            wait $pid; code=$?; cat /root/out; exit $code"
        ))?;
        ensure!(output.code != 99, "not killed: {}", output.text());
        Ok(Ended { code: Some(output.code), took: Some(since(start)), begun, said: output.text() })
    }

    /// Starts a deploy, and stops its process once the first instance was replaced: it goes no further in the
    /// moment until the power is cut.
    fn start_until_replaced(&self, host: &Host) -> Result<()> {
        let failed = self.push(host)?;
        ensure!(failed.is_none(), "{failed:?}");
        let (deploy, process) = (ways::deploy(self.way, self.case.tag()), ways::process(self.way));
        let command = format!(
            "{REPLACED}
            {deploy} >/root/out 2>&1 </dev/null & pid=$!
            until_replaced && kill -STOP {process}"
        );
        host.sh(&command)?.ok().map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::Origin;
    use crate::traffic::Report;

    #[test]
    fn recorded_cases_are_not_repeated() {
        let recorded = Baseline {
            origin: Origin::default(),
            way: Way::Careful,
            case: Case::Killed,
            code: None,
            took: None,
            begun: 0.0,
            watch: 0,
            instances: Vec::new(),
            report: Report::default(),
        };
        let (cases, ways) = ([Case::Killed, Case::RollbackOffline], [Way::Careful, Way::AutoUpdate]);
        assert_eq!(
            left(&cases, &ways, &[recorded]),
            [(Case::Killed, Way::AutoUpdate), (Case::RollbackOffline, Way::Careful)]
        );
        assert_eq!(left(Case::value_variants(), Way::value_variants(), &[]).len(), 27);
    }

    #[test]
    fn contenders_and_cases_are_chosen_by_name() {
        assert_eq!(chosen::<Way>(None).unwrap().len(), 4);
        assert_eq!(chosen::<Way>(Some("plain,auto-update")).unwrap(), [Way::Plain, Way::AutoUpdate]);
        assert_eq!(chosen::<Case>(Some("killed")).unwrap(), [Case::Killed]);
        assert!(chosen::<Case>(Some("killed,lost")).is_err());
    }
}
