use std::collections::BTreeMap;
use std::process::Command;

use super::*;
use crate::model::entry::Verb;
use crate::model::fingerprint::HostKey;
use crate::model::outcome::{Blame, Outcome};
use crate::model::release::Release;

/// An empty directory for this test.
fn place(name: &str) -> PathBuf {
    let dir = std::env::temp_dir().join(format!("astra-journal-{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&dir);
    dir
}

fn opened() -> Entry {
    let (actor, agent) = ("test".to_owned(), "0".to_owned());
    Entry::Opened {
        verb: Verb::Deploy,
        actor,
        agent,
        plan: vec![],
        old: None,
        new: None,
        pins: false,
        accessory: None,
    }
}

const CLOSED: Entry = Entry::Closed { outcome: Outcome::Converged, reason: None, recovered: false };

/// Set in the child process below, whose files are limited to a few KiB: a longer write is cut off, as on a
/// full disk.
const SMALL: &str = "ASTRA_TEST_SMALL_FILES";

#[test]
fn a_line_that_does_not_fit_leaves_no_partial_line() {
    if let Some(dir) = std::env::var_os(SMALL) {
        return fill(&Journal::at(dir));
    }
    let dir = place("small");
    let test = std::thread::current().name().unwrap().to_owned();
    let shell = r#"trap "" XFSZ; ulimit -f 8; exec "$0" --exact "$1""#;
    let mut child = Command::new("sh");
    child.args(["-c", shell]).arg(std::env::current_exe().unwrap()).arg(test).env(SMALL, &dir);
    let output = child.output().unwrap();
    fs::remove_dir_all(&dir).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

fn fill(journal: &Journal) {
    let mut run = journal.open().unwrap();
    run.append(&opened(), true).unwrap();
    let long = Entry::Failed { step: 0, blame: Blame::Host, error: "x".repeat(3000), unready: None };
    let written = (0..9).take_while(|_| run.append(&long, false).is_ok()).count();
    assert!((1..9).contains(&written), "{written} lines fit");
    assert_eq!(journal.read(run.id).unwrap().entries.len(), 1 + written);
    run.append(&CLOSED, true).unwrap();
    let read = journal.history().unwrap();
    assert_eq!(read.damaged, None);
    assert_eq!(read.runs[0].entries.len(), 2 + written);
    assert_eq!(read.runs[0].entries.last().unwrap().entry, CLOSED);
}

#[test]
fn pruning_keeps_history() {
    let dir = place("forget");
    let journal = Journal::at(&dir);
    let image = |of: &str| format!("ghcr.io/a/b@sha256:{}", of.repeat(32)).parse().unwrap();
    let fingerprint = HostKey::new([0; 32]).fingerprint([b"env".as_slice()]);
    let good =
        Release { number: 1, image: image("01"), images: BTreeMap::new(), fingerprint: fingerprint.clone() };
    let bad = Release { number: 2, image: image("02"), images: BTreeMap::new(), fingerprint };
    let write = |verb, new: Option<&Release>, pins| {
        let mut run = journal.open().unwrap();
        let (actor, agent) = ("test".to_owned(), "0".to_owned());
        let new = new.cloned();
        run.append(
            &Entry::Opened {
                verb,
                actor,
                agent,
                plan: vec![],
                old: None,
                new: new.clone(),
                pins,
                accessory: None,
            },
            false,
        )
        .unwrap();
        if let Some(release) = new {
            run.append(&Entry::Committed { release }, false).unwrap();
        }
        run.append(&CLOSED, false).unwrap();
    };
    write(Verb::Deploy, Some(&good), false);
    write(Verb::Deploy, Some(&bad), false);
    write(Verb::Rollback, Some(&good), true);
    for _ in 0..KEPT_RUNS + 20 {
        write(Verb::Reconcile, None, false);
    }
    let history = journal.history().unwrap();
    assert_eq!(history.runs.len(), KEPT_RUNS + 1, "as many as are kept, and the new one");
    assert!(history.held_images(&bad).is_some() && history.pinned);
    assert_eq!((history.current(), history.rollback_target()), (Some(&good), None));
    fs::remove_dir_all(&dir).unwrap();
}
