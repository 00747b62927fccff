//! The release that a rollback, or an undo, goes to.

use super::super::registry::{Mode, Registry};
use super::super::row::{Push, ROW, Row};
use super::Theme;
use crate::site::ENV_FILE;

pub const THEME: Theme = Theme {
    title: "Rollback and undo",
    text: "The release to which a rollback or an undo goes is missing, or fails as well.",
    rows: ROWS,
};

const ROWS: &[Row] = &[
    Row {
        id: "F90",
        what: "the rollback image pruned",
        before: |site| site.prune_rollback_target(),
        run: "astra-agent rollback",
        ..ROW
    },
    Row {
        id: "F90b",
        what: "the rollback image pruned, and the registry down",
        before: |site| site.prune_rollback_target(),
        registry: Registry::always(Mode::Down),
        commits: true,
        run: "astra-agent rollback",
        code: &[1],
        says: &["pulling"],
        ..ROW
    },
    Row {
        id: "F91",
        what: "the release that a rollback goes to fails too",
        before: |site| site.key("env", r#"APP_FAULT = "exits""#),
        run: "astra-agent rollback",
        code: &[3],
        says: &["no good reason to live"],
        ..ROW
    },
    Row {
        id: "F91b",
        what: "a bad release, and the committed one does not come back either",
        short: true,
        push: Push::Tag("exits"),
        beside: |site| {
            site.trying(1)?;
            site.append(ENV_FILE, "APP_FAULT=exits\n")
        },
        cure: |site| site.drop_variable("APP_FAULT"),
        code: &[4],
        says: &["undo: return astra-app@1", "astra-agent status"],
        ..ROW
    },
];
