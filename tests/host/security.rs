//! The agent's privileges, and the secrets that must not leak.

use std::time::Duration;

use crate::recovery::QUICK;
use crate::site::{CONFIG_FILE, ENV_FILE, PASSWORD, config_with, installed_with};

/// The highest allowed exposure of the agent's units in `systemd-analyze security`.
const EXPOSURE: f64 = 2.0;

#[test]
fn the_agents_units_are_sandboxed() {
    let host = installed_with("sandbox", &config_with([QUICK]));
    // A manual run is measured while it works.
    host.tag("latest", "v2");
    host.sh("setsid astra-agent deploy </dev/null &>/root/out &").ok();
    let name = "systemctl list-units --plain --no-legend 'astra-agent-deploy-*' | grep -o '^[^ ]*'";
    let transient = host.wait(name, Duration::from_secs(30)).stdout;
    for unit in ["astra-agent-recover.service", "astra-agent-reconcile.service", transient.trim()] {
        let said = host.sh(&format!("systemd-analyze security --no-pager {unit} | tail -n 1")).ok().stdout;
        let (_, level) = said.split_once(": ").unwrap_or_else(|| panic!("{unit}: {said}"));
        let level: f64 = level.split(' ').next().unwrap().parse().unwrap();
        println!("{unit}: {level}");
        assert!(level <= EXPOSURE, "{unit}: {said}");
    }
    // All three have the same sandbox.
    let list = "-p CapabilityBoundingSet -p ProtectSystem -p NoNewPrivileges -p ReadWritePaths -p SystemCallFilter \
                -p RestrictAddressFamilies -p ProtectHome -p PrivateDevices -p UMask -p MemoryMax -p TasksMax";
    let show = |unit: &str| host.sh(&format!("systemctl show {list} {unit}")).ok().stdout;
    assert_eq!(show(transient.trim()), show("astra-agent-recover.service"));
    host.wait("grep -q 'is live' /root/out", Duration::from_secs(60));
}

#[test]
fn no_secret_leaves_the_env_file() {
    let host = installed_with("canary", &config_with([QUICK, ("timeout = \"60s\"", "timeout = \"10s\"")]));
    let key = host.env("SECRET_KEY");
    assert!(key.len() >= 64, "a generated key of {} characters", key.len());

    // All command lines of the host, again and again, from a deploy to its rollback.
    host.sh("setsid sh -c 'while [ ! -e /root/stop ]; do cat /proc/[0-9]*/cmdline 2>/dev/null | tr \"\\0\" \" \"; done >/root/argv; touch /root/stopped' </dev/null &>/dev/null &").ok();
    let mut said = Vec::new();
    let mut hear = |words: &str| {
        let output = host.sh(&format!("astra-agent {words}"));
        said.push((words.to_owned(), format!("{}{}", output.stdout, output.stderr)));
        output.code()
    };
    host.tag("latest", "v2");
    for words in ["plan", "plan --json", "deploy", "rollback --json", "deploy --force --json", "reconcile"] {
        assert_eq!(hear(words), 0, "{words}");
    }
    for words in [
        "status",
        "status --json",
        "history",
        "history --json",
        "check",
        "check --json",
        "env list",
        "env list --json",
        "env check",
        "plan --rollback",
        "plan --reconcile --json",
        "cron list",
    ] {
        hear(words);
    }
    // A changed value, in every way: neither the old nor the new one may appear.
    let other = "canary-other-2b91";
    let set = |value| host.sh_with("astra-agent env set DATABASE_PASSWORD", value).ok();
    set(other);
    for words in ["plan", "status", "env list", "deploy --json"] {
        hear(words); // a wrong password: this deploy fails, and tells the app's last words
    }
    set(PASSWORD);
    // Errors: an unreadable line of the env file, an invalid config.
    let append =
        |file, line: &str| host.sh_with(&format!("cp {file} /root/saved && cat >>{file}"), line).ok();
    append(ENV_FILE, &format!("BROKEN=\"{PASSWORD}\n"));
    for words in ["check", "deploy", "plan", "env check", "status --json"] {
        hear(words);
    }
    host.sh(&format!("mv /root/saved {ENV_FILE}")).ok();
    append(CONFIG_FILE, &format!("DATABASE_PASSWORD = \"{PASSWORD}\n"));
    for words in ["check", "deploy --json", "plan"] {
        assert_eq!(hear(words), 2, "{words}");
    }
    host.sh("touch /root/stop").ok();
    host.wait("ls /root/stopped", Duration::from_secs(30));
    assert!(host.read("/root/argv").contains("podman"), "no command line was seen");

    for secret in [key.as_str(), PASSWORD, other] {
        for (words, text) in &said {
            assert!(!text.contains(secret), "`astra-agent {words}` says a secret:\n{text}");
        }
        let places =
            "/root/argv /var/lib/astra-agent /run/astra /etc/systemd /run/systemd/transient /etc/astra";
        let found = host.sh(&format!(
            "grep -rlF '{secret}' {places} --exclude=agent.toml; journalctl -o json --all --no-pager | grep -F '{secret}'; \
             systemctl show '*' --no-pager | grep -F '{secret}'"
        ));
        assert_eq!(found.stdout.trim().replace(ENV_FILE, "").trim(), "", "{secret} was found");
    }
    let modes = host.sh("stat -c '%a %U' /etc/astra /etc/astra/astra.env /var/lib/astra-agent /var/lib/astra-agent/host.key \
        /var/lib/astra-agent/journal /var/lib/astra-agent/journal/000001.jsonl /run/astra/run.lock /run/astra /run/astra/caddy \
        /var/lib/containers/storage").ok();
    let wanted = ["700", "600", "700", "600", "700", "600", "600", "755", "700", "700"]
        .map(|mode| format!("{mode} root"));
    assert_eq!(modes.stdout.lines().collect::<Vec<_>>(), wanted);
}
