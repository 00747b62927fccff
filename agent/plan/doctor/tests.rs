//! Situations that no test host has: an old Caddy, a wrong clock, credentials about to expire.

use std::collections::BTreeMap;

use super::*;
use crate::config::Config;
use crate::model::checkup::{Dockerd, ImageAsked};
use crate::model::fingerprint::HostKey;
use crate::model::history::History;
use crate::model::instance::ServiceName;
use crate::model::observed::{CaddySeen, Engine, EngineSeen, Observed};
use crate::model::token::Expiry;

const DAY: u64 = 24 * 3600;
const NOW: u64 = 1_800_000_000;

fn judged(observed: &Observed, checkup: &Checkup) -> Vec<Problem> {
    let text = "app.image = \"ghcr.io/a/b:c\"".to_owned();
    let config: Config = crate::config::parse(&[("agent.toml".into(), text)]).unwrap();
    let (history, key) = (History::default(), HostKey::new([0; 32]));
    let inputs = Inputs {
        config: &config,
        observed,
        history: &history,
        key: &key,
        engine: Engine::Podman,
        agent: "/usr/bin/astra-agent",
        caddy_image: None,
    };
    findings(&inputs, checkup)
}

fn level(found: &[Problem], check: &str) -> Option<Severity> {
    found.iter().find(|f| f.check == check).map(|f| f.severity)
}

fn well() -> Checkup {
    let asked = ImageAsked {
        repository: "ghcr.io/a/b".parse().unwrap(),
        resolved: Some(Ok(format!("sha256:{}", "0".repeat(64)).parse().unwrap())),
        login: None,
        bad_login: None,
    };
    let images = BTreeMap::from([(ServiceName::app(), asked)]);
    Checkup { now: NOW, clock_synchronised: Some(true), images, ..Checkup::default() }
}

#[test]
fn a_caddy_without_passive_health_checks() {
    for (version, expected) in [((2, 6), true), ((2, 10), true), ((2, 11), false), ((3, 0), false)] {
        let caddy = Some(CaddySeen { version: Some(version), runs: None });
        let found = judged(&Observed { caddy, ..Observed::default() }, &well());
        assert_eq!(level(&found, "caddy_version").is_some(), expected, "{version:?}");
    }
}

#[test]
fn settings_of_dockerd_are_notes_and_a_missing_log_driver_is_a_problem() {
    let checks = |live_restore, userland_proxy, journald| {
        let dockerd = Some(Dockerd { live_restore, userland_proxy, journald });
        let found = judged(&Observed::default(), &Checkup { dockerd, ..well() });
        ["docker_live_restore", "docker_userland_proxy", "docker_journald"].map(|check| level(&found, check))
    };
    assert_eq!(checks(true, false, true), [None; 3]);
    assert_eq!(
        checks(false, true, false),
        [Some(Severity::Note), Some(Severity::Note), Some(Severity::Problem)]
    );
    let podman = judged(&Observed::default(), &well());
    assert!(!podman.iter().any(|f| f.check.starts_with("docker")));
}

#[test]
fn the_clock_of_a_machine_and_of_a_container() {
    let clock = |synchronised, in_container| {
        let checkup = Checkup { clock_synchronised: synchronised, in_container, ..well() };
        level(&judged(&Observed::default(), &checkup), "clock")
    };
    assert_eq!(clock(Some(false), false), Some(Severity::Problem));
    assert_eq!(clock(Some(false), true), Some(Severity::Note));
    assert_eq!((clock(Some(true), false), clock(None, false)), (None, None));
}

#[test]
fn logins_near_their_end() {
    let login = |at: u64, since: Option<u64>| {
        let mut checkup = well();
        // Two services of one registry have one login.
        let front = checkup.images[&ServiceName::app()].clone();
        checkup.images.insert("front".parse().unwrap(), front);
        checkup.images.values_mut().for_each(|asked| asked.login = Some(Expiry { at, since }));
        let found = judged(&Observed::default(), &checkup);
        assert!(found.iter().filter(|problem| problem.check == "login").count() < 2, "{found:#?}");
        level(&judged(&Observed::default(), &checkup), "login").is_some()
    };
    assert!(login(NOW, None) && login(NOW - DAY, None) && login(NOW + 2 * DAY, None));
    assert!(!login(NOW + 4 * DAY, None));
    // A token of twelve hours is renewed automatically; only its last hour is reported.
    assert!(!login(NOW + 2 * 3600, Some(NOW - 10 * 3600)));
    assert!(login(NOW + 1800, Some(NOW - 12 * 3600 + 1800)));
}

#[test]
fn a_run_under_way_is_no_leftover() {
    let observed = Observed { trial_env: true, ..Observed::default() };
    assert!(level(&judged(&observed, &well()), "trial_file").is_some());
    let busy = Checkup { running: Some("`astra-agent deploy`, process 7".into()), ..well() };
    let found = judged(&observed, &busy);
    assert_eq!((level(&found, "trial_file"), level(&found, "running")), (None, Some(Severity::Note)));
}

#[test]
fn a_host_without_anything_is_told_to_install() {
    let engine = Some(EngineSeen { engine: Engine::Podman, version: "5.4.2".into() });
    let found = judged(&Observed { engine, ..Observed::default() }, &well());
    let checks: Vec<_> = found.iter().map(|f| f.check).collect();
    assert_eq!(checks, ["installed"], "{found:#?}");
}
