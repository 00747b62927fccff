//! The registry, and the network.

use super::super::registry::{Mode, Registry};
use super::super::row::{Push, ROW, Row};
use super::Theme;

pub const THEME: Theme = Theme {
    title: "Registry and network",
    text: "A deploy that has to pull, through a proxy that misbehaves. A refused one has touched nothing.",
    rows: ROWS,
};

const PULL: Row = Row { push: Push::Tag("v3"), ..ROW };
const REFUSED: Row = Row { code: &[1], ..PULL };

const ROWS: &[Row] = &[
    Row {
        id: "F01",
        what: "registry: 500 on a manifest, twice",
        registry: Registry::times(Mode::Error, 2),
        commits: true,
        ..PULL
    },
    Row {
        id: "F01b",
        what: "registry: 503 on every manifest",
        registry: Registry::always(Mode::Unavailable),
        says: &["gave up after", "503"],
        ..REFUSED
    },
    Row {
        id: "F01c",
        what: "registry: 500 on podman's own question for the manifest, once",
        short: true,
        registry: Registry::times(Mode::ErrorToPodman, 1),
        says: &["pulled at attempt 2", "500"],
        commits: true,
        ..PULL
    },
    Row {
        id: "F02",
        what: "registry: 429 with Retry-After, twice",
        registry: Registry::times(Mode::TooMany, 2),
        commits: true,
        ..PULL
    },
    Row {
        id: "F03",
        what: "registry: 401, and its token server is dead",
        registry: Registry::always(Mode::Unauthorized),
        says: &["127.0.0.1:9/token"],
        ..REFUSED
    },
    Row {
        id: "F04",
        what: "registry: every blob truncated",
        short: true,
        registry: Registry::always(Mode::HalfBlob),
        says: &["pulling"],
        then: |site, _| site.not_stored(),
        ..REFUSED
    },
    Row {
        id: "F05",
        what: "registry: a flipped bit in every blob",
        registry: Registry::always(Mode::WrongBlob),
        says: &["pulling"],
        then: |site, _| site.not_stored(),
        ..REFUSED
    },
    Row {
        id: "F06",
        what: "registry: a flipped bit in every manifest",
        registry: Registry::always(Mode::WrongManifest),
        says: &["pulling"],
        then: |site, _| site.not_stored(),
        ..REFUSED
    },
    Row {
        id: "F07",
        what: "registry: a captive portal answers 200 with HTML",
        registry: Registry::always(Mode::WebPage),
        says: &["a web page answered"],
        ..REFUSED
    },
    Row {
        id: "F08",
        what: "registry: redirects to itself",
        registry: Registry::always(Mode::Redirect),
        says: &["redirect"],
        ..REFUSED
    },
    Row {
        id: "F09",
        what: "registry: 500 bytes a second",
        registry: Registry::always(Mode::SlowManifest),
        commits: true,
        ..PULL
    },
    Row {
        id: "F10",
        what: "registry: a blob that never comes",
        registry: Registry::always(Mode::StalledBlob),
        says: &["pulling", "60 s"],
        seconds: 150,
        ..REFUSED
    },
    Row {
        id: "F10b",
        what: "registry: a blob that never comes, and Ctrl-C after 6 s",
        short: true,
        registry: Registry::always(Mode::StalledBlob),
        run: "timeout --foreground --preserve-status -s INT 6 astra-agent deploy --force --wait 60s",
        says: &["SIGINT"],
        seconds: 30,
        ..REFUSED
    },
    Row {
        id: "F11",
        what: "registry: hangs up in the middle of every blob",
        registry: Registry::always(Mode::CutBlob),
        says: &["pulling"],
        then: |site, _| site.not_stored(),
        ..REFUSED
    },
    Row {
        id: "F11b",
        what: "registry: hangs up in the middle of a blob, once",
        registry: Registry::times(Mode::CutBlob, 1),
        commits: true,
        ..PULL
    },
    Row {
        id: "F12",
        what: "registry: down, and a deploy",
        registry: Registry::always(Mode::Down),
        says: &["gave up after"],
        seconds: 60,
        ..REFUSED
    },
    Row {
        id: "F12b",
        what: "registry: down, and a rollback",
        before: |site| site.sh("astra-agent deploy --force"),
        registry: Registry::always(Mode::Down),
        run: "astra-agent rollback",
        ..ROW
    },
    Row {
        id: "F13",
        what: "registry: accepts, and never answers",
        registry: Registry::always(Mode::Silent),
        says: &["gave up after"],
        seconds: 60,
        ..REFUSED
    },
    Row {
        id: "F14",
        what: "DNS dead",
        before: |site| site.config("127.0.0.1:5001/astra", "registry.example.com/astra"),
        says: &["registry.example.com"],
        seconds: 60,
        ..REFUSED
    },
    Row {
        id: "F92",
        what: "network: the instances' bridge down for 2 s while the first is tried",
        beside: |site| {
            site.trying(1)?;
            site.sh("ip link set podman0 down; sleep 2; ip link set podman0 up")
        },
        commits: true,
        may_lose: "no instance can be reached",
        ..ROW
    },
];
