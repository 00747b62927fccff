//! `doctor`: problems planted one after another on one host; each is found, with its fix, and afterwards the
//! host is clean again.

use std::time::Duration;

use serde_json::Value;

use crate::harness::Host;
use crate::site::installed;

/// A planted problem, and the expected finding.
struct Plant {
    /// The name of the check that finds it.
    check: &'static str,
    plant: &'static str,
    /// Part of the expected text and fix.
    what: &'static str,
    fix: &'static str,
    undo: &'static str,
}

const fn plant(
    check: &'static str,
    plant: &'static str,
    what: &'static str,
    fix: &'static str,
    undo: &'static str,
) -> Plant {
    Plant { check, plant, what, fix, undo }
}

/// Until instance 2 answers again.
const BACK: &str = "until curl -sfo /dev/null localhost:8002/readyz; do sleep 0.1; done";

/// The timer would repair some of them meanwhile, so it runs first.
const CALM: &str = "\
    next=$(date +%s -d \"$(systemctl show -P NextElapseUSecRealtime astra-agent-reconcile.timer)\"); \
    [ $((next - $(date +%s))) -gt 30 ] || sleep $((next + 7 - $(date +%s))); \
    until [ $(systemctl show -P ActiveState astra-agent-reconcile) = inactive ]; do sleep 0.1; done";

#[rustfmt::skip]
const PLANTS: &[Plant] = &[
    plant("storage_root", "chmod 0755 /var/lib/containers/storage",
        "/var/lib/containers/storage has mode 0755", "chmod 0700 /var/lib/containers/storage",
        "chmod 0700 /var/lib/containers/storage"),
    plant("disk", r#"sed -i 's/^soak/min_free = "900T"\nsoak/' /etc/astra/agent.toml"#,
        "[deploy] min_free wants", "or lower min_free",
        "sed -i /^min_free/d /etc/astra/agent.toml"),
    plant("iproute", "mv /usr/bin/ss /root/ss",
        "`ss` cannot be found", "install the package iproute2",
        "mv /root/ss /usr/bin/ss"),
    plant("masked", "systemctl mask --runtime astra-app@2.service",
        "astra-app@2.service is masked", "systemctl unmask astra-app@2.service",
        "systemctl unmask --runtime astra-app@2.service"),
    plant("masked", "systemctl mask --runtime astra-agent-recover.service; rm /etc/systemd/system/astra-agent-recover.service; systemctl daemon-reload",
        "astra-agent-recover.service is masked", "astra-agent reconcile",
        "systemctl unmask --runtime astra-agent-recover.service; astra-agent reconcile"),
    plant("files", "echo '# mine' >>/etc/systemd/system/astra-app@.service; systemctl daemon-reload",
        "astra-app@.service is not what agent.toml makes of it", "astra-agent plan --reconcile",
        "sed -i '$d' /etc/systemd/system/astra-app@.service; systemctl daemon-reload"),
    plant("files", "rm /etc/systemd/system/astra-migrate.service; systemctl daemon-reload",
        "astra-migrate.service is missing", "astra-agent reconcile",
        "astra-agent reconcile"),
    plant("reload", "touch -d +1hour /etc/systemd/system/astra-caddy.service",
        "systemd runs an older astra-caddy.service", "systemctl daemon-reload",
        "touch /etc/systemd/system/astra-caddy.service; systemctl daemon-reload"),
    plant("drop_in", "printf '[Service]\\nNice=5\\n' >/etc/systemd/system/astra-app@1.service.d/other.conf; systemctl daemon-reload",
        "astra-app@1.service.d/other.conf changes astra-app@1.service", "rm /etc/systemd/system/astra-app@1.service.d/other.conf",
        "rm /etc/systemd/system/astra-app@1.service.d/other.conf; systemctl daemon-reload"),
    plant("caddy", "systemctl stop astra-caddy",
        "Caddy does not answer", "journalctl -u astra-caddy",
        "systemctl start astra-caddy; until curl -sfo /dev/null --unix-socket /run/astra/caddy/admin.sock http://localhost/config/; do sleep 0.1; done"),
    plant("caddy", "(cat /etc/astra/Caddyfile; printf ':8123 {\\nrespond hi\\n}\\n') | curl -sf --unix-socket /run/astra/caddy/admin.sock -H 'Content-Type: text/caddyfile' --data-binary @- http://caddy/load",
        "Caddy does not serve by /etc/astra/Caddyfile", "astra-agent reconcile",
        "astra-agent reconcile; ! curl -s localhost:8123"),
    plant("admin_tcp", "podman run -q -d --name other --network host --entrypoint caddy 127.0.0.1:5000/caddy:2 run; until curl -sfo /dev/null localhost:2019/config/; do sleep 0.1; done",
        "answers on 127.0.0.1:2019", "ss -tlnp sport = :2019",
        "podman rm -f -t 0 other"),
    plant("app_image", "cp -p /etc/astra/astra.env /root/; sed -i 's/^\\(APP_IMAGE=.*\\)@.*/\\1:latest/' /etc/astra/astra.env",
        "names no release that can be read", "write `APP_IMAGE=127.0.0.1:5000/astra@sha256:",
        "cp -p /root/astra.env /etc/astra/"),
    plant("env_line", "echo \"MOTTO='a b'\" >>/etc/astra/astra.env",
        "systemd strips it, a container keeps it", "astra-agent env set MOTTO",
        "cp -p /root/astra.env /etc/astra/"),
    plant("env_line", "echo 'export X=1' >>/etc/astra/astra.env",
        "systemd ignores a line with `export`", "edit line",
        "cp -p /root/astra.env /etc/astra/"),
    plant("env_missing", "sed -i 's/^DATABASE_PASSWORD=.*/DATABASE_PASSWORD=/' /etc/astra/astra.env",
        "DATABASE_PASSWORD is required", "astra-agent env set DATABASE_PASSWORD",
        "cp -p /root/astra.env /etc/astra/"),
    plant("env_mode", "chmod 0644 /etc/astra/astra.env",
        "/etc/astra/astra.env has mode 0644", "chmod 0600 /etc/astra/astra.env",
        "chmod 0600 /etc/astra/astra.env"),
    plant("env_mode", "chown 65534 /etc/astra/astra.env",
        "/etc/astra/astra.env belongs to user 65534", "chown root:root /etc/astra/astra.env",
        "chown root /etc/astra/astra.env"),
    plant("env_mode", "ln /etc/astra/astra.env /root/another",
        "/etc/astra/astra.env has 2 names", "find / -xdev -samefile",
        "rm /root/another"),
    plant("etc_dir", "chmod 0755 /etc/astra",
        "/etc/astra has mode 0755", "chmod 0700 /etc/astra",
        "chmod 0700 /etc/astra"),
    plant("state_dir", "chown 65534 /var/lib/astra-agent",
        "/var/lib/astra-agent belongs to user 65534", "chown root:root /var/lib/astra-agent",
        "chown root /var/lib/astra-agent"),
    plant("config", "chmod 0666 /etc/astra/agent.toml",
        "/etc/astra/agent.toml has mode 0666", "chmod 0600 /etc/astra/agent.toml",
        "chmod 0644 /etc/astra/agent.toml"),
    plant("host_key", "chmod 0644 /var/lib/astra-agent/host.key",
        "/var/lib/astra-agent/host.key has mode 0644", "chmod 0600 /var/lib/astra-agent/host.key",
        "chmod 0600 /var/lib/astra-agent/host.key"),
    plant("auth_mode", "echo '{}' >/etc/astra/auth.json; chmod 0644 /etc/astra/auth.json",
        "/etc/astra/auth.json has mode 0644", "chmod 0600 /etc/astra/auth.json",
        "rm /etc/astra/auth.json"),
    // The password is a JSON web token whose `exp` is 2000-01-01.
    plant("login", "install -m 0600 /dev/null /etc/astra/auth.json; \
         printf '{\"auths\": {\"127.0.0.1:5000\": {\"auth\": \"%s\"}}}' \"$(printf 'me:e30.%s.c2ln' \"$(printf '{\"exp\":946684800}' | base64)\" | base64 -w0)\" >/etc/astra/auth.json",
        "expired", "podman login --authfile /etc/astra/auth.json 127.0.0.1:5000",
        "rm /etc/astra/auth.json"),
    plant("login", "echo '{\"auths\": {\"127.0.0.1:5000\": {\"auth\": \"!\"}}}' >/etc/astra/auth.json; chmod 0600 /etc/astra/auth.json",
        "not base64", "podman login",
        "rm /etc/astra/auth.json"),
    plant("registry", "systemctl stop docker-registry",
        "resolving 127.0.0.1:5000/astra:latest", "needs no registry",
        "systemctl start docker-registry; until curl -sfo /dev/null 127.0.0.1:5000/v2/; do sleep 0.1; done"),
    plant("journal", "sed -i '1s/^/x/' /var/lib/astra-agent/journal/000001.jsonl",
        "the journal is damaged", "out of /var/lib/astra-agent/journal",
        "sed -i '1s/^x//' /var/lib/astra-agent/journal/000001.jsonl"),
    plant("open_run", "head -n1 /var/lib/astra-agent/journal/000001.jsonl >/var/lib/astra-agent/journal/000999.jsonl",
        "run 999 (install) was cut off", "astra-agent recover",
        "rm /var/lib/astra-agent/journal/000999.jsonl"),
    plant("trial_file", "touch /run/astra/trial-1.env",
        "/run/astra/trial-1.env is left over", "astra-agent recover",
        "rm /run/astra/trial-1.env"),
    plant("marker", "touch /run/astra/drain/1",
        "/run/astra/drain/1 keeps Caddy", "rm /run/astra/drain/1",
        "rm /run/astra/drain/1"),
    plant("temp_file", "touch /etc/astra/.astra.env.astra-tmp-0011",
        "a cut-off write left", "astra-agent reconcile",
        "rm /etc/astra/.astra.env.astra-tmp-0011"),
    plant("rollback_image", "podman rmi $(cat /etc/astra/last_app_image)",
        "the image that a rollback goes to is not on this host", "podman pull 127.0.0.1:5000/astra@sha256:",
        "podman pull -q $(cat /etc/astra/last_app_image)"),
    plant("last_app_image", "cp -p /etc/astra/last_app_image /root/; echo x >/etc/astra/last_app_image",
        "/etc/astra/last_app_image says x", "astra-agent reconcile",
        "cp -p /root/last_app_image /etc/astra/"),
    plant("enabled", "systemctl disable -q astra-app@2",
        "astra-app@2.service is disabled", "systemctl enable astra-app@2.service",
        "systemctl enable -q astra-app@2"),
    plant("own_units", "systemctl disable -q astra-agent-recover",
        "astra-agent-recover.service is disabled", "systemctl enable astra-agent-recover.service",
        "systemctl enable -q astra-agent-recover"),
    plant("own_units", "systemctl stop astra-agent-reconcile.timer",
        "astra-agent-reconcile.timer is inactive", "systemctl start astra-agent-reconcile.timer",
        "systemctl start astra-agent-reconcile.timer"),
    plant("own_units", "mv /usr/local/bin/astra-agent /root/away; systemctl start astra-agent-recover; mv /root/away /usr/local/bin/astra-agent",
        "systemd did not run astra-agent-recover.service", "systemctl start astra-agent-recover.service",
        "systemctl start astra-agent-recover"),
    plant("crash_loop", "until [ $(systemctl show -P NRestarts astra-app@2) = 3 ]; do podman kill astra-app-2 || true; sleep 0.5; done",
        "astra-app@2.service keeps ending: systemd restarted it 3 times", "journalctl -u astra-app@2.service",
        "systemctl restart astra-app@2"),
    plant("not_ready", "systemctl stop astra-app@2",
        "astra-app@2.service is inactive and not ready", "astra-agent reconcile",
        "systemctl start astra-app@2"),
    plant("port", "systemctl stop astra-app@2; while ss -tln | grep -q 127.0.1.2:8002; do sleep 0.1; done; systemd-run -q --unit squatter systemd-socket-activate -l 127.0.1.2:8002 sleep infinity; until ss -tln | grep -q 127.0.1.2:8002; do sleep 0.1; done",
        "another process listens on port 8002", "ss -tlnp sport = :8002",
        "systemctl stop squatter; systemctl start astra-app@2"),
    plant("engine", "systemctl stop podman.socket podman.service",
        "the container engine does not answer", "systemctl restart podman.socket",
        "systemctl start podman.socket"),
    plant("signatures", "printf '[verify]\\nrequire_signature = true\\n' >/etc/astra/agent.d.toml; mkdir -p /etc/astra/agent.d; mv /etc/astra/agent.d.toml /etc/astra/agent.d/verify.toml",
        "/etc/containers/policy.json accepts any image of 127.0.0.1:5000/astra", "\"type\": \"sigstoreSigned\"",
        "rm -r /etc/astra/agent.d"),
];

fn findings(host: &Host) -> (i32, Vec<Value>) {
    let answer = host.agent(["doctor", "--json"]);
    let code = answer.code();
    let json: Value = serde_json::from_str(&answer.stdout)
        .unwrap_or_else(|_| panic!("{} {}", answer.stdout, answer.stderr));
    assert_eq!(json["ok"].as_bool(), Some(code == 0));
    (code, json["findings"].as_array().unwrap().clone())
}

/// Every file except the cache of the engine's answers.
fn lasting(host: &Host) -> String {
    host.files().lines().filter(|line| !line.contains("/run/astra/seen.json")).collect::<Vec<_>>().join("\n")
}

fn problems(findings: &[Value]) -> Vec<&Value> {
    findings.iter().filter(|f| f["level"] == "problem").collect()
}

#[test]
fn each_planted_problem_is_found_with_its_fix() {
    let host = installed("doctor");
    host.deploy("v2").ok();
    let before = lasting(&host);
    let (code, found) = findings(&host);
    assert_eq!((code, problems(&found).len()), (0, 0), "a clean host: {found:#?}");
    // The clock of a container is its machine's, but can be read.
    let clock = host.sh("timedatectl show -P NTPSynchronized").ok().stdout;
    assert_eq!(found.iter().any(|f| f["check"] == "clock"), clock.trim() == "no", "{found:#?}");
    assert_eq!(lasting(&host), before, "doctor changed something");
    for plant in PLANTS {
        host.sh(CALM).ok();
        host.sh(&format!("set -e; {}", plant.plant)).ok();
        let (code, found) = findings(&host);
        let about =
            |f: &&Value| f["check"] == plant.check && f["what"].as_str().unwrap().contains(plant.what);
        let Some(seen) = found.iter().find(about) else { panic!("{}: {found:#?}", plant.plant) };
        assert!(seen["fix"].as_str().unwrap().contains(plant.fix), "{}: {seen:#?}", plant.plant);
        assert_eq!(code, 4, "{}", plant.plant);
        host.sh(&format!("set -e; {}; {BACK}", plant.undo)).ok();
        // A busy machine answers a readiness request late.
        host.wait("astra-agent doctor", Duration::from_secs(60));
    }
    println!("{} planted problems", PLANTS.len());

    // Things that may be intended are notes, which give exit code 0.
    host.agent(["rollback"]).ok();
    let (code, found) = findings(&host);
    let notes: Vec<_> = found.iter().map(|f| f["check"].as_str().unwrap()).collect();
    assert!(code == 0 && notes.contains(&"pinned") && notes.contains(&"held"), "{found:#?}");
    let words = host.agent(["doctor"]).ok().stdout;
    assert!(words.contains("fix: `astra-agent deploy` follows the tag again"), "{words}");
}
