//! Damaged, missing and malicious files of the journal.

use super::super::row::{GOES_ON, ROW, Row};
use super::Theme;

pub const THEME: Theme = Theme {
    title: "The journal",
    text: "A damaged journal stops a deploy (exit code 4): the agent must know which releases failed. Its output \
           offers a rollback.",
    rows: ROWS,
};

const JOURNAL: &str = "/var/lib/astra-agent/journal";

/// The newest run's file is kept aside, and restored.
const DAMAGED: Row =
    Row { cure: |site| site.restore_run(), code: &[4], says: &["journal is damaged", "moved away"], ..ROW };

const ROWS: &[Row] = &[
    Row {
        id: "F79",
        what: "journal: a torn last line",
        short: true,
        before: |site| site.append(&site.newest_run()?, r#"{"at":1,"entr"#),
        ..GOES_ON
    },
    Row {
        id: "F79b",
        what: "journal: a damaged line, and a deploy",
        short: true,
        before: |site| site.damage_run(),
        says: &["journal is damaged", "rollback", "moved away"],
        ..DAMAGED
    },
    Row {
        id: "F79c",
        what: "journal: a FIFO in place of a run",
        before: |site| {
            let run = site.keep_run()?;
            site.sh(&format!("rm {run} && mkfifo {run}"))
        },
        ..DAMAGED
    },
    Row {
        id: "F79d",
        what: "journal: a symlink to /etc/shadow in place of a run",
        before: |site| {
            let run = site.keep_run()?;
            site.sh(&format!("ln -sf /etc/shadow {run}"))
        },
        ..DAMAGED
    },
    Row {
        id: "F79e",
        what: "journal: a run of 5 GiB",
        before: |site| {
            let run = site.keep_run()?;
            site.sh(&format!("truncate -s 5G {run}"))
        },
        ..DAMAGED
    },
    Row {
        id: "F79f",
        what: "journal: a directory in place of a run",
        before: |site| {
            let run = site.keep_run()?;
            site.sh(&format!("rm {run} && mkdir {run}"))
        },
        ..DAMAGED
    },
    Row {
        id: "F79g",
        what: "journal: an empty file for the newest run",
        before: |site| site.sh(&format!("touch {JOURNAL}/000999.jsonl")),
        cure: |site| site.sh(&format!("rm -f {JOURNAL}/000999.jsonl")),
        ..GOES_ON
    },
    Row {
        id: "F79h",
        what: "journal: an older run damaged, and a rollback by hand",
        before: |site| {
            site.damage_run()?;
            site.sh("astra-agent history >/dev/null || true")
        },
        run: "astra-agent rollback",
        code: &[0, 1],
        says: &["journal is damaged"],
        then: |site, _| site.image().map(drop),
        ..DAMAGED
    },
    Row {
        id: "F79i",
        what: "journal: a directory that others can write",
        before: |site| site.sh(&format!("chmod 0777 {JOURNAL}")),
        cure: |site| site.sh(&format!("chmod 0700 {JOURNAL}")),
        then: |site, _| site.sh(&format!("[ $(stat -c %a {JOURNAL}) = 700 ]")),
        ..GOES_ON
    },
    Row {
        id: "F79j",
        what: "journal: a line of an agent from the future",
        before: |site| {
            let line = r#"{"at":1,"entry":"teleported","to":"mars"}"#;
            site.append(&site.keep_run()?, &format!("{line}\n"))
        },
        ..DAMAGED
    },
    Row {
        id: "F79k",
        what: "journal: a run that belongs to uid 1000",
        before: |site| site.sh(&format!("chown 1000 {}", site.newest_run()?)),
        cure: |site| site.sh(&format!("chown 0 {JOURNAL}/*.jsonl")),
        code: &[0, 1, 4],
        ..ROW
    },
];
