use std::process::Command;

use super::*;
use crate::model::entry::Verb;
use crate::model::outcome::{Blame, Outcome};

/// A directory of this test's own, empty.
fn place(name: &str) -> PathBuf {
    let dir = std::env::temp_dir().join(format!("astra-journal-{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&dir);
    dir
}

fn opened() -> Entry {
    let (actor, agent) = ("test".to_owned(), "0".to_owned());
    Entry::Opened { verb: Verb::Deploy, actor, agent, plan: vec![], old: None, new: None, pins: false }
}

const CLOSED: Entry = Entry::Closed { outcome: Outcome::Converged, reason: None, recovered: false };

/// Set in the process below, which may write no file of more than a few KiB: what is over is cut off, as on a disk that
/// is full.
const SMALL: &str = "ASTRA_TEST_SMALL_FILES";

#[test]
fn a_line_that_does_not_fit_leaves_no_part_of_itself() {
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
    let long = Entry::Failed { step: 0, blame: Blame::Host, error: "x".repeat(3000) };
    let written = (0..9).take_while(|_| run.append(&long, false).is_ok()).count();
    assert!((1..9).contains(&written), "{written} lines fit");
    assert_eq!(journal.read(run.id).unwrap().entries.len(), 1 + written);
    run.append(&CLOSED, true).unwrap();
    let read = journal.history().unwrap();
    assert_eq!(read.damaged, None);
    assert_eq!(read.runs[0].entries.len(), 2 + written);
    assert_eq!(read.runs[0].entries.last().unwrap().entry, CLOSED);
}
