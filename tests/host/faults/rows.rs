//! The table of faults, by what goes wrong.

use super::{GOOD, ROW, Row};

mod app;
mod files;
mod host;
mod outside;

pub const TABLE: [&[Row]; 4] = [outside::ROWS, host::ROWS, app::ROWS, files::ROWS];

/// What cannot be provoked in such a host, and why.
pub const NOT_COVERED: [(&str, &str); 16] = [
    (
        "F19",
        "an I/O error below the file system takes a virtual machine with a block device that fails (blkdebug)",
    ),
    ("F31", "crun lives for milliseconds: a kill cannot be aimed; F29 and F30 kill its neighbours"),
    ("F34", "a damaged podman database is podman's to mend: `podman system reset`, and the host begins anew"),
    ("F39", "an app that flaps is row F38, and a host test of broken releases"),
    ("F41, F43", "the test app does not fork, or say READY from a child"),
    ("F42", "the test app has no slow readiness path; the probe's own time-out is tested beside its code"),
    ("F47-F49, F51", "memory, process and CPU limits need control groups that such a host does not have"),
    (
        "F52, F53",
        "a host's clock is the machine's own; deadlines are monotonic by their type (tokio::time::Instant)",
    ),
    ("F58", "cron jobs beside deploys: tests of their own"),
    ("F59, F62, F63", "kills and power cuts are campaigns of their own"),
    ("F65", "Caddy refuses clients that send Sec-Fetch-Mode without Origin: this one sends neither"),
    ("F68", "Caddy has no such mode; that it serves by the new config is checked by its health routes"),
    ("F70", "a certificate directory matters with certificates only; tls is off here"),
    ("F78", "what old code does on a new schema is the app's: expand, then contract (README)"),
    ("F89", "the cloud's metadata service: tests of its adapter, over real sockets"),
    ("H10", "SELinux: no such kernel here"),
];
