//! `status --watch` while a run is under way: shows its steps from the journal file until the end. This
//! follows a run from another terminal, or after its first terminal was lost.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use crate::cli::{history, out, progress, terminal};
use crate::converge::{Event, Refused, Watch};
use crate::host::facts;
use crate::host::lock::{Held, Lock};
use crate::journal::Journal;
use crate::model::entry::{Entry, RunId, Stamped};
use crate::model::history::RunRecord;
use crate::model::name::{JOURNAL_DIR, LOCK};

const POLL: Duration = Duration::from_millis(200);

/// Exit code 0 whatever the outcome of the run.
pub async fn follow(holder: &Held) -> Result<u8, Refused> {
    let journal = Journal::at(JOURNAL_DIR);
    let since = facts::millis_of(&holder.since).unwrap_or(0);
    let before = journal.history()?.runs.iter().rev().find(|run| begun(run) < since).map_or(0, |run| run.id);
    let head = format!(
        "following `{}` by {} (process {}), begun {}; Ctrl-C ends this view, not the run",
        holder.command,
        holder.actor,
        holder.pid,
        terminal::ago(terminal::now(), since)
    );
    out::line(&terminal::wrap(&head, 0, terminal::columns()));
    let (watch, _) = progress::watch(false);
    let mut told = Position { run: before + 1, ..Position::default() };
    loop {
        // Checked before the files are read, so that the run's last entries are shown as well.
        let holds = Lock::holder_of(Path::new(LOCK))
            .is_some_and(|now| (now.pid, &now.since) == (holder.pid, &holder.since));
        for run in journal.runs_from(told.run)? {
            told.tell(&run, &watch);
        }
        if !holds {
            break;
        }
        tokio::time::sleep(POLL).await;
    }
    out::line(&terminal::wrap(&ending(&holder.command, told.last.as_ref()), 0, terminal::columns()));
    Ok(0)
}

fn begun(run: &RunRecord) -> u64 {
    run.opened().map_or(0, |opened| opened.at)
}

/// The position up to which the runs were shown.
#[derive(Default)]
struct Position {
    run: RunId,
    entries: usize,
    /// Start time of the last step shown.
    begun: u64,
    last: Option<RunRecord>,
}

impl Position {
    /// Shows the new entries of `run` like the terminal that started it.
    fn tell(&mut self, run: &RunRecord, watch: &Watch) {
        if run.id != self.run {
            (self.run, self.entries) = (run.id, 0);
        }
        let plan = match run.entries.first().map(|s| &s.entry) {
            Some(Entry::Opened { plan, .. }) => plan.as_slice(),
            _ => &[],
        };
        for stamped in run.entries.iter().skip(self.entries) {
            self.entry(run.id, plan, stamped, watch);
        }
        self.entries = run.entries.len();
        self.last = Some(run.clone());
    }

    fn entry(&mut self, run: RunId, plan: &[String], stamped: &Stamped, watch: &Watch) {
        let elapsed = Duration::from_millis(stamped.at.saturating_sub(self.begun));
        match &stamped.entry {
            Entry::Opened { verb, .. } => {
                watch(&Event::Note(&format!("run {run}: {}, {} steps", verb.as_str(), plan.len())));
            }
            Entry::Started { step } => {
                self.begun = stamped.at;
                let text = plan.get(*step).map_or("", String::as_str);
                watch(&Event::Step { number: step + 1, of: plan.len(), text, undoing: false });
            }
            Entry::UndoStarted { what, .. } => {
                self.begun = stamped.at;
                watch(&Event::Step { number: 0, of: 0, text: what, undoing: true });
            }
            Entry::Done { told, .. } | Entry::UndoDone { told, .. } => {
                watch(&Event::Done { told, elapsed });
            }
            Entry::Failed { error, .. } | Entry::UndoFailed { error, .. } => {
                watch(&Event::Failed { error, elapsed });
            }
            Entry::Interrupted { signal } => {
                watch(&Event::Failed { error: &format!("{signal}: undoing"), elapsed });
            }
            Entry::Closed { .. } => watch(&Event::Ended),
            Entry::CommitIntent { .. } | Entry::Committed { .. } => {}
        }
    }
}

/// The last line: the outcome of the last run.
fn ending(command: &str, last: Option<&RunRecord>) -> String {
    let Some((run, opened)) = last.and_then(|run| Some((run, run.opened()?))) else {
        return format!("`{command}` ended; it made no run");
    };
    let release = opened.new.map(|r| format!(", release {}", r.number)).unwrap_or_default();
    let head = format!("{} (run {}{release})", opened.verb.as_str(), run.id);
    match run.closed() {
        Some((outcome, reason, at)) => {
            let took = Duration::from_millis(at.saturating_sub(opened.at)).as_secs_f64();
            let reason = reason.map(|r| format!(": {}", out::first_line(r))).unwrap_or_default();
            format!("{head} ended: {} in {took:.1} s{reason}", history::outcome_label(outcome))
        }
        None => format!("{head} was cut off; `astra-agent recover` closes it, if systemd has not begun to"),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::*;
    use crate::model::entry::Verb;
    use crate::model::outcome::Outcome;

    fn run(entries: Vec<(u64, Entry)>) -> RunRecord {
        RunRecord { id: 13, entries: entries.into_iter().map(|(at, entry)| Stamped { at, entry }).collect() }
    }

    fn opened() -> (u64, Entry) {
        let plan = vec!["pull".to_owned(), "drain astra-app@1".to_owned()];
        let (actor, agent) = ("root".into(), "0".into());
        (
            0,
            Entry::Opened {
                verb: Verb::Deploy,
                actor,
                agent,
                plan,
                old: None,
                new: None,
                pins: false,
                accessory: None,
            },
        )
    }

    #[test]
    fn each_entry_is_shown_once_with_its_duration() {
        let heard = Rc::new(RefCell::new(Vec::new()));
        let ear = heard.clone();
        let watch: Watch = Rc::new(move |event: &Event<'_>| {
            ear.borrow_mut().push(match event {
                Event::Step { number, of, text, .. } => format!("{number}/{of} {text}"),
                Event::Done { elapsed, .. } => format!("done in {elapsed:?}"),
                Event::Note(text) => (*text).to_owned(),
                other => format!("{other:?}"),
            });
        });
        let mut told = Position { run: 13, ..Position::default() };
        let mut entries = vec![opened(), (1000, Entry::Started { step: 0 })];
        told.tell(&run(entries.clone()), &watch);
        entries.push((3500, Entry::Done { step: 0, told: crate::model::step_note::StepNote::default() }));
        entries.push((3500, Entry::Started { step: 1 }));
        told.tell(&run(entries.clone()), &watch);
        told.tell(&run(entries.clone()), &watch);
        let expected = ["run 13: deploy, 2 steps", "1/2 pull", "done in 2.5s", "2/2 drain astra-app@1"];
        assert_eq!(*heard.borrow(), expected);

        let outcome = Outcome::Converged;
        entries.push((15_600, Entry::Closed { outcome, reason: None, recovered: false }));
        let end = ending("astra-agent deploy", Some(&run(entries)));
        assert_eq!(end, "deploy (run 13) ended: converged in 15.6 s");
        assert_eq!(ending("astra-agent env set", None), "`astra-agent env set` ended; it made no run");
    }
}
