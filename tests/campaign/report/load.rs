//! docs/proof/load.md

use std::collections::BTreeMap;

use crate::load::kept;
use crate::records::{Block, Kind, Strategy};
use crate::report::text::{built, table, took};
use crate::report::{Claim, Records, Verdict};

const INTRO: &str = "\
v1 and v2 alternate, two instances behind Caddy. The load has a fixed rate, independent of the answers: GET, POST, answers of
two seconds, event streams of five, and WebSockets. Every other block of ten deploys gets only quick POSTs, which no
proxy may send twice: slow requests make each drain slow, which would hide a drain that ends too early. An answer that
is cut short counts as failed, and nothing is retried. \"Elsewhere\" are WebSockets that broke although
their own container had not ended within five seconds of it. The first row is the base rate: no deploy at all, so each
cut is one elsewhere. WebSockets stay open, so each drain of one takes its whole `websocket_timeout` (5 s). Each deploy must end with
code 0 and both instances must answer with the new version.

The last row is no deploy either: `reconcile` takes the strategy from rolling to surge and back, and each time Caddy loads its
config. A load moves the clients to the new config and cuts no WebSocket, but about one in thirty loads loses a request
(docs/decisions/0021). Changes of the instances' number or of `[caddy]` do the same; no deploy of a release does.

Both versions would soon be on the host, and nothing would be pulled or migrated any more. So before every fifth deploy
its image is deleted there, and it runs as `deploy --migrate`: these pull and run the migration, and are timed apart.
(The common layers of v1 and v2 stay on the host, so such a pull is small.)

A request is timed from when it was due, not from when the generator sent it, to the end of its answer. \"p99\" is
the time within which 99 of 100 of them ended, that of the worst block; \"slow\" are those that the app answers after 2 s.
";

const HEADER: [&str; 15] = [
    "strategy",
    "deploys",
    "of them failed",
    "requests",
    "failed",
    "WebSockets opened",
    "not opened",
    "cut with their instance",
    "cut elsewhere",
    "deploy, median and longest",
    "with pull and migration",
    "requests/s asked",
    "sent",
    "p99 of GET and POST",
    "p99 of slow GET",
];

pub fn claim(records: &Records) -> Claim {
    let deploys = records.load.iter().any(|block| block.deploys > 0);
    let days = super::text::days(&records.load);
    let verdict = match deploys {
        false => Verdict::NotRun,
        true if records.load.iter().all(kept) => Verdict::Kept,
        true => Verdict::Broken,
    };
    Claim { text: "Deploys in a row under load lose no request", page: "load", verdict, days }
}

pub fn figure(records: &Records) -> Option<String> {
    let blocks: Vec<&Block> = records.load.iter().filter(|block| block.deploys > 0).collect();
    let sum = |of: fn(&Block) -> usize| blocks.iter().map(|block| of(block)).sum::<usize>();
    (!blocks.is_empty()).then(|| {
        format!(
            "**{} of {} requests failed** in {} deploys in a row; {} of the deploys failed",
            sum(|b| b.report.failed),
            sum(|b| b.report.total),
            sum(|b| b.deploys),
            sum(|b| b.failed_deploys.len())
        )
    })
}

pub fn page(records: &Records) -> String {
    let blocks = &records.load;
    let mut groups: BTreeMap<(Strategy, Kind), Vec<&Block>> = BTreeMap::new();
    blocks.iter().for_each(|b| groups.entry((b.strategy, b.kind)).or_default().push(b));
    let rows: Vec<Vec<String>> = groups.iter().map(|(of, blocks)| row(*of, blocks)).collect();
    let mut text = format!("{INTRO}\n{}", table(&HEADER, &rows, "Not run."));
    if blocks.is_empty() {
        return text;
    }
    let latest = blocks.iter().map(|b| b.report.latest_ms).fold(0.0, f64::max);
    text += &format!("\nThe latest request was sent {latest:.0} ms after it was due. ");
    text += &built(&records.machine.build, blocks);
    text += &failures(blocks);
    text
}

fn row((strategy, kind): (Strategy, Kind), blocks: &[&Block]) -> Vec<String> {
    let sum = |of: fn(&Block) -> usize| blocks.iter().map(|block| of(block)).sum::<usize>();
    let all = |of: fn(&Block) -> &Vec<f64>| blocks.iter().flat_map(|b| of(b)).copied().collect::<Vec<f64>>();
    let title = match strategy {
        Strategy::None => "no deploy".into(),
        Strategy::Change => format!("no deploy, the strategy changed {} times", sum(|b| b.changes)),
        _ if kind == Kind::Quick => format!("{strategy}, quick POSTs"),
        _ => format!("{strategy}, mixed"),
    };
    let p99 = |kinds: &[&str]| {
        let counted = blocks.iter().flat_map(|b| kinds.iter().filter_map(|k| b.report.kinds.get(*k)));
        let worst = counted.filter(|kind| kind.total > 0).map(|kind| kind.p99_ms).reduce(f64::max);
        worst.map_or(String::new(), |ms| format!("{ms:.0} ms"))
    };
    let requests = sum(|b| b.report.total);
    let seconds: f64 = blocks.iter().map(|b| b.report.seconds).sum();
    let elsewhere = sum(|b| b.cut_elsewhere.len());
    vec![
        title,
        sum(|b| b.deploys).to_string(),
        sum(|b| b.failed_deploys.len()).to_string(),
        requests.to_string(),
        sum(|b| b.report.failed).to_string(),
        sum(|b| b.report.websockets.opened).to_string(),
        sum(|b| b.report.websockets.failed).to_string(),
        (sum(|b| b.report.websockets.cuts.len()) - elsewhere).to_string(),
        elsewhere.to_string(),
        took(&all(|b| &b.seconds)),
        took(&all(|b| &b.pulled_seconds)),
        blocks.first().map_or(String::new(), |b| b.report.asked.to_string()),
        format!("{:.1}", requests as f64 / seconds.max(0.001)),
        p99(&["get", "post"]),
        p99(&["slow_get"]),
    ]
}

fn failures(blocks: &[Block]) -> String {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for block in blocks {
        let during = if block.strategy == Strategy::Change { " while the strategy changed" } else { "" };
        for (kind, of) in &block.report.kinds {
            for error in &of.errors {
                *counts.entry(format!("- {kind}{during}: {}", error.error)).or_default() += 1;
            }
        }
    }
    let mut text = String::new();
    if !counts.is_empty() {
        text += "\nFailed requests:\n\n";
        for (error, count) in counts {
            text += &format!("{error}, {count} times (of each kind the first twenty of a block)\n");
        }
    }
    let deploys: Vec<_> = blocks.iter().flat_map(|block| &block.failed_deploys).collect();
    if !deploys.is_empty() {
        text += "\nDeploys that failed:\n\n";
        deploys.iter().for_each(|d| text += &format!("- code {}: target/campaign/{}\n", d.code, d.log));
    }
    text
}
