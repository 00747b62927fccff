//! Deploys in a row under load, alternating v1 and v2: the first half rolling, the second half surge. A block of
//! them is one load report and one result. Every other block gets only quick POSTs: slow requests make each
//! drain slow, which would hide a drain that ends too early. The change of strategy in between is no deploy, and
//! has its own result. Both versions would soon be on the host and migrated: before every fifth deploy its image
//! is deleted there, and that deploy pulls it and migrates again.

use std::fs;
use std::time::Instant;

use anyhow::{Result, ensure};
use serde::Deserialize;

use crate::host::{Host, Load, clock, seconds, since};
use crate::records::{Block, FailedDeploy, Kind, Strategy};
use crate::settings::Settings;
use crate::store::Store;
use crate::traffic::Report;

/// Changes of the strategy to measure: there and back again, and there in the end.
const CHANGES: usize = 9;

/// The number of a block, and of its deploys.
type Planned = (Strategy, usize, usize);

struct Run<'a> {
    settings: &'a Settings,
    store: &'a Store,
    host: Option<Host>,
}

pub fn run(settings: &Settings, store: &Store) -> Result<()> {
    let mut run = Run { settings, store, host: None };
    for planned in left(settings.deploys, &store.lines("load")?) {
        match planned.0 {
            Strategy::None => run.calm()?,
            Strategy::Change => run.changes()?,
            Strategy::Rolling | Strategy::Surge => run.block(planned)?,
        }
    }
    let lossless = store.lines::<Block>("load")?.iter().all(kept);
    ensure!(lossless, "something was lost");
    Ok(())
}

/// Whether a block lost nothing. A change of the strategy loads Caddy's config, which may lose a request but cuts no
/// WebSocket (docs/decisions/0021).
pub fn kept(block: &Block) -> bool {
    let requests = block.report.failed == 0 && block.report.websockets.failed == 0;
    let deploys = block.failed_deploys.is_empty() && block.cut_elsewhere.is_empty();
    deploys && (requests || block.strategy == Strategy::Change)
}

/// Half of the deploys for each strategy, in blocks of ten, or of fewer if there are few. Before them a block
/// without a deploy, and between them one of changes.
fn planned(deploys: usize) -> Vec<Planned> {
    let size = if deploys < 40 { deploys.div_ceil(4) } else { 10 };
    let mut planned = Vec::new();
    for (first, strategy) in [(Strategy::None, Strategy::Rolling), (Strategy::Change, Strategy::Surge)] {
        planned.push((first, 0, 0));
        let mut left = deploys / 2;
        for number in 1.. {
            let count = left.min(size);
            if count == 0 {
                break;
            }
            planned.push((strategy, number, count));
            left -= count;
        }
    }
    planned
}

/// Those that are not recorded.
fn left(deploys: usize, recorded: &[Block]) -> Vec<Planned> {
    let is = |block: &Block, planned: &Planned| (block.strategy, block.number) == (planned.0, planned.1);
    let mut planned = planned(deploys);
    planned.retain(|planned| !recorded.iter().any(|block| is(block, planned)));
    planned
}

impl Run<'_> {
    fn host(&mut self) -> Result<&Host> {
        let host = match self.host.take() {
            Some(host) => host,
            None => {
                let host = Host::boot(self.settings, self.store, "load", None)?;
                host.install(self.store, "")?;
                host
            }
        };
        Ok(self.host.insert(host))
    }

    fn traffic(&mut self, quick: bool) -> Result<Load> {
        let (settings, store) = (self.settings, self.store);
        self.host()?.load(settings, store, quick)
    }

    /// No deploy at all.
    fn calm(&mut self) -> Result<()> {
        let load = self.traffic(false)?;
        seconds(self.settings.calm);
        self.without_deploys(load, Strategy::None, 0)
    }

    /// The spare of surge is a route in Caddy's config. Deploys load no config; the losses of loads are counted here.
    fn changes(&mut self) -> Result<()> {
        let load = self.traffic(false)?;
        for change in 0..CHANGES {
            seconds(2);
            self.change_to(if change % 2 == 0 { Strategy::Surge } else { Strategy::Rolling })?;
        }
        seconds(2);
        self.without_deploys(load, Strategy::Change, CHANGES)
    }

    /// A drain waits longer than any request takes: event streams of five seconds.
    fn change_to(&mut self, strategy: Strategy) -> Result<()> {
        let config = format!("[deploy]\nstrategy = \"{strategy}\"\ndrain_timeout = \"7s\"\n");
        let host = self.host()?;
        host.write("/etc/astra/agent.d/load.toml", &config)?;
        host.sh("astra-agent reconcile")?.ok().map(drop)
    }

    /// No instance has ended, so each cut is elsewhere.
    fn without_deploys(&mut self, load: Load, strategy: Strategy, changes: usize) -> Result<()> {
        let report = load.stop()?;
        let cut_elsewhere = (0..report.websockets.cuts.len()).collect();
        let empty = Block::new(self.store.origin(), strategy, Kind::Mixed, 0);
        self.record(Block { changes, cut_elsewhere, report, ..empty })
    }

    fn block(&mut self, (strategy, number, deploys): Planned) -> Result<()> {
        let kind = if number.is_multiple_of(2) { Kind::Quick } else { Kind::Mixed };
        self.change_to(strategy)?;
        let started = clock();
        let load = self.traffic(kind == Kind::Quick)?;
        seconds(1);
        let mut block = Block { deploys, ..Block::new(self.store.origin(), strategy, kind, number) };
        let serves = self.host()?.sh("curl -sf localhost/version")?.stdout;
        let mut version = if serves.trim() == "v1" { "v2" } else { "v1" };
        for i in 0..deploys {
            self.deploy(&mut block, version, i)?;
            version = if version == "v1" { "v2" } else { "v1" };
        }
        seconds(1);
        block.report = load.stop()?;
        block.cut_elsewhere = elsewhere(&block.report, &self.ended(started)?);
        self.record(block)
    }

    fn deploy(&mut self, block: &mut Block, version: &str, i: usize) -> Result<()> {
        let log = format!("load-{}-{}-{i}.log", block.strategy, block.number);
        let file = self.store.file(&log);
        let host = self.host()?;
        host.push(version)?;
        let pulls = i.is_multiple_of(5);
        if pulls {
            host.forget(version)?;
        }
        let begun = Instant::now();
        let output = host.sh(if pulls { "astra-agent deploy --migrate" } else { "astra-agent deploy" })?;
        let took = since(begun);
        if pulls {
            block.pulled_seconds.push(took)
        } else {
            block.seconds.push(took)
        }
        let serve = host.sh("curl -sf localhost:8001/version; curl -sf localhost:8002/version")?.stdout;
        if output.code != 0 || serve != format!("{version}\n{version}\n") {
            fs::write(file, format!("{}instances: {serve}", output.text()))?;
            block.failed_deploys.push(FailedDeploy { code: output.code, log });
        }
        Ok(())
    }

    fn record(&mut self, block: Block) -> Result<()> {
        let (store, report) = (self.store, &block.report);
        self.host()?.explain(store, report, &format!("load-{}-{}", block.strategy, block.number))?;
        eprintln!(
            "campaign: load: {} {}: {} sent, {} failed, {} WebSockets, {} not opened, {} deploys failed",
            block.strategy,
            block.number,
            report.total,
            report.failed,
            report.websockets.opened,
            report.websockets.failed,
            block.failed_deploys.len()
        );
        store.record("load", &block)
    }

    /// Containers that have ended since, and when.
    fn ended(&mut self, since: f64) -> Result<Vec<(String, f64)>> {
        #[derive(Deserialize)]
        struct Event {
            #[serde(rename = "ID")]
            id: String,
            #[serde(rename = "timeNano")]
            nanos: u64,
        }
        let command = format!(
            "podman events --stream=false --since {} --filter event=died --format json",
            since.floor() as u64
        );
        let events = self.host()?.sh(&command)?.ok()?;
        let parse = |line| Ok(serde_json::from_str::<Event>(line).map(|e| (e.id, e.nanos as f64 / 1e9))?);
        events.lines().filter(|line| !line.is_empty()).map(parse).collect()
    }
}

/// WebSockets that were cut although their own container had not just ended.
fn elsewhere(report: &Report, ended: &[(String, f64)]) -> Vec<usize> {
    let cuts = report.websockets.cuts.iter().enumerate();
    let with_its_own = |at: f64, who: &str| {
        let container = who.split(' ').nth(1).unwrap_or_default();
        let same = |id: &str| id.get(..12) == Some(container.trim());
        ended.iter().any(|(id, end)| same(id) && (end - report.began - at).abs() < 5.0)
    };
    cuts.filter(|(_, cut)| !with_its_own(cut.at, &cut.who)).map(|(place, _)| place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::Origin;
    use crate::traffic::{Cut, WebSockets};

    #[test]
    fn the_deploys_are_divided_into_blocks_of_both_strategies() {
        let (none, rolling, change, surge) =
            (Strategy::None, Strategy::Rolling, Strategy::Change, Strategy::Surge);
        assert_eq!(
            planned(6),
            [(none, 0, 0), (rolling, 1, 2), (rolling, 2, 1), (change, 0, 0), (surge, 1, 2), (surge, 2, 1)]
        );
        let full = planned(100);
        assert_eq!((full.len(), full.iter().map(|(.., count)| count).sum::<usize>()), (12, 100));
    }

    #[test]
    fn recorded_blocks_are_not_repeated() {
        let block = |strategy, number| Block::new(Origin::default(), strategy, Kind::Mixed, number);
        let mut recorded = vec![block(Strategy::None, 0), block(Strategy::Rolling, 1)];
        let (rolling, change, surge) = (Strategy::Rolling, Strategy::Change, Strategy::Surge);
        assert_eq!(left(4, &recorded), [(rolling, 2, 1), (change, 0, 0), (surge, 1, 1), (surge, 2, 1)]);
        recorded.extend([block(rolling, 2), block(change, 0), block(surge, 1), block(surge, 2)]);
        assert_eq!(left(4, &recorded), []);
        // More deploys are requested later.
        assert_eq!(left(60, &recorded), [(rolling, 3, 10), (surge, 3, 10)]);
    }

    #[test]
    fn a_cut_is_elsewhere_unless_its_container_ended_then() {
        let cut = |at: f64, id: &str| Cut { at, who: format!("v1 {id}"), reason: "closed".into() };
        let cuts = vec![cut(3.0, "aaaaaaaaaaaa"), cut(30.0, "aaaaaaaaaaaa"), cut(3.0, "bbbbbbbbbbbb")];
        let websockets = WebSockets { cuts, ..WebSockets::default() };
        let report = Report { began: 100.0, websockets, ..Report::default() };
        assert_eq!(elsewhere(&report, &[("aaaaaaaaaaaa0000".into(), 104.0)]), [1, 2]);
    }
}
