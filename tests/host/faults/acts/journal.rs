//! The agent's journal.

use std::fs;

use super::super::row::Done;
use super::super::site::Site;

const JOURNAL: &str = "/var/lib/astra-agent/journal";
const KEPT_RUN: &str = "/root/run.jsonl";

impl Site {
    /// The file of the newest run.
    pub fn newest_run(&self) -> Result<String, String> {
        let listed = fs::read_dir(self.at(JOURNAL)).map_err(|error| format!("{JOURNAL}: {error}"))?;
        let names = listed.map_while(Result::ok).filter_map(|entry| entry.file_name().into_string().ok());
        let newest = names.filter(|name| name.ends_with(".jsonl")).max();
        newest.map(|name| format!("{JOURNAL}/{name}")).ok_or_else(|| "the journal is empty".into())
    }

    /// Keeps the newest run aside, and returns its file.
    pub fn keep_run(&self) -> Result<String, String> {
        let run = self.newest_run()?;
        self.sh(&format!("cp -a {run} {KEPT_RUN}"))?;
        self.kept.lock().unwrap().clone_from(&run);
        Ok(run)
    }

    /// Puts the kept run back, in place of anything.
    pub fn restore_run(&self) -> Done {
        let run = self.kept.lock().unwrap().clone();
        self.sh(&format!("rm -rf {run} && mv {KEPT_RUN} {run}"))
    }

    /// Makes the second line of the newest run invalid.
    pub fn damage_run(&self) -> Done {
        let run = self.keep_run()?;
        self.edit(&run, |text| text.replacen("\n{", "\n[", 1))
    }
}
