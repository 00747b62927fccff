//! The table of faults, by theme.

use super::row::Row;

mod bus;
mod caddy;
mod database;
mod disk;
mod files;
mod journal;
mod podman;
mod process;
mod registry;
mod release;
mod rollback;
mod terminal;

/// Rows about one part of the host, and what distinguishes them from the others.
pub struct Theme {
    pub title: &'static str,
    /// Below the title in docs/developing/faults.md.
    pub text: &'static str,
    pub rows: &'static [Row],
}

/// In the order in which they run.
pub const THEMES: [Theme; 12] = [
    registry::THEME,
    disk::THEME,
    bus::THEME,
    podman::THEME,
    process::THEME,
    terminal::THEME,
    release::THEME,
    caddy::THEME,
    database::THEME,
    rollback::THEME,
    journal::THEME,
    files::THEME,
];

pub fn all() -> impl Iterator<Item = &'static Row> {
    THEMES.iter().flat_map(|theme| theme.rows)
}

/// Faults without a row, and the reason.
pub const NOT_COVERED: [(&str, &str); 11] = [
    ("F31", "crun lives for milliseconds: a kill cannot be aimed; F29 and F30 kill its neighbours"),
    ("F39", "an app that flaps is row F38, and a host test of broken releases"),
    (
        "F42",
        "a slow readiness path is a host test (tests/host/proxy.rs); the probe's own timeout is tested beside its code",
    ),
    (
        "F52, F53",
        "a host's clock is the machine's own, so it cannot jump; deadlines are monotonic by their type \
         (tokio::time::Instant)",
    ),
    ("F58", "cron jobs beside deploys: tests of their own (tests/host/cron.rs)"),
    ("F59, F62, F63", "kills and power cuts are campaigns of their own"),
    ("F68", "Caddy has no such mode; that it serves by the new config is checked by its health routes"),
    ("F70", "a certificate directory matters with certificates only; tls is off here"),
    (
        "F78",
        "what old code does on a new schema is the app's: expand, then contract (README); F75b makes it happen",
    ),
    ("F89", "there is no such feature yet: `host`, `secret` and `parameter` of [env] are refused"),
    ("H10", "SELinux: no such kernel here"),
];
