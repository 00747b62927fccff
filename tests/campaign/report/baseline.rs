//! docs/proof/baseline.md

use crate::records::{Baseline, Case, Way};
use crate::report::text::{built, days, table};
use crate::report::{Claim, Records, Verdict};

const INTRO: &str = "\
Same host, app, releases and load for each contender, without manual repair. A fresh host for each line, and each line is
one run: it shows what happens, not how often. The agent lets WebSockets stay open for five seconds before it stops their
instance (`websocket_timeout`) and watches a release without and with traffic (`soak`), so its deploys take longer.

- *careful by hand* is the best that we could write without an agent (tests/campaign/careful): pull, migrate, then one
  instance after the other: restart, wait until /readyz answers 200 (60 s at most), else put the old image back, restart
  and stop there. Caddy has `Wants=` on the apps, and retries, readiness checks and timeouts of the agent's own Caddyfile.
  Its rollback is `deploy --back`: the image before the last deploy, without pull and migration.
- *podman auto-update* is Quadlet with `AutoUpdate=registry`, a `HealthCmd=` that asks /readyz and `Notify=healthy`
  (tests/campaign/auto-update), behind the same Caddyfile: it rolls an image back if its unit does not become healthy
  within 60 s. It does not run migrations: they were run before it. It has no rollback of a release that once was healthy:
  an operator has to push the old image to the registry.
- *the scripts it replaces* are unchanged (tests/campaign/plain), as a record, not as the best that can be done: pull, migrate,
  `systemctl restart` one instance after the other, `Type=notify`, Caddy with `Requires=` on the
  apps, no retries and health checks at their default interval of 30 s. They do not wait for /readyz. Their rollback is a
  deploy of the old image.

The cases:

- *good*, *starts, never ready*, *exits at once*: a release of that kind is deployed.
- *its migration fails*: the release starts, but its migration ends with an error. The next run of auto-update's timer
  follows after 5 s: the timer knows nothing of the migration.
- *deploy killed in the middle*: the process of the deploy gets SIGKILL once the first instance serves the good release.
- *power cut in the middle*: at that moment the process is stopped (SIGSTOP), the host goes off and boots again. Requests are counted
  from the end of the boot on.
- *rollback, registry down*: the good release is deployed without load, the registry is stopped, and the contender goes back.

\"Down\" are seconds in which no request that was sent got its answer. \"Back\" is when the last request failed, counted
from the start of the command. WebSockets are those that were cut, and those that could not be opened. Instances in bold do not
serve one ready release, or another than they should: the good release after its deploy, the old one after the deploy of any
other and after a rollback, one of the two after a kill and a power cut.
";

const HEADER: [&str; 11] = [
    "case",
    "deployed by",
    "exit code",
    "took",
    "requests",
    "failed",
    "seconds with failures",
    "seconds down",
    "back after",
    "WebSockets cut, not opened",
    "instances at the end",
];

/// The results of visitors from the start of the command on.
struct Seen {
    bad: usize,
    down: usize,
    back: String,
}

fn seen(line: &Baseline) -> Seen {
    let from = (line.begun - line.report.began).floor().max(0.0) as usize;
    let seconds = line.report.timeline.get(from..).unwrap_or_default();
    let bad = seconds.iter().filter(|second| second.failed > 0);
    let back = match seconds.iter().rposition(|second| second.failed > 0) {
        None => "never away".into(),
        Some(last) if last + 3 >= seconds.len() => format!("not in {} s", seconds.len()),
        Some(last) => format!("{} s", last + 1),
    };
    let down = bad.clone().filter(|second| second.answered == 0).count();
    Seen { bad: bad.count(), down, back }
}

/// Whether both instances serve the one release that they should.
fn whole(line: &Baseline) -> bool {
    let right: &[&str] = match line.case {
        Case::Good => &["v2"],
        Case::NeverReady | Case::Exits | Case::MigrationFails | Case::RollbackOffline => &["v1"],
        Case::Killed | Case::PowerCut => &["v1", "v2"],
    };
    match line.instances.as_slice() {
        [one, other] => one == other && right.contains(&one.as_str()),
        _ => false,
    }
}

pub fn claim(records: &Records) -> Claim {
    let agent: Vec<&Baseline> = records.baseline.iter().filter(|line| line.way == Way::Agent).collect();
    // A power cut takes the whole host.
    let lost = |line: &&Baseline| line.case != Case::PowerCut && line.report.failed > 0;
    let verdict = match agent.as_slice() {
        [] => Verdict::NotRun,
        lines if lines.iter().any(lost) || !lines.iter().all(|line| whole(line)) => Verdict::Broken,
        _ => Verdict::Kept,
    };
    let text = "A bad release, a failed migration, a killed deploy and a rollback without the registry lose no request \
                and leave one release";
    Claim { text, page: "baseline", verdict, days: days(&records.baseline) }
}

fn case_words(case: Case) -> &'static str {
    match case {
        Case::Good => "good",
        Case::NeverReady => "starts, never ready",
        Case::Exits => "exits at once",
        Case::MigrationFails => "its migration fails",
        Case::Killed => "deploy killed in the middle",
        Case::PowerCut => "power cut in the middle",
        Case::RollbackOffline => "rollback, registry down",
    }
}

fn way_words(way: Way) -> &'static str {
    match way {
        Way::Agent => "astra-agent",
        Way::Careful => "careful by hand",
        Way::AutoUpdate => "podman auto-update",
        Way::Plain => "the scripts it replaces",
    }
}

fn row(line: &Baseline) -> Vec<String> {
    let seen = seen(line);
    let instances = line.instances.join(" ");
    vec![
        case_words(line.case).into(),
        way_words(line.way).into(),
        line.code.map_or(String::new(), |code| code.to_string()),
        line.took.map_or(String::new(), |took| format!("{took} s")),
        line.report.total.to_string(),
        line.report.failed.to_string(),
        seen.bad.to_string(),
        seen.down.to_string(),
        seen.back,
        format!("{}, {}", line.report.websockets.cuts.len(), line.report.websockets.failed),
        if whole(line) { instances } else { format!("**{instances}**") },
    ]
}

pub fn page(records: &Records) -> String {
    let mut lines: Vec<&Baseline> = records.baseline.iter().collect();
    lines.sort_by_key(|line| (line.case, line.way));
    let mut rows: Vec<(Case, Vec<String>)> = lines.iter().map(|line| (line.case, row(line))).collect();
    if let Some(last) = rows.iter().rposition(|(case, _)| *case == Case::RollbackOffline) {
        let mut none = vec![String::new(); HEADER.len()];
        none.splice(..2, [case_words(Case::RollbackOffline).into(), way_words(Way::AutoUpdate).into()]);
        none.splice(10.., ["has no rollback".to_owned()]);
        rows.insert(last + 1, (Case::RollbackOffline, none));
    }
    let rows: Vec<Vec<String>> = rows.into_iter().map(|(_, row)| row).collect();
    let mut text = format!("{INTRO}\n{}", table(&HEADER, &rows, "Not run."));
    if let Some(first) = lines.first() {
        text += &format!("\n{} s are observed after each command. ", first.watch);
        text += &built(&records.machine.build, &records.baseline);
    }
    text
}
