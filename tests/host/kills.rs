//! SIGKILL of a run at any moment, without manual help: the host recovers by itself. `blind` kills by the
//! clock, `points` before and after every step and within them. With ASTRA_KILLS=200 it is a campaign
//! (tests/campaign), which continues where it was interrupted.

mod blind;
mod points;
mod site;
mod tally;

pub use tally::commit;

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::harness::{Host, Output};
use crate::rows;

/// The directory of a campaign's results.
pub fn results() -> PathBuf {
    rows::campaign().unwrap_or_else(|| Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("campaign"))
}

fn database(host: &Host, sql: &str) -> String {
    host.sh(&format!("runuser -u postgres -- psql -qAt astra -c \"{sql}\"")).ok().stdout
}

fn migrations(host: &Host) -> String {
    database(host, "select name from django_migrations where app = 'notes' order by name")
}

/// Restores the database schema of v1, which must be serving: the next release really has to migrate.
fn unmigrate(host: &Host) {
    database(
        host,
        "delete from django_migrations where app = 'notes' and name in ('0002_mood', '0003_place'); \
         alter table notes_note drop column if exists mood, drop column if exists place",
    );
    assert_eq!(migrations(host), "0001_initial\n");
}

/// Seconds that the app and its container need to start, both instances together.
fn start_seconds(deploy: &Output) -> f64 {
    let report: Value = serde_json::from_str(&deploy.stdout).unwrap();
    let phases = report["phases"].as_array().unwrap();
    let start = phases.iter().filter(|p| ["restart", "ready"].contains(&p[0].as_str().unwrap()));
    start.map(|p| p[1].as_f64().unwrap()).sum()
}

fn other(version: &str) -> &'static str {
    if version == "v1" { "v2" } else { "v1" }
}
