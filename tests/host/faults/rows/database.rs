//! PostgreSQL, and migrations.

use super::super::row::{Push, ROW, Row};
use super::Theme;
use crate::site::PASSWORD;

pub const THEME: Theme = Theme {
    title: "The database and migrations",
    text: "A migration that fails is the release's fault: it is held (exit code 3).",
    rows: ROWS,
};

const BAD: Row =
    Row { run: "astra-agent deploy --force --migrate --wait 60s", code: &[3], says: &["migration"], ..ROW };
/// One that no instance can work without.
const DOWN: Row = Row { may_lose: "the app is not ready without it", ..BAD };
/// One whose configuration is in the unit of the migration.
const EDITED: Row =
    Row { repair: "the unit of the migration follows agent.toml, which the row changes", ..BAD };

const ROWS: &[Row] = &[
    Row {
        id: "F71",
        what: "PostgreSQL down before a migration",
        before: |site| site.sh("systemctl stop postgresql"),
        cure: |site| {
            site.sh("systemctl start postgresql")?;
            site.database_again()
        },
        ..DOWN
    },
    Row {
        id: "F72",
        what: "PostgreSQL dies in mid-migration",
        before: |site| site.lock_migrations(),
        beside: |site| {
            site.migrating()?;
            site.sh("pg_ctlcluster 17 main stop -m immediate")
        },
        cure: |site| {
            // It has ended with its connection.
            site.sh("systemctl stop holder || true")?;
            site.sh("systemctl restart postgresql")?;
            site.database_again()
        },
        ..DOWN
    },
    Row {
        id: "F73",
        what: "a migration waits for a LOCK TABLE that never ends",
        before: |site| site.lock_migrations(),
        cure: |site| site.unlock_migrations(),
        then: |site, _| site.no_migration(),
        ..BAD
    },
    Row {
        id: "F73b",
        what: "a migration that hangs, and Ctrl-C",
        before: |site| site.lock_migrations(),
        beside: |site| {
            site.migrating()?;
            site.signal_run("INT")
        },
        cure: |site| site.unlock_migrations(),
        then: |site, _| site.no_migration(),
        says: &["SIGINT"],
        code: &[1],
        ..BAD
    },
    Row {
        id: "F74",
        what: "a migration that hangs by itself",
        before: |site| site.config(r#""./migrate.sh""#, r#""sleep", "300""#),
        then: |site, _| site.no_migration(),
        ..EDITED
    },
    Row {
        id: "F75b",
        what: "migrations are applied, and the command fails all the same: old code on a new schema",
        before: |site| site.config(r#""./migrate.sh""#, r#""sh", "-c", "./migrate.sh; exit 5""#),
        push: Push::Tag("v3"),
        says: &["the migration ended with code 5"],
        ..EDITED
    },
    Row {
        id: "F75",
        what: "a migration fails",
        short: true,
        push: Push::Tag("migrate-fails"),
        says: &["the migration ended with code 1", "fails on purpose"],
        ..BAD
    },
    Row {
        id: "F76",
        what: "PostgreSQL: too many connections",
        before: |site| {
            site.sql("ALTER ROLE astra CONNECTION LIMIT 0")?;
            site.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'astra'")
        },
        cure: |site| {
            site.sql("ALTER ROLE astra CONNECTION LIMIT -1")?;
            site.pause(1)
        },
        says: &["too many connections"],
        ..DOWN
    },
    Row {
        id: "F77",
        what: "the database password rotated meanwhile",
        before: |site| site.sql("ALTER ROLE astra PASSWORD 'other'"),
        cure: |site| {
            site.sql(&format!("ALTER ROLE astra PASSWORD '{PASSWORD}'"))?;
            site.pause(1)
        },
        says: &["password authentication failed"],
        ..DOWN
    },
];
