//! The run under way, from two sources: the lock names the process, the journal its progress.

use serde::Serialize;

use crate::host::facts;
use crate::host::lock::Held;
use crate::model::entry::{Entry, RunId};
use crate::model::history::RunRecord;

/// The process that holds the lock, and its progress.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct UnderWay {
    /// `deploy`
    pub command: String,
    pub actor: String,
    pub pid: u32,
    /// RFC 3339, UTC.
    pub since: String,
    /// `null` while it prepares a run, and for a command without a run (`env set`).
    pub run: Option<RunId>,
    /// The last step that was started, out of `of`; `null` during undo.
    pub step: Option<usize>,
    pub of: Option<usize>,
    pub doing: Option<String>,
    pub undoing: bool,
}

/// `open`: the newest run without an end.
pub fn under_way(holder: &Held, open: Option<&RunRecord>) -> UnderWay {
    let (command, actor) =
        (holder.command.trim_start_matches("astra-agent ").to_owned(), holder.actor.clone());
    let found =
        UnderWay { command, actor, pid: holder.pid, since: holder.since.clone(), ..UnderWay::default() };
    // A run that was cut off before the lock was taken belongs to an earlier process; the holder is about to
    // close it.
    let since = facts::millis_of(&holder.since).unwrap_or(0);
    let Some(run) = open.filter(|run| run.opened().is_some_and(|opened| opened.at >= since)) else {
        return found;
    };
    let mut found = UnderWay { run: Some(run.id), ..found };
    let plan = match run.entries.first().map(|s| &s.entry) {
        Some(Entry::Opened { plan, .. }) => plan.as_slice(),
        _ => &[],
    };
    for stamped in &run.entries {
        match &stamped.entry {
            Entry::Started { step } => {
                (found.step, found.of) = (Some(step + 1), Some(plan.len()));
                found.doing = plan.get(*step).cloned();
            }
            Entry::UndoStarted { what, .. } => {
                (found.step, found.of, found.undoing) = (None, None, true);
                found.doing = Some(what.clone());
            }
            Entry::Interrupted { .. } => found.undoing = true,
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::entry::{Stamped, Verb};

    const SINCE: &str = "2026-11-21T04:23:42.007Z";

    fn holder() -> Held {
        let (command, actor) = ("astra-agent deploy".to_owned(), "root".to_owned());
        Held { pid: 7, command, actor, since: SINCE.to_owned(), yields: false }
    }

    fn run(later: i64, entries: Vec<Entry>) -> RunRecord {
        let at = facts::millis_of(SINCE).unwrap().checked_add_signed(later).unwrap();
        let plan = vec!["pull".to_owned(), "drain astra-app@1 (at most 8s)".to_owned()];
        let opened = Entry::Opened {
            verb: Verb::Deploy,
            actor: "root".into(),
            agent: "0".into(),
            plan,
            old: None,
            new: None,
            pins: false,
            accessory: None,
        };
        let entries = std::iter::once(opened).chain(entries).map(|entry| Stamped { at, entry }).collect();
        RunRecord { id: 13, entries }
    }

    #[test]
    fn the_lock_names_the_process_and_the_journal_its_progress() {
        let entries = vec![Entry::Started { step: 0 }, Entry::Started { step: 1 }];
        let found = under_way(&holder(), Some(&run(20, entries)));
        assert_eq!((found.command.as_str(), found.actor.as_str(), found.pid), ("deploy", "root", 7));
        assert_eq!((found.run, found.step, found.of, found.undoing), (Some(13), Some(2), Some(2), false));
        assert_eq!(found.doing.as_deref(), Some("drain astra-app@1 (at most 8s)"));

        let undo = Entry::UndoStarted { step: 0, what: "rejoin astra-app@1".into() };
        let found = under_way(&holder(), Some(&run(20, vec![Entry::Started { step: 1 }, undo])));
        assert_eq!((found.step, found.undoing), (None, true));
        assert_eq!(found.doing.as_deref(), Some("rejoin astra-app@1"));
    }

    #[test]
    fn a_run_cut_off_earlier_does_not_belong_to_the_holder() {
        let found = under_way(&holder(), Some(&run(-20, vec![Entry::Started { step: 1 }])));
        assert_eq!((found.run, found.step), (None, None));
        assert_eq!(under_way(&holder(), None).run, None);
    }
}
