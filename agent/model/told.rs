//! What a finished step tells: to who watches, to the journal, to the report at the end of the run.

use serde::{Deserialize, Serialize};

/// The note of a step that was done. Empty for most steps.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// What the step found, e.g. `ready after 1.2 s`.
    #[serde(default, rename = "note", skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The step was done, and something about it is not as it should be.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub warning: bool,
    /// Connections that were still open when the time-out of a drain was over: the stop that follows cuts them.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub cut: u64,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl Told {
    /// A note that asks for nothing.
    pub fn note(text: impl Into<String>) -> Self {
        Self { text: Some(text.into()), ..Self::default() }
    }

    /// A note that is shown as a warning, and stands in the report.
    pub fn warning(text: impl Into<String>) -> Self {
        Self { warning: true, ..Self::note(text) }
    }

    /// A warning, and the number of connections that will be cut.
    pub fn cutting(cut: u64, text: impl Into<String>) -> Self {
        Self { cut, ..Self::warning(text) }
    }
}

impl From<Option<String>> for Told {
    fn from(text: Option<String>) -> Self {
        Self { text, ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::entry::Entry;

    #[test]
    fn journals_that_know_only_of_a_note_are_read_and_an_empty_one_takes_no_room() {
        let old: Entry =
            serde_json::from_str(r#"{"entry":"done","step":3,"note":"ready after 1.2 s"}"#).unwrap();
        assert_eq!(old, Entry::Done { step: 3, told: Told::note("ready after 1.2 s") });
        let undone: Entry = serde_json::from_str(r#"{"entry":"undo_done","step":3}"#).unwrap();
        assert_eq!(undone, Entry::UndoDone { step: 3, told: Told::default() });
        assert_eq!(serde_json::to_string(&undone).unwrap(), r#"{"entry":"undo_done","step":3}"#);
        let new = Entry::Done { step: 3, told: Told::cutting(5, "5 connections") };
        let written = serde_json::to_string(&new).unwrap();
        assert_eq!(serde_json::from_str::<Entry>(&written).unwrap(), new);
    }
}
