//! The user's process: its rights, its output, its end.

use super::super::acts::typed;
use super::super::row::{GOES_ON, ROW, Row};
use super::Theme;

pub const THEME: Theme = Theme {
    title: "The user's process",
    text: "It shows what the run does; its end is not the run's.",
    rows: ROWS,
};

const JOURNALD: &str = "systemd-journald.socket systemd-journald-dev-log.socket systemd-journald.service";

const ROWS: &[Row] = &[
    Row {
        id: "F61b",
        what: "the terminal goes away (SIGKILL of the user's process): the run continues",
        short: true,
        beside: |site| {
            site.trying(1)?;
            site.sh("pkill -9 -f '^astra-agent deploy'")
        },
        code: &[137],
        then: |site, _| site.unlocked(),
        ..GOES_ON
    },
    Row {
        id: "F61c",
        what: "SIGHUP to the user's process, as from a dropped SSH session: the run continues",
        beside: |site| {
            site.trying(1)?;
            site.sh("pkill -HUP -f '^astra-agent deploy'")
        },
        then: |site, _| site.unlocked(),
        ..GOES_ON
    },
    Row {
        id: "F83",
        what: "not root",
        short: true,
        run: "setpriv --reuid 65534 --regid 65534 --clear-groups astra-agent deploy",
        code: &[1],
        says: &["needs root", "sudo"],
        seconds: 10,
        ..ROW
    },
    Row {
        id: "F84",
        what: "root without any capability",
        run: "setpriv --bounding-set=-all --inh-caps=-all astra-agent deploy --force --wait 60s",
        ..GOES_ON
    },
    Row {
        id: "F85",
        what: "typed where podman's socket cannot be seen (another mount namespace)",
        run: "unshare -m sh -c 'mount -t tmpfs tmpfs /run/podman && astra-agent deploy --force --wait 60s'",
        ..GOES_ON
    },
    Row {
        id: "F86",
        what: "standard output and error closed",
        run: "astra-agent deploy --force --wait 60s >&- 2>&-",
        ..GOES_ON
    },
    Row {
        id: "F86b",
        what: "standard output is a pipe without a reader",
        run: "astra-agent deploy --force --wait 60s | true; exit ${PIPESTATUS[0]}",
        ..GOES_ON
    },
    Row {
        id: "F86c",
        what: "standard output is a full pipe (a terminal under Ctrl-S)",
        short: true,
        typed: typed::into_a_full_pipe,
        ..GOES_ON
    },
    Row {
        id: "F87",
        what: "systemd-journald stopped",
        before: |site| {
            site.sh(&format!("systemctl stop {JOURNALD}"))?;
            site.fails("systemctl -q is-active systemd-journald")
        },
        cure: |site| site.sh(&format!("systemctl start {JOURNALD}")),
        ..GOES_ON
    },
    Row {
        id: "F88",
        what: "an instance writes 100,000 log lines while it is tried",
        beside: |site| {
            let write = "podman exec astra-app-2 sh -c 'seq 100000 >/proc/1/fd/1'";
            site.trying(1)?;
            site.until("the instance has written", || site.sh(write).is_ok())
        },
        ..GOES_ON
    },
];
