//! A run as its operator and the reader of its log lines see it.

use crate::harness::Host;
use crate::site::{CONFIG_FILE, config_with, installed_with};

const FAST: (&str, &str) = ("soak = \"1s\"", "soak = \"0s\"");

/// The standard config without a soak, with `more` in `[app]`.
fn with(more: &str) -> String {
    config_with([FAST, ("instances = 2", &format!("instances = 2\n{more}"))])
}

/// Deploys with `more` in `[app]`; answers with the exit code and everything that was printed.
fn deploy_with(host: &Host, more: &str) -> (i32, String) {
    host.write(CONFIG_FILE, &with(more));
    let deploy = host.agent(["deploy"]);
    let text = deploy.text();
    println!("== {more}\n{text}");
    (deploy.code(), text)
}

#[test]
fn the_engine_s_own_words_reach_the_operator_and_the_right_one_is_blamed() {
    let host = installed_with("words", &with(""));
    let held = || host.status()["held"].as_array().unwrap().len();

    let (code, text) = deploy_with(&host, "volumes = [\"/root/no-such-key.pem:/key.pem:ro\"]");
    assert_eq!((code, held()), (1, 0), "a missing file on this host is not the release's fault");
    let reason = "Error: statfs /root/no-such-key.pem: no such file or directory";
    assert!(text.contains(reason), "{text}");
    assert!(host.sh("journalctl -u astra-app@1").ok().stdout.contains(reason));
    for noise in ["container died", "container create", "<nwarn>", "Deactivated"] {
        assert!(!text.contains(noise), "{noise}: {text}");
    }

    // Only where the machine of the test has no such controller for its hosts.
    if host.sh("grep -qw memory /sys/fs/cgroup/cgroup.controllers").code() != 0 {
        let (code, text) = deploy_with(&host, "memory = \"300M\"");
        assert_eq!((code, held()), (1, 0), "a limit that this host cannot set is not the release's fault");
        for said in ["memory.max", "this host cannot set a limit"] {
            assert!(text.contains(said), "no {said:?} in {text}");
        }
    }

    let (code, text) = deploy_with(&host, "command = [\"no-such-command\"]");
    assert_eq!((code, held()), (3, 1));
    assert!(text.contains("executable file `no-such-command` not found"), "{text}");

    // The log lines are those of the start that failed, not of the release that was stopped for it.
    host.sh("for i in 1 2; do podman exec astra-app-$i sh -c 'echo goodbye-of-the-old >/proc/1/fd/1'; done")
        .ok();
    host.write(CONFIG_FILE, &with(""));
    let exits = host.deploy("exits");
    assert_eq!(exits.code(), 3, "{}", exits.text());
    assert!(exits.text().contains("no good reason to live"), "{}", exits.text());
    assert!(!exits.text().contains("goodbye-of-the-old"), "{}", exits.text());

    // A cause is told once.
    let migrate = host.deploy("migrate-fails");
    let because = migrate.stdout.lines().find(|line| line.contains("because")).unwrap().to_owned();
    assert!(because.ends_with("migrating: the migration ended with code 1"), "{because}");
}
