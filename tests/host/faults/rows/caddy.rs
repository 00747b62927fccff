//! Caddy.

use super::super::row::{GOES_ON, ROW, Row};
use super::Theme;

pub const THEME: Theme =
    Theme { title: "Caddy", text: "All requests go through it: they are lost while it is down.", rows: ROWS };

const ROWS: &[Row] = &[
    Row {
        id: "F64",
        what: "Caddy stopped, and a deploy",
        before: |site| site.sh("systemctl stop astra-caddy"),
        may_lose: "Caddy is down",
        ..GOES_ON
    },
    Row {
        id: "F64b",
        what: "Caddy killed while the first instance is tried",
        short: true,
        beside: |site| {
            site.trying(1)?;
            site.signal_caddy("KILL")
        },
        may_lose: "Caddy is down",
        ..GOES_ON
    },
    Row {
        id: "F64c",
        what: "Caddy stopped for good while the first instance is tried",
        beside: |site| {
            site.trying(1)?;
            site.sh("systemctl stop astra-caddy")
        },
        code: &[0, 1, 4],
        may_lose: "Caddy is down",
        ..ROW
    },
    Row {
        id: "F65",
        what: "Caddy's admin socket answers 403",
        before: |site| site.caddy_answers("403 Forbidden"),
        cure: |site| site.caddy_answers_itself(),
        code: &[1],
        says: &["Caddy does not answer", "systemctl restart astra-caddy"],
        ..ROW
    },
    Row {
        id: "F66",
        what: "Caddy hung (SIGSTOP) while the first instance is tried",
        beside: |site| {
            site.trying(1)?;
            site.signal_caddy("STOP")
        },
        cure: |site| site.signal_caddy("CONT"),
        code: &[1, 4],
        says: &["Caddy"],
        may_lose: "Caddy does not answer",
        ..ROW
    },
    Row {
        id: "F66b",
        what: "Caddy hung (SIGSTOP), and a rollback",
        before: |site| site.signal_caddy("STOP"),
        run: "astra-agent rollback",
        cure: |site| site.signal_caddy("CONT"),
        may_lose: "Caddy does not answer",
        ..GOES_ON
    },
    Row {
        id: "F67",
        what: "Caddy refuses the Caddyfile ([caddy] extra)",
        before: |site| site.key("caddy", r#"extra = "no_such_directive""#),
        code: &[2],
        says: &["no_such_directive"],
        ..ROW
    },
    Row {
        id: "F69",
        what: "another process on port 80",
        before: |site| {
            site.sh("systemctl stop astra-caddy")?;
            site.squat("0.0.0.0:80")
        },
        run: "astra-agent reconcile --wait 60s",
        cure: |site| site.sh("systemctl stop squatter"),
        code: &[1, 4],
        says: &["astra-caddy"],
        may_lose: "another process answers",
        ..ROW
    },
];
