//! The end of a verb, and what a scenario asserts of it.

use std::collections::BTreeMap;

use astra_agent::converge::{Refused, Report};

use crate::world::World;

/// The end of a verb. `None`: it was killed.
pub struct Ran<'w> {
    pub world: &'w mut World,
    pub ended: Option<Result<Report, Refused>>,
    /// The calls that changed the host.
    pub calls: Vec<String>,
    /// The entries in the systemd journal.
    pub entries: Vec<BTreeMap<String, String>>,
    /// Warnings and failures, as the terminal shows them.
    pub told: String,
}

impl<'w> Ran<'w> {
    #[track_caller]
    pub fn succeeds(self) -> &'w mut World {
        self.exits(0)
    }

    /// The exit code of the command, which is also in the systemd journal.
    #[track_caller]
    pub fn exits(self, code: u8) -> &'w mut World {
        assert_eq!(self.code(), code, "{}", self.text());
        let logged = self.entries.last().map(|entry| entry["ASTRA_EXIT_CODE"].as_str());
        assert_eq!(logged, Some(code.to_string().as_str()), "systemd journal");
        self.world
    }

    pub fn is_ended(&self) -> bool {
        self.ended.is_some()
    }

    /// The run was killed.
    #[track_caller]
    pub fn was_killed(self) -> &'w mut World {
        assert!(self.ended.is_none(), "{}", self.text());
        assert_eq!(self.world.history().open_runs().count(), 1, "open runs");
        self.world
    }

    #[track_caller]
    pub fn says(self, words: &str) -> Self {
        assert!(self.text().contains(words), "{}", self.text());
        self
    }

    /// It changed nothing on the host.
    #[track_caller]
    pub fn changes_nothing(self) -> Self {
        assert_eq!(self.calls, [""; 0], "{}", self.text());
        self
    }

    /// It made the calls in this order, and perhaps others in between.
    #[track_caller]
    pub fn calls(self, wanted: &[&str]) -> Self {
        let mut left = self.calls.iter();
        for call in wanted {
            assert!(left.any(|made| made.starts_with(call)), "no `{call}` in order in {:#?}", self.calls);
        }
        self
    }

    /// It made no call that begins so.
    #[track_caller]
    pub fn never_calls(self, call: &str) -> Self {
        assert!(!self.calls.iter().any(|made| made.starts_with(call)), "{:#?}", self.calls);
        self
    }

    /// A field of the last entry in the systemd journal.
    #[track_caller]
    pub fn logs(self, field: &str, value: &str) -> Self {
        let entry = self.entries.last().expect("no entry");
        assert_eq!(entry.get(field).map(String::as_str), Some(value), "{entry:#?}");
        self
    }

    pub fn code(&self) -> u8 {
        match self.ended.as_ref().expect("it was killed") {
            Ok(report) => report.exit_code,
            Err(refused) => refused.exit_code(),
        }
    }

    pub fn text(&self) -> String {
        let ended = match &self.ended {
            Some(Ok(report)) => format!("{report:#?}"),
            Some(Err(refused)) => refused.to_string(),
            None => "killed".to_owned(),
        };
        format!("{ended}\n{}\ncalls: {:#?}", self.told, self.calls)
    }
}
