//! Damaged, missing and malicious files of /etc/astra and /run/astra.

use super::super::acts::files::must;
use super::super::row::{GOES_ON, ROW, Row};
use super::Theme;
use crate::site::CONFIG_FILE;

pub const THEME: Theme = Theme {
    title: "Files of the agent",
    text: "The agent follows no symlink in its directories, and refuses one that another user owns or can write.",
    rows: ROWS,
};

const CADDYFILE: &str = "/etc/astra/Caddyfile";

/// agent.toml cannot be read.
const UNREADABLE: Row = Row { code: &[1, 2], says: &["agent.toml"], seconds: 15, ..ROW };

const ROWS: &[Row] = &[
    Row {
        id: "F80",
        what: "astra.env: a symlink",
        short: true,
        before: |site| site.sh("mv /etc/astra/astra.env /etc/astra/real && ln -s real /etc/astra/astra.env"),
        cure: |site| site.sh("mv /etc/astra/real /etc/astra/astra.env"),
        code: &[1, 2],
        says: &["astra.env", "symlink"],
        ..ROW
    },
    Row {
        id: "F80b",
        what: "agent.toml: a FIFO",
        before: |site| site.sh(&format!("rm {CONFIG_FILE} && mkfifo {CONFIG_FILE}")),
        cure: |site| site.sh(&format!("rm {CONFIG_FILE}")),
        ..UNREADABLE
    },
    Row {
        id: "F80c",
        what: "agent.toml: a directory",
        before: |site| site.sh(&format!("rm {CONFIG_FILE} && mkdir {CONFIG_FILE}")),
        cure: |site| site.sh(&format!("rmdir {CONFIG_FILE}")),
        ..UNREADABLE
    },
    Row {
        id: "F80d",
        what: "agent.toml: 5 GiB of nothing",
        before: |site| site.sh(&format!("truncate -s 5G {CONFIG_FILE}")),
        ..UNREADABLE
    },
    Row {
        id: "F80e",
        what: "agent.toml: gone",
        before: |site| site.sh(&format!("rm {CONFIG_FILE}")),
        code: &[2],
        ..UNREADABLE
    },
    Row {
        id: "F80f",
        what: "Caddyfile: a symlink to /etc/shadow",
        before: |site| site.sh("ln -sf /etc/shadow /etc/astra/Caddyfile"),
        run: "astra-agent reconcile --wait 60s",
        then: |site, _| must(site.is_file(CADDYFILE), "the Caddyfile is a regular file"),
        ..ROW
    },
    Row {
        id: "F80g",
        what: "symlinks to /etc/shadow planted for trial files and markers",
        short: true,
        before: |site| {
            let planted = ["trial.env", "trial-1.env", "drain/1"];
            planted.iter().try_for_each(|name| site.sh(&format!("ln -s /etc/shadow /run/astra/{name}")))
        },
        ..GOES_ON
    },
    Row {
        id: "F80h",
        what: "run.lock: a symlink to /etc/shadow",
        before: |site| site.sh("rm -f /run/astra/run.lock && ln -s /etc/shadow /run/astra/run.lock"),
        cure: |site| site.sh("rm /run/astra/run.lock"),
        code: &[1],
        says: &["run.lock"],
        ..ROW
    },
    Row {
        id: "F80i",
        what: "/run/astra/drain: a symlink to /etc",
        before: |site| site.sh("rmdir /run/astra/drain && ln -s /etc /run/astra/drain"),
        cure: |site| {
            site.sh("rm /run/astra/drain && mkdir -m 0755 /run/astra/drain")?;
            site.restart_caddy()
        },
        code: &[1],
        says: &["/run/astra/drain"],
        may_lose: "the cure restarts Caddy",
        ..ROW
    },
    Row {
        id: "F80j",
        what: "/etc/astra: writable by all users",
        before: |site| site.sh("chmod 0777 /etc/astra"),
        cure: |site| site.sh("chmod 0700 /etc/astra"),
        code: &[1],
        says: &["chmod go-w /etc/astra"],
        ..ROW
    },
    Row {
        id: "F80k",
        what: "/etc/astra: owned by uid 1000",
        before: |site| site.sh("chown 1000 /etc/astra"),
        cure: |site| site.sh("chown 0 /etc/astra"),
        code: &[1],
        says: &["/etc/astra"],
        ..ROW
    },
    Row {
        id: "F81",
        what: "astra.env: a second hard link",
        before: |site| site.sh("ln /etc/astra/astra.env /etc/astra/second"),
        cure: |site| site.sh("rm /etc/astra/second"),
        ..GOES_ON
    },
    Row {
        id: "F82",
        what: "Caddyfile and a symlink to /etc/shadow exchanged in a loop, under eight reconciles",
        before: |site| site.swap_with_link(CADDYFILE, "/etc/astra/trap", "/etc/shadow"),
        run: "for _ in 1 2 3 4 5 6 7 8; do astra-agent reconcile --wait 60s; done",
        cure: |site| site.sh("rm -f /etc/astra/trap /etc/astra/Caddyfile"),
        code: &[0, 1, 4],
        repair: "the file is gone with the fault",
        ..ROW
    },
];
