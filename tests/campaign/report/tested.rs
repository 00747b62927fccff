//! docs/proof/{kills,faults,operator,fuzz}.md: the parts that are cargo tests.

use crate::records::Tested;
use crate::report::text::{days, plural, table};
use crate::report::{Claim, Records, Verdict};
use crate::rows::Row;

/// A part, its claim and its table.
pub struct Suite {
    pub part: &'static str,
    pub page: &'static str,
    pub claim: &'static str,
    title: &'static str,
    intro: &'static str,
    header: &'static [&'static str],
}

const OPERATOR: &str = "\
A seed draws a site (instances, ports, strategy, network, automatic deploys, generated and fetched values, jobs, a worker
with a file, an accessory, how the app starts, becomes ready and ends) and fifteen operations on it: any verb, files changed by
hand, restarts, reboots and power cuts, killed processes, a registry or database that is down for a while, two commands at once.
Quick POSTs are sent meanwhile. After each operation the host is checked from outside: the release in astra.env is
serving, there are no leftovers of a run, no request was lost except by the operation itself, the timer tried no failed
release again, no generated value and no data of the accessory was lost, no secret is where it must not be, and `status`, `plan`, `history` and
`doctor` are correct. A failure names its seed and the operations that are enough.
";

const SEQUENCES: &[&str] = &["sequences", "operations", "traffic", "verdict"];

pub const SUITES: [Suite; 5] = [
    Suite {
        part: "kills",
        page: "kills",
        claim: "A kill of the agent leaves one whole release",
        title: "Kills",
        intro: "\
SIGKILL of the agent's main process, without manual repair: systemd starts `astra-agent recover`. After each both
instances serve the release that astra.env names, within 15 s plus the start of the app; no trial, marker, temporary file
or stray container is left, the journal can be read and every run in it is closed. Every step is one of the journal's, so
the crash points C1 to C19 are among them. C20 is an agent that replaces itself: this one does not. After a deploy that
migrates, the database is checked: it has what the new code needs when it serves. At the steps the agent is built with
failpoints.
",
        header: &["when", "kills", "violations", "slowest"],
    },
    Suite {
        part: "faults",
        page: "faults",
        claim: "No fault ends in a hang, a lost file, a wrong exit code or a useless message; requests are lost only \
                where the row says why",
        title: "Faults",
        intro: "\
Each is provoked for real on a host that serves under load (tests/host/faults has the commands and the expected messages).
First the command is checked during the fault: its exit code, its duration, and whether its message has the fix. Then the
fault is removed and the host is checked: the committed release serves, files are unchanged, there are no leftovers. Then
`recover` and `reconcile` run, and the host is checked again. Requests may only be lost if the verdict has the reason.
",
        header: &["fault", "done to the host", "answer and exit code", "took", "requests lost", "verdict"],
    },
    Suite {
        part: "operator-podman",
        page: "operator",
        claim: "Random operations on a random site break no promise",
        title: "Random operator, podman",
        intro: OPERATOR,
        header: SEQUENCES,
    },
    Suite {
        part: "operator-docker",
        page: "operator",
        claim: "The same on docker",
        title: "Random operator, docker",
        intro: "The same sequences, on hosts with docker.\n",
        header: SEQUENCES,
    },
    Suite {
        part: "fuzz",
        page: "fuzz",
        claim: "No input makes it panic",
        title: "Bad input",
        intro: "\
Mutants of real inputs for each parser, all targets at once; a panic or a slow answer fails. With
overflow checks a silent overflow is a panic too.
",
        header: &["target", "inputs", "seed"],
    },
];

/// All attempts at a part.
fn attempts<'a>(records: &'a Records, part: &str) -> &'a [Tested] {
    records.tested.get(part).map_or(&[], Vec::as_slice)
}

/// The rows of the last attempt.
pub fn rows<'a>(records: &'a Records, part: &str) -> &'a [Row] {
    attempts(records, part).last().map_or(&[], |tested| &tested.rows)
}

impl Suite {
    pub fn claim(&self, records: &Records) -> Claim {
        let attempts = attempts(records, self.part);
        let verdict = match attempts {
            [] => Verdict::NotRun,
            [.., last] if last.status != 0 => Verdict::Broken,
            [earlier @ .., _] => match earlier.iter().filter(|tested| tested.status != 0).count() {
                0 => Verdict::Kept,
                failed => Verdict::KeptAfter(failed),
            },
        };
        Claim { text: self.claim, page: self.page, verdict, days: days(attempts) }
    }

    pub fn section(&self, records: &Records) -> String {
        let attempts = attempts(records, self.part);
        let mut text = format!("## {}\n\n{}\n", self.title, self.intro);
        let rows: Vec<Vec<String>> = rows(records, self.part).iter().map(Row::cells).collect();
        text += &table(self.header, &rows, if attempts.is_empty() { "Not run." } else { "No rows." });
        if !attempts.is_empty() {
            text += "\nAll attempts, whatever their result; the table is from the last one:\n\n";
            attempts.iter().for_each(|tested| text += &attempt(tested));
        }
        text
    }
}

fn attempt(tested: &Tested) -> String {
    let Tested { origin, command, build, status, seconds, passed, failed, .. } = tested;
    let verdict = if *status == 0 { "passed" } else { "**FAILED**" };
    let counts = format!("{passed} passed; {} failed", failed.len());
    let names = if failed.is_empty() { String::new() } else { format!(" Failures: {}.", failed.join(", ")) };
    format!(
        "- `{command}`, {build} of the tree at {}: {verdict} ({counts}) in {seconds} s, {}.{names}\n",
        origin.tree,
        origin.day()
    )
}

pub fn kills_figure(records: &Records) -> Option<String> {
    let rows = rows(records, "kills");
    let groups = rows.iter().filter_map(|row| match row {
        // The rows of single crash points are parts of their group.
        Row::Kills { what, kills, violations, slowest, .. } if !is_point(what) => {
            Some((*kills, *violations, *slowest))
        }
        _ => None,
    });
    let (kills, violations, slowest) =
        groups.fold((0, 0, 0.0_f64), |all, one| (all.0 + one.0, all.1 + one.1, all.2.max(one.2)));
    (kills > 0).then(|| {
        format!("**{violations} of {kills} kills broke a promise**; the host was whole after {slowest:.1} s at most")
    })
}

/// C7
fn is_point(what: &str) -> bool {
    what.strip_prefix('C').is_some_and(|number| number.chars().all(|c| c.is_ascii_digit()))
}

pub fn faults_figure(records: &Records) -> Option<String> {
    let rows = rows(records, "faults");
    let verdicts = rows.iter().filter_map(|row| match row {
        Row::Fault { verdict, lost, .. } => Some((verdict == "FAILED", *lost > 0)),
        _ => None,
    });
    let all: Vec<(bool, bool)> = verdicts.collect();
    let count = |of: fn(&(bool, bool)) -> bool| all.iter().filter(|row| of(row)).count();
    (!all.is_empty()).then(|| {
        let (failed, lost) = (count(|row| row.0), count(|row| row.1));
        format!(
            "**{failed} of {} faults broke a promise**; {} lost requests, for the reason in its row",
            all.len(),
            lost
        )
    })
}

pub fn operator_figure(records: &Records) -> Option<String> {
    let (mut all, mut bad, mut done, mut since) = (0, 0, 0, Vec::new());
    for row in ["operator-podman", "operator-docker"].iter().flat_map(|part| rows(records, part)) {
        if let Row::Sequences { engine, sequences, operations, broken, since: last, .. } = row {
            (all, bad, done) = (all + sequences, bad + broken, done + operations);
            since.push(format!("{last} on {engine}"));
        }
    }
    (all > 0).then(|| {
        format!(
            "**{bad} of {} broke a promise** ({done} random operations); none of the last {}",
            plural(all, "sequence"),
            since.join(" and ")
        )
    })
}
