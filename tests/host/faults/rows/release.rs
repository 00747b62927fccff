//! The release: how an app starts, becomes ready and ends, and what is in its place.

use super::super::acts::limits::Limit;
use super::super::row::{GOES_ON, Push, ROW, Row};
use super::Theme;

pub const THEME: Theme = Theme {
    title: "The release",
    text: "A release that fails is undone and held (exit code 3).",
    rows: ROWS,
};

const BAD: Row = Row { code: &[3], ..ROW };
/// Two deploys: the second one ends what the row's config has started.
const THERE_AND_BACK: Row = Row {
    run: "astra-agent deploy --force --wait 60s && cp /root/agent.toml /etc/astra/agent.toml && astra-agent deploy",
    commits: true,
    seconds: 180,
    ..ROW
};

const ROWS: &[Row] = &[
    Row {
        id: "F35",
        what: "the app exits at once",
        short: true,
        push: Push::Tag("exits"),
        says: &["exit code 3", "no good reason to live"],
        ..BAD
    },
    Row {
        id: "F36",
        what: "the app never says READY",
        push: Push::Tag("never-ready"),
        says: &["not READY within"],
        ..BAD
    },
    Row {
        id: "F37",
        what: "READY, but its readiness path answers 503",
        push: Push::Tag("not-ready"),
        says: &["/readyz answered 503"],
        ..BAD
    },
    Row {
        id: "F38",
        what: "READY, and it dies 2 s later",
        push: Push::Tag("flaps"),
        before: |site| site.config(r#"soak = "0s""#, r#"soak = "4s""#),
        says: &["exited with code 4"],
        repair: "the row's soak is in the timeouts of the units",
        ..BAD
    },
    Row {
        id: "F40",
        what: "the app ignores SIGTERM, and is deployed away",
        push: Push::Tag("ignores-term"),
        run: "astra-agent deploy --force --wait 60s && astra-agent rollback",
        seconds: 180,
        ..ROW
    },
    Row {
        id: "F41",
        what: "the app leaves children and zombies behind, and is deployed away",
        before: |site| {
            site.key("app", r#"command = ["sh", "-c", "(sleep 4242 &); (true &); python3 serve.py"]"#)
        },
        then: |site, _| site.fails("pgrep -f 'sleep 4242'"),
        ..THERE_AND_BACK
    },
    Row {
        id: "F43",
        what: "READY comes from a child of process 1",
        before: |site| site.key("app", r#"command = ["sh", "-c", "python3 serve.py; true"]"#),
        ..THERE_AND_BACK
    },
    Row {
        id: "F44",
        what: "a squatter on the port of instance 2",
        short: true,
        before: |site| {
            site.stop_instance(2)?;
            site.squat("127.0.0.1:8002")
        },
        cure: |site| site.sh("systemctl stop squatter"),
        repair: "the row stops an instance",
        code: &[1],
        says: &["8002"],
        ..ROW
    },
    Row {
        id: "F45",
        what: "a leftover container has the name of instance 1",
        before: |site| {
            site.stop_instance(1)?;
            site.podman("create -q --name astra-app-1 IMAGE")
        },
        ..GOES_ON
    },
    Row {
        id: "F45b",
        what: "a leftover container that has ended has the name of instance 1",
        before: |site| {
            site.stop_instance(1)?;
            site.podman("run -q --name astra-app-1 --entrypoint true IMAGE")
        },
        ..GOES_ON
    },
    Row {
        id: "F45c",
        what: "a leftover container that is paused has the name of instance 1",
        before: |site| {
            site.stop_instance(1)?;
            site.podman("run -q -d --name astra-app-1 --entrypoint sleep IMAGE 600")?;
            site.sh("kill -STOP $(podman inspect -f '{{.State.Pid}}' astra-app-1)")
        },
        ..GOES_ON
    },
    Row {
        id: "F46",
        what: "a leftover migration container runs",
        before: |site| site.podman("run -q -d --name astra-migrate --entrypoint sleep IMAGE 600"),
        run: "astra-agent deploy --force --migrate --wait 60s",
        ..GOES_ON
    },
    Row {
        id: "F47",
        what: "the new release needs more memory than there is (OOM killer)",
        short: true,
        before: |site| site.limit_next_app(&site.limit(Limit::Memory("24M"))?),
        says: &["137", "out of memory"],
        ..BAD
    },
];
