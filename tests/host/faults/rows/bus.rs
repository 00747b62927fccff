//! systemd and the bus.

use super::super::row::{GOES_ON, Push, ROW, Row};
use super::Theme;

pub const THEME: Theme = Theme {
    title: "systemd and the bus",
    text: "The agent starts and stops instances over the bus, and waits there for the end of each job.",
    rows: ROWS,
};

const DROP_INS: &str = "/etc/systemd/system/astra-app@.service.d";

const ROWS: &[Row] = &[
    Row {
        id: "F20",
        what: "dbus killed while the first instance is tried",
        short: true,
        beside: |site| {
            site.trying(1)?;
            site.sh("systemctl kill -s KILL dbus.service")
        },
        ..GOES_ON
    },
    Row {
        id: "F21",
        what: "dbus hung for 8 s while the first instance is tried",
        beside: |site| {
            site.trying(1)?;
            site.signal_bus("STOP")?;
            site.pause(8)?;
            site.signal_bus("CONT")
        },
        ..GOES_ON
    },
    Row {
        id: "F21b",
        what: "dbus hung for good before a deploy",
        before: |site| site.signal_bus("STOP"),
        cure: |site| site.signal_bus("CONT"),
        code: &[1],
        says: &["D-Bus"],
        seconds: 60,
        ..ROW
    },
    Row {
        id: "F21c",
        what: "dbus hung for good while the first instance is tried",
        beside: |site| {
            site.trying(1)?;
            site.signal_bus("STOP")
        },
        cure: |site| {
            site.signal_bus("CONT")?;
            site.pause(1)?;
            site.unlocked()
        },
        code: &[4],
        says: &["lost contact with the run", "systemctl status dbus"],
        seconds: 240,
        ..ROW
    },
    Row {
        id: "F22",
        what: "daemon-reload in a loop",
        beside: |site| {
            site.trying(1)?;
            site.sh("for _ in $(seq 30); do systemctl daemon-reload; done")
        },
        ..GOES_ON
    },
    Row {
        id: "F23",
        what: "daemon-reexec while the first instance is tried",
        beside: |site| {
            site.trying(1)?;
            site.sh("systemctl daemon-reexec")
        },
        ..GOES_ON
    },
    Row {
        id: "F24",
        what: "astra-app@1.service masked",
        short: true,
        before: |site| site.sh("systemctl mask -q --runtime astra-app@1.service"),
        cure: |site| site.sh("systemctl unmask -q --runtime astra-app@1.service"),
        code: &[1],
        says: &["masked"],
        ..ROW
    },
    Row {
        id: "F25",
        what: "a drop-in for the unit added while the first instance is tried",
        beside: |site| {
            site.trying(1)?;
            site.write(&format!("{DROP_INS}/50-mine.conf"), "[Service]\nTimeoutStopSec=33\n")
        },
        cure: |site| site.sh(&format!("rm -r {DROP_INS} && systemctl daemon-reload")),
        ..GOES_ON
    },
    Row {
        id: "F25b",
        what: "the unit file replaced while the first instance is tried",
        beside: |site| {
            site.trying(1)?;
            site.edit("/etc/systemd/system/astra-app@.service", |unit| {
                unit.replace("\nDescription=", "\nDescription=edited: ")
            })?;
            site.sh("systemctl daemon-reload")
        },
        repair: "the unit file",
        ..GOES_ON
    },
    Row {
        id: "F26",
        what: "`systemctl stop` of the instance that is being started",
        short: true,
        push: Push::Tag("never-ready"),
        beside: |site| {
            let state = "systemctl show -P SubState astra-app@1";
            site.trying(1)?;
            site.until("astra-app@1 starts", || site.ask(state).is_ok_and(|state| state == "start"))?;
            site.sh("systemctl stop astra-app@1")
        },
        code: &[1],
        says: &["astra-app@1"],
        ..ROW
    },
];
