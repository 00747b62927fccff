//! The note of a finished step: for the progress output, the journal, and the report of the run.

use serde::{Deserialize, Serialize};

/// The note of a finished step. Empty for most steps.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepNote {
    /// The result of the step, e.g. `ready after 1.2 s`.
    #[serde(default, rename = "note", skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The step was done, but with a problem.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub warning: bool,
    /// Connections still open when a drain timed out: the next stop cuts them.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub cut: u64,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl StepNote {
    /// A note without a problem.
    pub fn note(text: impl Into<String>) -> Self {
        Self { text: Some(text.into()), ..Self::default() }
    }

    /// A note that is shown as a warning, and repeated in the report.
    pub fn warning(text: impl Into<String>) -> Self {
        Self { warning: true, ..Self::note(text) }
    }

    /// A warning, and the number of connections that will be cut.
    pub fn cutting(cut: u64, text: impl Into<String>) -> Self {
        Self { cut, ..Self::warning(text) }
    }
}

impl From<Option<String>> for StepNote {
    fn from(text: Option<String>) -> Self {
        Self { text, ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::entry::Entry;

    #[test]
    fn older_journals_are_read_and_an_empty_note_is_not_written() {
        let old: Entry =
            serde_json::from_str(r#"{"entry":"done","step":3,"note":"ready after 1.2 s"}"#).unwrap();
        assert_eq!(old, Entry::Done { step: 3, told: StepNote::note("ready after 1.2 s") });
        let undone: Entry = serde_json::from_str(r#"{"entry":"undo_done","step":3}"#).unwrap();
        assert_eq!(undone, Entry::UndoDone { step: 3, told: StepNote::default() });
        assert_eq!(serde_json::to_string(&undone).unwrap(), r#"{"entry":"undo_done","step":3}"#);
        let new = Entry::Done { step: 3, told: StepNote::cutting(5, "5 connections") };
        let written = serde_json::to_string(&new).unwrap();
        assert_eq!(serde_json::from_str::<Entry>(&written).unwrap(), new);
    }
}
