//! Disks: full, without inodes, read-only.

use super::super::row::{Push, ROW, Row};
use super::Theme;

pub const THEME: Theme = Theme {
    title: "Disks",
    text: "The image store, /etc/astra and the journal are small file systems of their own on this host.",
    rows: ROWS,
};

const STORE: &str = "/var/lib/containers/storage";
const CONFIG: &str = "/etc/astra";
const STATE: &str = "/var/lib/astra-agent";

/// A deploy that has to pull, and is refused.
const PULL: Row = Row { push: Push::Tag("v3"), code: &[1], cure: |site| site.empty(STORE), ..ROW };
/// A disk that fails when the run writes to it.
const FULL: Row = Row { code: &[1], says: &["No space left"], ..ROW };

const ROWS: &[Row] = &[
    Row {
        id: "F15",
        what: "image store: full",
        short: true,
        before: |site| site.fill(STORE),
        says: &["image store", "free"],
        ..PULL
    },
    Row {
        id: "F15b",
        what: "image store: full, and min_free is too low to see it",
        before: |site| {
            site.config(r#"min_free = "60M""#, r#"min_free = "1K""#)?;
            site.fill(STORE)?;
            site.free(STORE, 16 << 10)
        },
        says: &["no space left"],
        ..PULL
    },
    Row {
        id: "F16",
        what: "/etc/astra: full from the first instance on",
        short: true,
        beside: |site| {
            site.trying(1)?;
            site.fill(CONFIG)
        },
        cure: |site| site.empty(CONFIG),
        ..FULL
    },
    Row {
        id: "F16b",
        what: "journal's disk: full before a deploy",
        before: |site| site.fill(STATE),
        cure: |site| site.empty(STATE),
        ..FULL
    },
    Row {
        id: "F16c",
        what: "journal's disk: full from the first instance on",
        beside: |site| {
            site.trying(1)?;
            site.fill_page(&site.newest_run()?, 0)?;
            site.fill(STATE)
        },
        cure: |site| site.empty(STATE),
        ..FULL
    },
    Row {
        id: "F16d",
        what: "journal's disk: room for a part of a line, and space again when the run is undone",
        beside: |site| {
            site.trying(1)?;
            site.fill_page(&site.newest_run()?, 10)?;
            site.fill(STATE)?;
            site.until("the trial ends", || !site.exists("/run/astra/trial-1.env"))?;
            site.empty(STATE)
        },
        then: |site, _| site.sh("astra-agent history"),
        ..FULL
    },
    Row {
        id: "F17",
        what: "/etc/astra: no inodes from the first instance on",
        beside: |site| {
            site.trying(1)?;
            site.fill_inodes(CONFIG)
        },
        cure: |site| site.empty(CONFIG),
        ..FULL
    },
    Row {
        id: "F18",
        what: "/etc/astra: read-only from the first instance on",
        short: true,
        before: |site| site.restart_caddy(),
        beside: |site| {
            site.trying(1)?;
            site.sh("mount -o remount,ro /etc/astra")
        },
        cure: |site| site.sh("mount -o remount,rw /etc/astra"),
        says: &["Read-only file system"],
        ..FULL
    },
    Row {
        id: "F18b",
        what: "/etc/astra: read-only, and a rollback",
        before: |site| {
            site.restart_caddy()?;
            site.sh("mount -o remount,ro /etc/astra")
        },
        run: "astra-agent rollback",
        cure: |site| site.sh("mount -o remount,rw /etc/astra"),
        says: &["Read-only file system"],
        ..FULL
    },
    Row {
        id: "F19",
        what: "the disk below /etc/astra runs out of blocks (thin): only a flush finds out",
        before: |site| site.thin_disk(),
        beside: |site| {
            site.trying(1)?;
            site.fill("/root/thin")
        },
        cure: |site| site.end_thin_disk(),
        says: &["/etc/astra/astra.env", "No space left"],
        may_lose: "Caddy is restarted to see the other disk",
        ..FULL
    },
];
