//! The table of faults, by area.

use super::{GOOD, ROW, Row};

mod app;
mod files;
mod host;
mod outside;

pub const TABLE: [&[Row]; 4] = [outside::ROWS, host::ROWS, app::ROWS, files::ROWS];

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
