//! Pages from results that are made up here.

use super::*;
use crate::records::{Case, Cut, Deploy, Kind, Origin, Strategy, Way};
use crate::replay::Made;
use crate::rows::Row;
use crate::traffic::{Report, Second, WebSockets};

fn origin(day: &str) -> Origin {
    Origin { at: format!("{day}T01:02:03.004Z"), commit: "abc".into(), tree: "abc".into() }
}

fn block(strategy: Strategy, deploys: usize, failed: usize) -> Block {
    Block {
        origin: origin("2026-11-21"),
        strategy,
        kind: Kind::Mixed,
        number: 1,
        deploys,
        changes: 0,
        failed_deploys: Vec::new(),
        seconds: vec![2.5; deploys],
        pulled_seconds: Vec::new(),
        cut_elsewhere: Vec::new(),
        report: Report { total: 1000, failed, seconds: 5.0, asked: 200.0, ..Report::default() },
    }
}

/// A case of which one second after another failed, from the start of the command on.
fn case(way: Way, case: Case, failed: &[usize], instances: [&str; 2]) -> Baseline {
    let second = |failed: usize| Second { answered: if failed > 0 { 0 } else { 9 }, failed };
    let timeline: Vec<Second> = [0, 0].iter().chain(failed).map(|failed| second(*failed)).collect();
    let total = timeline.iter().map(|s| s.answered + s.failed).sum();
    Baseline {
        origin: origin("2026-11-22"),
        way,
        case,
        code: Some(0),
        took: Some(3.0),
        begun: 102.5,
        watch: 45,
        instances: instances.map(str::to_owned).to_vec(),
        report: Report {
            began: 100.0,
            total,
            failed: failed.iter().sum(),
            timeline,
            websockets: WebSockets { failed: 3, ..WebSockets::default() },
            ..Report::default()
        },
    }
}

fn cut(mark: usize, broken: &[&str]) -> Cuts {
    Cuts::Cut(Cut {
        origin: origin("2026-11-23"),
        mark,
        since_commit: mark > 5,
        made: Made { flushes: mark, under_way: 4, kept: 3, lost: 1 },
        serves: if mark > 5 { "v2" } else { "v1" }.into(),
        ready: "1".into(),
        broken: broken.iter().map(|text| (*text).to_owned()).collect(),
    })
}

fn tested(status: i32, rows: Vec<Row>) -> Tested {
    let (command, failed) = ("cargo test".into(), vec!["kills::blind".into(); usize::from(status != 0)]);
    Tested { origin: origin("2026-11-24"), command, status, passed: 4, failed, rows, ..Tested::default() }
}

fn kills(what: &str, kills: usize, violations: usize) -> Row {
    Row::Kills { what: what.into(), kills, undone: kills, committed: 0, violations, slowest: 9.25 }
}

fn page(records: &Records, name: &str) -> String {
    records.pages().into_iter().find(|page| page.0 == name).unwrap().1
}

fn verdicts(records: &Records) -> Vec<Verdict> {
    summary::claims(records).into_iter().map(|claim| claim.verdict).collect()
}

#[test]
fn parts_that_were_not_run_are_marked_on_every_page() {
    let records = Records::default();
    assert!(verdicts(&records).iter().all(|verdict| *verdict == Verdict::NotRun));
    assert_eq!(page(&records, "proof").matches("| not run |").count(), 8);
    assert_eq!(page(&records, "proof").matches(": not run").count(), 5);
    for (name, text) in records.pages().into_iter().skip(1) {
        assert!(text.contains("Not run.") && text.starts_with("# "), "{name}: {text}");
        assert!(text.lines().nth(2).unwrap().starts_with("<!-- Written by"), "{text}");
    }
}

#[test]
fn a_lost_request_breaks_the_claim_of_the_deploys_unless_the_strategy_changed() {
    let mut records = Records { load: vec![block(Strategy::Rolling, 2, 0)], ..Records::default() };
    records.load.push(block(Strategy::Change, 0, 7));
    assert_eq!(verdicts(&records)[0], Verdict::Kept);
    assert!(page(&records, "proof").contains("**0 of 1000 requests failed** in 2 deploys in a row"));
    assert!(page(&records, "load").contains(
        "| rolling, mixed | 2 | 0 | 1000 | 0 | 0 | 0 | 0 | 0 | 2.5 s, 2.5 s | | 200 | 200.0 | | |"
    ));
    records.load.push(block(Strategy::Surge, 2, 1));
    assert_eq!(verdicts(&records)[0], Verdict::Broken);
    records.load[2].report.failed = 0;
    records.load[2].cut_elsewhere.push(0);
    assert_eq!(verdicts(&records)[0], Verdict::Broken);
}

#[test]
fn the_comparison_shows_two_releases_at_the_end_and_when_visitors_were_back() {
    let records = |lines| Records { baseline: lines, ..Records::default() };
    let bad = case(Way::Plain, Case::Killed, &[200, 0, 200, 0, 0, 0], ["v2", "v1"]);
    let gone = case(Way::Plain, Case::RollbackOffline, &[0, 200, 200], ["none", "none"]);
    let good = case(Way::Agent, Case::Killed, &[0, 0, 0], ["v1", "v1"]);
    let all = records(vec![gone, bad, good]);
    assert_eq!(verdicts(&all)[1], Verdict::Kept);
    let text = page(&all, "baseline");
    let rows: Vec<&str> = text.lines().filter(|line| line.starts_with("| ")).skip(1).collect();
    assert_eq!(
        rows,
        [
            "| deploy killed in the middle | astra-agent | 0 | 3 s | 45 | 0 | 0 | 0 | never away | 0, 3 | v1 v1 |",
            "| deploy killed in the middle | the scripts it replaces | 0 | 3 s | 454 | 400 | 2 | 2 | 3 s | 0, 3 | **v2 v1** |",
            "| rollback, registry down | the scripts it replaces | 0 | 3 s | 427 | 400 | 2 | 2 | not in 3 s | 0, 3 | **none none** |",
            "| rollback, registry down | podman auto-update | | | | | | | | | has no rollback |",
        ]
    );
    let lost = records(vec![case(Way::Agent, Case::Killed, &[1], ["v1", "v1"])]);
    assert_eq!(verdicts(&lost)[1], Verdict::Broken);
    let off = records(vec![case(Way::Agent, Case::PowerCut, &[1, 0], ["v1", "v1"])]);
    assert_eq!(verdicts(&off)[1], Verdict::Kept);
    let unmigrated =
        records(vec![case(Way::Agent, Case::MigrationFails, &[0], ["migrate-fails", "migrate-fails"])]);
    assert_eq!(verdicts(&unmigrated)[1], Verdict::Broken);
    let stays = records(vec![case(Way::Agent, Case::RollbackOffline, &[0], ["v2", "v2"])]);
    assert_eq!(verdicts(&stays)[1], Verdict::Broken);
    let mixed = records(vec![case(Way::Agent, Case::PowerCut, &[0], ["v2", "v1"])]);
    assert_eq!(verdicts(&mixed)[1], Verdict::Broken);
}

#[test]
fn cuts_are_counted_by_what_served() {
    let deploy = Deploy {
        origin: origin("2026-11-23"),
        seed: 7,
        commit_at: 6,
        flushes: 10,
        since_commit: 4,
        log_bytes: 1,
        qemu: "7.2".into(),
    };
    let cuts = vec![Cuts::Deploy(deploy), cut(8, &[]), cut(3, &["an | empty file"])];
    let records = Records { cuts, ..Records::default() };
    assert_eq!(verdicts(&records)[2], Verdict::Broken);
    let text = page(&records, "cuts");
    assert!(
        text.contains("After 2 cuts: 1 served v1, 1 served v2, 1 broke a promise.\nMeasured 2026-11-23."),
        "{text}"
    );
    assert!(
        text.contains(
            "| 3 | | 3 | 1 | v1 | 1 s | an / empty file |\n| 8 | yes | 3 | 1 | v2 | 1 s | nothing |"
        ),
        "{text}"
    );
    assert!(page(&records, "proof").contains("**1 of 2 power cuts broke a promise**; 1 of them fell after"));
}

#[test]
fn an_earlier_attempt_that_failed_stays_on_the_page() {
    let rows = vec![
        kills("blind, seed 7", 20, 0),
        kills("C7", 3, 0),
        kills("C12", 3, 0),
        kills("within steps", 30, 0),
    ];
    let mut records = Records::default();
    records.tested.insert("kills", vec![tested(101, Vec::new()), tested(0, rows)]);
    assert_eq!(verdicts(&records)[3], Verdict::KeptAfter(1));
    let proof = page(&records, "proof");
    assert!(
        proof.contains("| kept; **BROKEN** in 1 earlier attempt | 2026-11-24 | [kills](proof/kills.md) |"),
        "{proof}"
    );
    assert!(
        proof.contains("**0 of 50 kills broke a promise**; the host was whole after 9.2 s at most"),
        "{proof}"
    );
    let text = page(&records, "kills");
    assert!(
        text.contains("**FAILED** (4 passed; 1 failed) in 0 s, 2026-11-24. Failures: kills::blind.\n"),
        "{text}"
    );
    records.tested.insert("kills", vec![tested(0, Vec::new()), tested(1, Vec::new())]);
    assert_eq!(verdicts(&records)[3], Verdict::Broken);
}

#[test]
fn both_engines_of_the_operator_are_on_one_page() {
    let sequences = |engine: &str| Row::Sequences {
        engine: engine.into(),
        sequences: 2,
        operations: 30,
        requests: 900,
        lost: 1,
        broken: 1,
        since: 1,
    };
    let mut records = Records::default();
    records.tested.insert("operator-podman", vec![tested(0, vec![sequences("podman")])]);
    records.tested.insert("operator-docker", vec![tested(0, vec![sequences("docker")])]);
    let proof = page(&records, "proof");
    let figure = "**2 of 4 sequences broke a promise** (60 random operations); none of the last 1 on podman and 1 on docker";
    assert!(proof.contains(figure), "{proof}");
    let text = page(&records, "operator");
    assert!(
        text.contains("\n## Random operator, docker\n") && text.starts_with("# Random operator, podman\n"),
        "{text}"
    );
    assert!(text.contains("| docker, 2 sequences | 30 operations | 900 requests, 1 lost | 1 broke a promise, none of the last 1 |"));
}
