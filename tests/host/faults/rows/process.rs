//! The agent's own process, and other runs beside it.

use super::super::acts::files::must;
use super::super::acts::limits::Limit;
use super::super::acts::typed;
use super::super::row::{GOES_ON, ROW, Row};
use super::Theme;
use crate::site::ENV_FILE;

pub const THEME: Theme = Theme {
    title: "The agent's process, and others beside it",
    text: "A run is a unit of its own: `astra-agent-deploy-N.service`.",
    rows: ROWS,
};

const FEW_FILES: &str = "/run/systemd/system/astra-app@1.service.d";

const ROWS: &[Row] = &[
    Row {
        id: "F48",
        what: "the agent killed for want of memory (OOM) while the first instance is tried",
        short: true,
        beside: |site| {
            let group = site.limit(Limit::Memory("16K"))?;
            site.trying(1)?;
            site.limit_run(&group)
        },
        code: &[4],
        says: &["was killed (signal 9)"],
        then: |site, _| site.status_is_good(),
        ..ROW
    },
    Row {
        id: "F49",
        what: "the agent may start no thread or process from the first instance on",
        beside: |site| {
            let group = site.limit(Limit::Processes(1))?;
            site.trying(1)?;
            site.limit_run(&group)
        },
        ..GOES_ON
    },
    Row {
        id: "F51",
        what: "the agent gets 1% of a processor from the first instance on",
        beside: |site| {
            let group = site.limit(Limit::Processor(1000))?;
            site.trying(1)?;
            site.limit_run(&group)
        },
        seconds: 240,
        ..GOES_ON
    },
    Row {
        id: "F50",
        what: "an instance may open 16 files (LimitNOFILE=)",
        before: |site| {
            site.write(&format!("{FEW_FILES}/50-few.conf"), "[Service]\nLimitNOFILE=16\n")?;
            site.sh("systemctl daemon-reload")
        },
        code: &[4],
        says: &["astra-app@1"],
        cure: |site| site.sh(&format!("rm -r {FEW_FILES} && systemctl daemon-reload")),
        ..ROW
    },
    Row {
        id: "F54",
        what: "two deploys at once",
        short: true,
        run: "astra-agent deploy",
        typed: typed::beside_a_deploy,
        code: &[75],
        says: &["another run holds the lock", "astra-agent deploy", "--wait"],
        ..GOES_ON
    },
    Row {
        id: "F55",
        what: "a deploy, and a rollback that waits for it",
        run: "astra-agent rollback --wait 90s",
        typed: typed::beside_a_deploy,
        ..ROW
    },
    Row {
        id: "F56",
        what: "`systemctl restart` of the other instance while the first is tried",
        beside: |site| {
            site.trying(1)?;
            // Canceled if the agent's own job for that instance comes in between.
            site.sh("systemctl restart astra-app@2 || true")
        },
        may_lose: "the first is drained, the other is restarted",
        ..GOES_ON
    },
    Row {
        id: "F57",
        what: "astra.env edited by hand while the first instance is tried",
        short: true,
        beside: |site| {
            site.trying(1)?;
            site.append(ENV_FILE, "EXTRA=1\n")
        },
        then: |site, _| must(site.variable(ENV_FILE, "EXTRA")? == "1", "the edit is kept"),
        cure: |site| site.drop_variable("EXTRA"),
        ..GOES_ON
    },
    Row {
        id: "F60",
        what: "the agent stopped for 60 s (SIGSTOP) while the first instance is tried",
        beside: |site| {
            site.trying(1)?;
            site.sh("systemctl kill -s STOP 'astra-agent-deploy-*'")?;
            site.pause(60)?;
            site.sh("systemctl kill -s CONT 'astra-agent-deploy-*'")
        },
        ..GOES_ON
    },
    Row {
        id: "F61",
        what: "SIGTERM while the first instance is tried",
        short: true,
        beside: |site| {
            site.trying(1)?;
            site.signal_run("TERM")
        },
        code: &[1],
        says: &["SIGTERM"],
        ..ROW
    },
];
