//! The container engine.

use super::super::acts::files::must;
use super::super::row::{GOES_ON, Push, ROW, Row};
use super::Theme;

pub const THEME: Theme = Theme {
    title: "podman",
    text: "Its service answers the agent's questions, and is not needed to start or stop an instance: a rollback works \
           without it.",
    rows: ROWS,
};

/// A deploy that has to pull.
const PULL: Row = Row { push: Push::Tag("v3"), code: &[1], ..ROW };

const ROWS: &[Row] = &[
    Row {
        id: "F27",
        what: "podman's service hung, and a deploy",
        before: |site| site.hang_podman(),
        cure: |site| site.sh("systemctl kill -s CONT podman.service"),
        says: &["engine"],
        ..PULL
    },
    Row {
        id: "F27b",
        what: "podman's service hung, and a rollback",
        before: |site| {
            site.sh("astra-agent deploy --force")?;
            site.hang_podman()
        },
        run: "astra-agent rollback",
        cure: |site| site.sh("systemctl kill -s CONT podman.service"),
        ..ROW
    },
    Row {
        id: "F62",
        what: "podman: a ruined container of ours, as a power cut in a migration leaves it",
        short: true,
        before: |site| {
            site.ruin_container()?;
            site.keep_starts()?;
            site.sh("rm -f /run/astra/seen.json")
        },
        run: "astra-agent reconcile",
        says: &["up to date: release"],
        repair: "the ruined container goes with the next run that does something",
        then: |site, _| {
            site.same_starts()?;
            site.sh("astra-agent status")
        },
        ..ROW
    },
    Row {
        id: "F28",
        what: "podman's socket gone",
        short: true,
        before: |site| site.remove_podman_socket(),
        cure: |site| site.sh("systemctl start podman.socket"),
        says: &["engine does not answer", "podman.socket"],
        ..PULL
    },
    Row {
        id: "F28b",
        what: "podman's socket gone, and a rollback",
        before: |site| {
            site.sh("astra-agent deploy --force")?;
            site.remove_podman_socket()
        },
        run: "astra-agent rollback",
        cure: |site| site.sh("systemctl start podman.socket"),
        ..ROW
    },
    Row {
        id: "F28c",
        what: "podman's socket may not be opened (mode 0)",
        before: |site| site.sh("systemctl start podman.socket && chmod 0 /run/podman/podman.sock"),
        cure: |site| site.sh("chmod 0660 /run/podman/podman.sock"),
        code: &[0, 1],
        ..PULL
    },
    Row {
        id: "F29",
        what: "kill -9 of the podman that starts the first instance",
        beside: |site| {
            let kill = "until pkill -9 -f 'podman run .*astra-app-1'; do sleep 0.05; done";
            site.trying(1)?;
            site.sh(kill)
        },
        // If it is killed after conmon took over, nothing is wrong.
        code: &[0, 1],
        then: |site, output| {
            let told = output.text().contains("podman was killed (signal 9) while it started astra-app@1");
            must(output.code() == 0 || told, "the output names the kill")?;
            site.image().map(drop)
        },
        ..ROW
    },
    Row {
        id: "F30",
        what: "kill -9 of the conmon of an instance that serves, and reconcile",
        beside: |site| site.sh("kill -9 $(systemctl show -P MainPID astra-app@1)"),
        run: "sleep 0.3; astra-agent reconcile --wait 60s",
        then: |site, _| site.status_is_good(),
        may_lose: "what that instance was answering",
        ..ROW
    },
    Row {
        id: "F32",
        what: "another process holds podman's storage lock for 5 s",
        beside: |site| {
            site.trying(1)?;
            site.hold_lock("/var/lib/containers/storage/storage.lock", 5)
        },
        ..GOES_ON
    },
    Row {
        id: "F33",
        what: "the image removed between pull and start",
        push: Push::Tag("v3"),
        beside: |site| {
            site.until("instance 1 is drained", || site.exists("/run/astra/drain/1"))?;
            let image = site.variable("/run/astra/trial.env", "APP_IMAGE")?;
            site.sh(&format!("podman rmi -f {image}"))
        },
        code: &[1],
        says: &["astra-app@1"],
        ..ROW
    },
    Row {
        id: "F34",
        what: "podman's database damaged, and a deploy",
        before: |site| site.damage_podman(),
        cure: |site| site.restore_podman(),
        says: &["engine", "journalctl -u podman"],
        ..PULL
    },
];
