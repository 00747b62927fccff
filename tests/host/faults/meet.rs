//! Meets one row: prepares the host, provokes the fault, judges the answer, and removes the fault.

use std::thread;
use std::time::Instant;

use super::registry::Registry;
use super::report::Met;
use super::row::{DEPLOY, Done, Push, Row};
use super::site::{KEPT_CONFIG, Site};
use crate::harness::{Load, Output};
use crate::report::Report;
use crate::site::CONFIG_FILE;

impl Site {
    /// Runs one row; returns what is wrong.
    pub fn meet(&mut self, row: &Row) -> Vec<String> {
        let mut faults = Vec::new();
        let tag = match self.prepare(row) {
            Ok(tag) => tag,
            Err(error) => return vec![format!("not prepared: {error}")],
        };
        let (output, seconds, load) = self.provoke(row, &mut faults);
        self.judge(row, &output, &mut faults);
        if row.commits_with(output.code()) {
            self.serves = tag.into();
        }
        let report = self.settle(row, output.code(), load, &mut faults);
        let met = Met { row, output: &output, seconds, report: &report };
        faults.extend(met.lost());
        met.print(&faults);
        faults
    }

    /// Pushes the row's release; returns its tag.
    fn prepare(&mut self, row: &Row) -> Result<&'static str, String> {
        if self.serves == "v3" {
            self.host.tag("latest", "v1");
            self.sh(DEPLOY)?;
            self.serves = "v1".into();
        }
        let tag = match row.push {
            Push::Other if self.serves == "v1" => "v2",
            Push::Other => "v1",
            Push::Tag(tag) => tag,
        };
        if tag == "v3" {
            self.sh(&format!("podman rmi -f -i 127.0.0.1:5001/astra@{}", self.host.digest("v3")))?;
        }
        self.host.tag("latest", tag);
        Ok(tag)
    }

    /// Provokes the fault, and runs the command.
    fn provoke(&mut self, row: &Row, faults: &mut Vec<String>) -> (Output, f64, Load) {
        let mut provoked =
            |done: Done| faults.extend(done.err().map(|error| format!("not provoked: {error}")));
        provoked((row.before)(self));
        self.proxy.set(row.registry);
        let load = self.host.load(40).websockets(0).start();
        let site = &*self;
        let (typed, seconds, beside) = thread::scope(|scope| {
            let beside = scope.spawn(|| (row.beside)(site));
            let begun = Instant::now();
            let typed = (row.typed)(site, row.run, row.seconds);
            (typed, begun.elapsed().as_secs_f64(), beside.join().unwrap())
        });
        provoked(beside);
        let output = typed.unwrap_or_else(|error| {
            provoked(Err(error));
            Output::default()
        });
        (output, seconds, load)
    }

    /// Checks the command's answer.
    fn judge(&self, row: &Row, output: &Output, faults: &mut Vec<String>) {
        let said = output.text();
        let code = output.code();
        if code == 124 || code == 137 && !row.code.contains(&137) {
            faults.push(format!("hangs: not done after {} s", row.seconds));
        }
        if !row.code.contains(&code) {
            faults.push(format!("exit code {code}, not {:?}", row.code));
        }
        faults.extend(row.says.iter().filter(|s| !said.contains(**s)).map(|s| format!("does not say {s:?}")));
        let advice = ["hint:", "next  ", "Usage:", "\n = "];
        if (1..100).contains(&code) && !advice.iter().any(|a| said.contains(a)) {
            faults.push("does not say what to do".into());
        }
        if said.contains("panicked") || said.contains("RUST_BACKTRACE") {
            faults.push("panics".into());
        }
        faults.extend((row.then)(self, output).err().map(|error| format!("afterwards: {error}")));
    }

    /// After the fault: the host becomes whole by itself, and stays so after a repair.
    fn settle(&mut self, row: &Row, code: i32, load: Load, faults: &mut Vec<String>) -> Report {
        self.proxy.set(Registry::GOOD);
        self.helpers.lock().unwrap().clear();
        let cures = [(row.cure)(self), self.sh(&format!("cp {KEPT_CONFIG} {CONFIG_FILE}"))];
        let errors = cures.into_iter().filter_map(Result::err);
        faults.extend(errors.map(|error| format!("not cured: {error}")));
        // Code 4 means that an operator has to repair; systemd's own restarts may still be under way.
        if row.repair.is_empty() && code != 4 {
            let missing = self.missing_at_last();
            faults.extend(missing.into_iter().map(|what| format!("before any repair: {what}")));
        }
        for verb in ["recover", "reconcile"] {
            let again = self.command(&format!("astra-agent {verb} --wait 60s"), 120);
            if again.code() != 0 {
                faults.push(format!("{verb} ends with {}: {}", again.code(), again.text()));
            }
        }
        thread::scope(|scope| {
            let load = scope.spawn(move || load.stop());
            for verb in ["status", "history"] {
                let answer = self.command(&format!("astra-agent {verb} --json"), 30);
                if answer.code() != 0 {
                    faults.push(format!("{verb} afterwards: {}", answer.text()));
                }
            }
            // The timer's own run may have begun.
            faults.extend(self.missing_at_last());
            load.join().unwrap()
        })
    }
}
