//! docs/proof/cuts.md

use crate::records::{Cut, Cuts, Deploy};
use crate::report::text::{built, days, table};
use crate::report::{Claim, Records, Verdict};

const INTRO: &str = "\
A host's disk (ext4) logs every write and every flush while it deploys v2 over v1 (qemu's blklogwrites): the app with two
instances, a front end of an image of its own, a worker, and a file in all of them (tests/campaign/cuts/services.toml). For flushes
spread at random over the deploy, and some more from the last flush before the commit on, the disk is restored as a cut
would leave it: everything up to that flush, and a random half of the later writes, in pieces of 4 KiB, so that writes
are lost, torn and out of order. A host boots from it and checks itself (tests/campaign/cuts/check.sh): all
services run one and the same release with its file, the committed one, also through Caddy; no variable of astra.env is lost; no file is empty, no trial, marker
or temporary file is left; new code only on a migrated database; `status` reports no problem, the journal has the run that
installed the site, every run in it is closed, and `last_app_image` is the rollback target. Then the next `deploy` commits v2,
and with the registry stopped `rollback` returns to v1: the old release is still complete on disk.
";

const HEADER: [&str; 7] =
    ["flush", "since the commit began", "pieces under way: kept", "lost", "served", "ready after", "broken"];

fn cuts(records: &Records) -> Vec<&Cut> {
    let cuts =
        records.cuts.iter().filter_map(|line| if let Cuts::Cut(cut) = line { Some(cut) } else { None });
    cuts.collect()
}

fn broken(cuts: &[&Cut]) -> usize {
    cuts.iter().filter(|cut| !cut.broken.is_empty()).count()
}

pub fn claim(records: &Records) -> Claim {
    let verdict = match cuts(records).as_slice() {
        [] => Verdict::NotRun,
        cuts if broken(cuts) > 0 => Verdict::Broken,
        _ => Verdict::Kept,
    };
    Claim { text: "A power cut leaves one whole release", page: "cuts", verdict, days: days(&records.cuts) }
}

pub fn figure(records: &Records) -> Option<String> {
    let cuts = cuts(records);
    (!cuts.is_empty()).then(|| {
        let late = cuts.iter().filter(|cut| cut.since_commit).count();
        let (broken, all) = (broken(&cuts), cuts.len());
        format!(
            "**{broken} of {all} power cuts broke a promise**; {late} of them fell after the commit began"
        )
    })
}

pub fn page(records: &Records) -> String {
    let mut cuts = cuts(records);
    cuts.sort_by_key(|cut| cut.mark);
    let mut text = format!("{INTRO}\n");
    for line in &records.cuts {
        let Cuts::Deploy(Deploy { flushes, since_commit, seed, qemu, .. }) = line else { continue };
        text += &format!(
            "The deploy flushed {flushes} times, {since_commit} of them from the write that it commits on. Seed \
             {seed}, qemu {qemu}.\n"
        );
    }
    let serve = |version: &str| cuts.iter().filter(|cut| cut.serves == version).count();
    if !cuts.is_empty() {
        text += &format!(
            "After {} cuts: {} served v1, {} served v2, {} broke a promise.\n{}\n",
            cuts.len(),
            serve("v1"),
            serve("v2"),
            broken(&cuts),
            built(&records.machine.build, &records.cuts)
        );
    }
    let row = |cut: &&Cut| {
        vec![
            cut.made.flushes.to_string(),
            if cut.since_commit { "yes".into() } else { String::new() },
            cut.made.kept.to_string(),
            cut.made.lost.to_string(),
            cut.serves.clone(),
            format!("{} s", cut.ready),
            if cut.broken.is_empty() { "nothing".into() } else { cut.broken.join("; ") },
        ]
    };
    text + &table(&HEADER, &cuts.iter().map(row).collect::<Vec<_>>(), "Not run.")
}
