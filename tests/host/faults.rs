//! The fault campaign: a table (faults/rows.rs) of failures around the agent, each provoked on a host that
//! serves under load. A row has the fault, the expected exit code and messages; the promises for all rows are
//! in faults/promises.rs. docs/developing/faults.md is written from the table.
//!
//! ASTRA_FAULTS=short (the default), full, or the ids of rows: F27,F86.

use std::env;

mod acts;
mod meet;
mod page;
mod promises;
mod registry;
mod report;
mod row;
mod rows;
mod site;

use site::Site;

#[test]
fn faults_lose_nothing_and_report_the_fix() {
    let wish = env::var("ASTRA_FAULTS").unwrap_or_else(|_| "short".into());
    let rows: Vec<_> = rows::all().filter(|row| row.is_wanted(&wish)).collect();
    assert!(!rows.is_empty(), "no row {wish}");
    let mut hosts = 0;
    let mut site = Site::new(hosts);
    let mut failed = Vec::new();
    // Start a new line after the test's name.
    println!();
    for row in &rows {
        let faults = site.meet(row);
        if !faults.is_empty() {
            failed.push(row.id);
            // A fresh host after a failure, so that it does not affect the next row.
            hosts += 1;
            drop(site);
            site = Site::new(hosts);
        }
    }
    println!("{} faults met, {} as they must be", rows.len(), rows.len() - failed.len());
    if wish == "full" {
        for (ids, why) in rows::NOT_COVERED {
            crate::rows::record(&crate::rows::Row::NotCovered { ids: ids.into(), why: why.into() }).unwrap();
        }
    }
    assert!(failed.is_empty(), "{failed:?}");
}
