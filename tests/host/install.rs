//! `install`, and that nothing is changed when nothing differs.

use crate::harness::Answer;
use crate::site::{CONFIG, CONFIG_FILE, config_with, fresh_with, installed};

#[test]
fn install_makes_a_site_and_changes_nothing_the_second_time() {
    let host = installed("install");
    assert_eq!(host.get("/readyz"), Answer { status: 200, body: "ready\n".into() });
    assert_eq!(host.versions([1, 2]), ["v1", "v1"]);
    assert_eq!(host.env("APP_IMAGE"), host.image("v1"));
    host.assert_tidy();

    let before = (host.files(), host.invocations());
    for verb in ["install", "reconcile", "deploy", "plan"] {
        let said = host.agent([verb]).ok().stdout;
        assert!(said.contains("nothing to do") || said.contains("up to date: release 1"), "{verb}: {said}");
        assert!(!said.contains("ok "), "{verb} did something: {said}");
    }
    assert_eq!((host.files(), host.invocations()), before);
}

#[test]
fn hand_made_files_are_kept_aside_and_a_repair_restarts_nothing() {
    let host = fresh_with("by-hand", CONFIG);
    let unit = "/etc/systemd/system/astra-app@.service";
    let caddyfile = "/etc/astra/Caddyfile";
    host.write(unit, "[Service]\nExecStart=/bin/false\n");
    host.write(caddyfile, "# my own\n");
    host.agent(["install"]).ok();
    let kept = |path: &str| host.read(&format!("{path}.before-astra"));
    assert_eq!(kept(unit), "[Service]\nExecStart=/bin/false\n");
    assert_eq!(kept(caddyfile), "# my own\n");

    let (written, running) = (host.read(unit), host.invocations());
    host.sh(&format!("echo '# an edit' >>{unit}")).ok();
    assert!(host.agent(["plan"]).ok().stdout.contains("-# an edit"));
    host.agent(["reconcile"]).ok();
    assert_eq!(host.read(unit), written);
    assert_eq!(kept(unit), "[Service]\nExecStart=/bin/false\n", "the first copy is the hand-made one");
    assert_eq!(host.invocations(), running);
}

#[test]
fn an_invalid_config_touches_nothing() {
    let host = installed("config");
    let before = (host.files(), host.invocations());
    for (change, words) in [
        (("instances = 2", "instnaces = 2"), ["agent.toml:4", "instnaces", "`instances`"]),
        (("soak = \"1s\"", "soak = \"1 fortnight\""), ["agent.toml:23", "soak", "fortnight"]),
        (("\"SECRET_KEY\"]", "\"ABSENT\"]"), ["required", "ABSENT", "missing"]),
    ] {
        host.write(CONFIG_FILE, &config_with([change]));
        for verb in ["deploy", "install", "check"] {
            let said = host.agent([verb]);
            assert_eq!(said.code(), 2, "{verb}: {}{}", said.stdout, said.stderr);
            assert!(
                words.iter().all(|word| said.stderr.contains(word)),
                "{verb}: {words:?}\n{}",
                said.stderr
            );
        }
        host.write(CONFIG_FILE, CONFIG);
    }
    let ignoring_the_config = |files: &str| {
        files.lines().filter(|line| !line.ends_with(CONFIG_FILE)).collect::<Vec<_>>().join("\n")
    };
    assert_eq!(ignoring_the_config(&host.files()), ignoring_the_config(&before.0));
    assert_eq!(host.invocations(), before.1);
}
