//! The container keys: an image whose entry point ignores its arguments, an unprivileged user, a read-only
//! root file system.

use crate::harness::{Engine, Host};
use crate::site::{config_with, fresh_on};

/// Starts the server whatever its arguments are, like images with a fixed ENTRYPOINT.
const FIXED: &str = "\
FROM 127.0.0.1:5000/astra:v1
ENTRYPOINT [\"python3\", \"serve.py\"]
HEALTHCHECK CMD false
";

const CONTAINER: &str = r#"instances = 1
user = "1000:1000"
ulimits = { nofile = "1024:2048" }
add_hosts = { "ipa.example.org" = "10.0.0.9", "me.example.org" = "host-gateway" }
healthcheck = false
read_only = true
tmpfs = ["/scratch:mode=1777"]
shm_size = "32M"
cap_drop = ["ALL"]
stop_signal = "SIGINT"
"#;

const JOBS: &str = r#"
[[cron_jobs]]
name = "mail"
every = "12h"
entrypoint = ["sh", "-c"]
run = ["echo $TASK_TYPE for $(id -u)"]
[cron_jobs.env]
TASK_TYPE = "two reminders"
"#;

fn config() -> String {
    let migrate = "[migrate]\nentrypoint = [\"sh\"]";
    let container =
        [("instances = 2\n", CONTAINER), ("[migrate]", migrate), ("notify = true", "notify = false")];
    config_with(container) + JOBS
}

fn fixed_image(host: &Host, client: &str) {
    host.sh_with(&format!("{client} build -q -t 127.0.0.1:5000/astra:latest - && {client} push -q 127.0.0.1:5000/astra:latest"), FIXED)
        .ok();
}

fn keys_reach_the_container(host: &Host, client: &str) {
    fixed_image(host, client);
    host.agent(["install"]).ok();
    let inside = |command: &str| host.sh(&format!("{client} exec astra-app-1 sh -c '{command}'")).stdout;
    assert_eq!(inside("id -u; id -g; ulimit -Sn; ulimit -Hn"), "1000\n1000\n1024\n2048\n");
    let hosts = inside("cat /etc/hosts");
    assert!(hosts.contains("10.0.0.9") && hosts.contains("me.example.org"), "{hosts}");
    let me = inside("getent hosts me.example.org");
    assert!(me.starts_with("10.") || me.starts_with("172.") || me.starts_with("169.254."), "{me}");
    assert!(inside("touch /app/x 2>&1").contains("Read-only file system"));
    assert_eq!(
        inside("echo x >/scratch/x; cat /scratch/x; grep CapBnd /proc/self/status"),
        "x\nCapBnd:\t0000000000000000\n"
    );
    assert_eq!(inside("df -k --output=size /dev/shm | tail -n1").trim(), "32768");
    let health = host.sh(&format!("{client} inspect astra-app-1 --format '{{{{.State.Health}}}}'")).stdout;
    assert!(!health.contains("starting") && !health.contains("unhealthy"), "{health}");

    let ran = host.agent(["cron", "run", "mail"]).ok().stdout;
    assert!(ran.starts_with("  two reminders for 1000\nmail finished in "), "{ran}");
    let status = host.status();
    assert_eq!(status["pending"].as_array().map_or(0, Vec::len), 0, "{status:#}");

    // Another entry point is another release: rolled out, and undone by removing the key.
    let text = host.read("/etc/astra/agent.toml");
    let changed = text.replace(
        "user = ",
        "entrypoint = [\"sh\", \"-c\"]\ncommand = [\"exec python3 serve.py --loud\"]\nuser = ",
    );
    host.write("/etc/astra/agent.toml", &changed);
    host.agent(["deploy"]).ok();
    let command = inside("tr \"\\\\0\" \" \" </proc/1/cmdline");
    assert_eq!(command.trim(), "python3 serve.py --loud");
    host.write("/etc/astra/agent.toml", &text);
    host.agent(["deploy"]).ok();
    assert_eq!(inside("tr \"\\\\0\" \" \" </proc/1/cmdline").trim(), "python3 serve.py");

    // A missing volume source is found before anything is changed.
    host.write(
        "/etc/astra/agent.toml",
        &text.replace("user = ", "volumes = [\"/etc/astra/key.pem:/key.pem:ro\"]\nuser = "),
    );
    let check = host.agent(["check"]).ok();
    assert!(
        check.stderr.contains("a volume mounts /etc/astra/key.pem, which is not there"),
        "{}",
        check.stderr
    );
    let before = host.invocations();
    let deploy = host.agent(["deploy"]);
    assert!(
        deploy.code() == 1 && deploy.stderr.contains("/etc/astra/key.pem"),
        "{} {}",
        deploy.code(),
        deploy.stderr
    );
    assert_eq!(host.invocations(), before);
    assert!(host.agent(["doctor"]).stdout.contains("a volume mounts /etc/astra/key.pem"));
}

#[test]
fn the_container_keys_work_on_podman() {
    keys_reach_the_container(&fresh_on(Engine::Podman, "container", &config()), "podman");
}

#[test]
fn the_container_keys_work_on_docker() {
    keys_reach_the_container(&fresh_on(Engine::Docker, "container-docker", &config()), "docker");
}
