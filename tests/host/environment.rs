//! The app's environment: only the container gets it, it matches what was deployed, and it is never lost
//! silently.

use std::time::Duration;

use crate::harness::Host;
use crate::site::{CONFIG_FILE, ENV_FILE, config_with, installed_with};

const QUICK: [(&str, &str); 2] =
    [("soak = \"1s\"", "soak = \"0s\""), ("timeout = \"60s\"", "timeout = \"20s\"")];
const STAGED: &str = "/etc/astra/astra.staged.env";

/// Variables that would affect podman and every linked program; and one of an app that is called astra.
const MEAN: &str = r#"
CONTAINER_HOST = "unix:///nowhere"
CONTAINERS_STORAGE_CONF = "/nowhere"
TMPDIR = "/nowhere"
LD_PRELOAD = "/nowhere.so"
HTTP_PROXY = "http://192.0.2.1:9"
ASTRA_E2E_FAKE = "1"
"#;

fn serves(host: &Host) {
    for port in [8001, 8002] {
        host.wait(&format!("curl -sSf -m 5 localhost:{port}/readyz"), Duration::from_secs(60));
    }
}

#[test]
fn no_variable_of_the_app_affects_its_start() {
    let config = config_with(QUICK);
    let host = installed_with("clientenv", &config);
    let job = "[[cron_jobs]]\nname = \"env\"\nevery = \"1h\"\nrun = [\"env\"]\n";
    host.write(CONFIG_FILE, &(config.replace("[env]\n", &format!("[env]{MEAN}")) + job));
    host.agent(["deploy", "--migrate"]).ok();
    // Not only on trial: the next start is the same.
    host.sh("systemctl restart astra-app@1 astra-app@2").ok();
    serves(&host);
    host.agent(["cron", "run", "env"]).ok();
    let process = "tr '\\0' '\\n' </proc/$(systemctl show -P MainPID astra-app@1)/environ";
    let client = host.sh(process).ok().stdout;
    assert!(client.contains("ASTRA_PORT=8001") && !client.contains("192.0.2.1"), "{client}");
    let inside = host.sh("podman exec astra-app-1 env").ok().stdout;
    assert!(
        inside.contains("HTTP_PROXY=http://192.0.2.1:9") && inside.contains("ASTRA_E2E_FAKE=1"),
        "{inside}"
    );

    // The units' own names: refused in every input, and harmless in the file.
    let refused = host.sh_with("astra-agent env set ASTRA_PORT", "9");
    assert!(refused.code() == 2 && refused.stderr.contains("reserved for the units"), "{}", refused.stderr);
    host.sh(&format!("echo ASTRA_PORT=9 >>{ENV_FILE}; echo HAND=made >>{ENV_FILE}")).ok();
    for verb in ["check", "deploy"] {
        let refused = host.agent([verb]);
        assert!(refused.code() == 2 && refused.stderr.contains("env unset ASTRA_PORT"), "{}", refused.stderr);
    }
    host.sh("systemctl restart astra-app@1").ok();
    serves(&host);
    assert!(host.sh("podman exec astra-app-1 env").ok().stdout.contains("HAND=made"), "a hand edit acts");
    host.agent(["env", "unset", "ASTRA_PORT"]).ok();
    host.agent(["deploy"]).ok();
    assert!(!host.read(ENV_FILE).contains("ASTRA_PORT="));
    // The same without the agent.
    host.sh("rm /usr/local/bin/astra-agent").ok();
    host.reboot();
    serves(&host);
}

#[test]
fn a_generated_value_survives_the_failed_release() {
    let config = config_with(QUICK);
    let host = installed_with("generated", &config);
    host.write(CONFIG_FILE, &config.replace("[env]\n", "[env]\nFIELD_KEY = { generate = 32 }\n"));
    assert_eq!(host.deploy("exits").code(), 3);
    let staged = host.read(STAGED);
    let made = staged.lines().find(|line| line.starts_with("FIELD_KEY=")).unwrap().to_owned();
    assert_eq!(made.len(), "FIELD_KEY=".len() + 32);
    // The same digest and environment are the same release, even with a generated value.
    assert_eq!(host.agent(["deploy"]).code(), 1);
    host.deploy("v2").ok();
    assert!(host.read(ENV_FILE).lines().any(|line| line == made), "the migration may have used it");
    assert_ne!(host.sh(&format!("test -e {STAGED}")).code(), 0);
    assert_eq!(host.agent(["plan"]).ok().stdout, "nothing to do\n");
}

#[test]
fn a_value_is_never_lost_silently() {
    let config = config_with(QUICK);
    let host = installed_with("envwords", &config);
    let set = |key: &str, from: &str| host.sh(&format!("{from} astra-agent env set {key}"));
    let wins = set("DATABASE_HOST", "echo x |");
    assert!(wins.code() == 2 && wins.stderr.contains("agent.toml:13:1 sets it"), "{}", wins.stderr);
    for from in ["</dev/null", "false |"] {
        let none = set("TOKEN", from);
        assert!(none.code() == 2 && none.stderr.contains("--empty TOKEN"), "{}", none.stderr);
    }
    assert_ne!(host.sh(&format!("test -e {STAGED}")).code(), 0);
    // A terminal does not show the value.
    let typed = "(sleep 1; echo hunter2; sleep 1) | script -qec 'astra-agent env set TOKEN' /dev/null";
    let shown = host.sh(typed).ok().stdout;
    assert!(shown.contains("TOKEN is saved") && !shown.contains("hunter2"), "{shown}");
    assert!(host.read(STAGED).contains("TOKEN=hunter2\n"));

    // An invalid staged value is reported with the staged file.
    host.agent(["env", "set", "--empty", "DATABASE_PASSWORD"]).ok();
    let check = host.agent(["check"]);
    assert!(
        check.code() == 2 && check.stderr.contains(&format!("{STAGED}: DATABASE_PASSWORD")),
        "{}",
        check.stderr
    );
    host.agent(["env", "unset", "TOKEN"]).ok();
    host.sh(&format!("rm {STAGED}")).ok();

    // `check` and a deploy agree.
    for (line, said) in [
        ("DATABASE_HOST = \"....\"", "required, but [env] has an empty text or a placeholder"),
        ("DATABASE_HOST = { file = \"/etc/astra/key.pem\" }", "more than one line"),
        ("ASTRA_PORT = \"9\"", "the agent's own"),
    ] {
        host.write("/etc/astra/key.pem", "-----BEGIN KEY-----\nhunter2\n-----END KEY-----\n");
        host.write("/etc/astra/agent.d/one.toml", &format!("[env]\n{line}\n"));
        for verb in ["check", "deploy"] {
            let refused = host.agent([verb]);
            assert!(refused.code() == 2 && refused.stderr.contains(said), "{verb}: {}", refused.stderr);
            assert!(!refused.stderr.contains("hunter2"), "{}", refused.stderr);
        }
    }

    // A variable is added by [env], and removed with it.
    host.write("/etc/astra/agent.d/one.toml", "[env]\nONE = \"1\"\n");
    host.agent(["deploy"]).ok();
    assert_eq!(host.env("ONE"), "1");
    host.sh("rm /etc/astra/agent.d/one.toml").ok();
    host.sh_with("astra-agent env set OWN", "2").ok();
    let pending = host.agent(["status"]).stdout;
    assert!(pending.contains("remove from the environment: ONE"), "{pending}");
    host.agent(["deploy"]).ok();
    let file = host.read(ENV_FILE);
    assert!(!file.contains("\nONE=") && file.contains("\nOWN=2"), "{file}");
    host.agent(["env", "unset", "OWN"]).ok();
    host.agent(["deploy"]).ok();
    assert!(!host.read(ENV_FILE).contains("\nOWN="));
}
