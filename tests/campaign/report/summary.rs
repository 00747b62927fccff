//! docs/proof.md: the claims, five figures, the limits.

use crate::report::tested::{SUITES, faults_figure, kills_figure, operator_figure, rows};
use crate::report::text::{plural, table};
use crate::report::{Claim, Records, Verdict, baseline, cuts, load};
use crate::rows::Row;

const INTRO: &str = "\
The failures that this agent claims to survive, the tests of these claims, and the losses. A program measured and wrote
this page and its tables; nothing was rounded to look better, and tests that were not run are marked.
";

const LIMITS: &str = "\
- Another machine: all hosts are containers on one, with its kernel. No host of another family than Debian, no SELinux.
- A disk that confirms a flush and loses it, and damage of a disk. A power cut loses writes that were not flushed, no others.
- Clocks that jump: a host's clock is the machine's own.
- Networks between hosts: registry, database and visitors are on the host itself. TLS certificates.
- Months of use: a host lives for hours here.
";

const AGAIN: &str = "\
```console
# make campaign                # all of it: some hours, unattended; may be interrupted and restarted
# make campaign-load           # one part
# make campaign-new            # forgets the results
```

It needs root on a Debian machine; other load on it affects the times, not the losses. Raw results:
`target/campaign/*.jsonl`. docs/developing/testing.md explains the parts.
";

pub fn claims(records: &Records) -> Vec<Claim> {
    let mut claims = vec![load::claim(records), baseline::claim(records), cuts::claim(records)];
    claims.extend(SUITES.iter().map(|suite| suite.claim(records)));
    claims
}

fn verdict(verdict: &Verdict) -> String {
    match verdict {
        Verdict::NotRun => "not run".into(),
        Verdict::Kept => "kept".into(),
        Verdict::KeptAfter(failed) => format!("kept; **BROKEN** in {}", plural(*failed, "earlier attempt")),
        Verdict::Broken => "**BROKEN**".into(),
    }
}

fn figures(records: &Records) -> String {
    let figures = [
        ("load", load::figure(records)),
        ("kills", kills_figure(records)),
        ("cuts", cuts::figure(records)),
        ("faults", faults_figure(records)),
        ("operator", operator_figure(records)),
    ];
    let line = |(page, figure): (&str, Option<String>)| {
        format!("- {} ([{page}](proof/{page}.md)).\n", figure.unwrap_or_else(|| format!("{page}: not run")))
    };
    figures.map(line).concat()
}

/// Faults of the list that no row provokes.
fn not_covered(records: &Records) -> String {
    let ids = rows(records, "faults").iter().filter_map(|row| match row {
        Row::NotCovered { ids, .. } => Some(ids.as_str()),
        _ => None,
    });
    let ids: Vec<&str> = ids.collect();
    if ids.is_empty() {
        return String::new();
    }
    format!("- The faults {}: [the table](proof/faults.md) has the reasons.\n", ids.join(", "))
}

fn machine(records: &Records) -> String {
    let machine = &records.machine;
    let versions = records.versions.as_ref().map_or(String::new(), |v| {
        format!(
            " Hosts: Debian {}, systemd {}, podman {}, PostgreSQL {}, Caddy {}.",
            v.debian, v.systemd, v.podman, v.postgresql, v.caddy
        )
    });
    format!(
        "Agent: {}, commit {}, {}.{versions} Machine: {} CPUs ({}), {} GiB, Linux {}, {}.\n{}\n",
        machine.agent,
        machine.commit,
        machine.build,
        machine.cpus,
        machine.cpu,
        machine.memory_gib,
        machine.kernel,
        machine.rustc,
        records.provenance
    )
}

pub fn page(records: &Records) -> String {
    let row = |claim: Claim| {
        let Claim { text, page, verdict: kept, days } = claim;
        vec![text.into(), verdict(&kept), days, format!("[{page}](proof/{page}.md)")]
    };
    let claims: Vec<Vec<String>> = claims(records).into_iter().map(row).collect();
    let claims = table(&["claim", "result", "date", "tables"], &claims, "");
    format!(
        "{INTRO}\n{claims}\n## Five figures\n\n{}\n{}\n## Not tested\n\n{}{LIMITS}\n## Repeat it\n\n{AGAIN}",
        figures(records),
        machine(records),
        not_covered(records)
    )
}
