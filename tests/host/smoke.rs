//! The test hosts themselves, which every other test relies on.

use std::thread::sleep;
use std::time::Duration;

use crate::harness::{Answer, Engine, Host};

const ENV: &str = "\
DATABASE_HOST=host.containers.internal
DATABASE_PASSWORD=canary-db-pw-7f3a
SECRET_KEY=not-so-secret
ALLOWED_HOSTS=localhost,127.0.0.1
";

const CADDYFILE: &str = "\
{
	admin off
	auto_https off
}
http://localhost {
	reverse_proxy 127.0.0.1:8001 127.0.0.1:8002 {
		lb_policy least_conn
		lb_try_duration 10s
		request_buffers 64KiB
	}
}
";

fn start_app(host: &Host, instance: u8, tag: &str) {
    host.sh(&format!(
        "podman run -q -d --name astra-app-{instance} -p 127.0.0.1:800{instance}:8000 \
         --env-file /etc/astra/astra.env 127.0.0.1:5000/astra:{tag}"
    ))
    .ok();
}

#[test]
fn a_host_boots_with_a_filled_registry_and_an_empty_image_store() {
    let host = Host::boot("registry");
    assert_eq!(host.sh("systemctl is-system-running").ok().stdout, "running\n");
    host.agent(["--version"]).ok();
    assert_eq!(host.sh("podman image ls -q").ok().stdout, "");
    for tag in
        ["v1", "v2", "v3", "exits", "never-ready", "not-ready", "migrate-fails", "ignores-term", "flaps"]
    {
        assert!(host.digest(tag).starts_with("sha256:"), "{tag}");
    }

    assert_eq!(host.digest("latest"), host.digest("v1"));
    host.tag("latest", "v2");
    assert_eq!(host.digest("latest"), host.digest("v2"));
}

#[test]
fn a_host_with_docker_has_no_podman_socket_and_an_empty_image_store() {
    let host = Host::boot_with("docker-smoke", Engine::Docker);
    assert_eq!(host.sh("systemctl is-system-running").ok().stdout, "running\n");
    assert_eq!(host.sh("docker image ls -q").ok().stdout, "");
    assert_ne!(host.sh("test -e /run/podman/podman.sock").code(), 0);
}

#[test]
fn a_power_cut_keeps_the_disk_and_loses_run() {
    let host = Host::boot("power");
    host.write("/etc/astra/kept", "a\n");
    host.write("/run/astra/lost", "b\n");
    host.reboot();
    assert_eq!(host.read("/etc/astra/kept"), "a\n");
    assert_ne!(host.sh("cat /run/astra/lost").code(), 0);
}

#[test]
fn two_instances_behind_caddy_answer_everything() {
    let host = Host::boot("app");
    host.write("/etc/astra/astra.env", ENV);
    host.write("/etc/astra/Caddyfile", CADDYFILE);
    host.sh("podman run --rm --env-file /etc/astra/astra.env 127.0.0.1:5000/astra:v1 migrate.sh").ok();
    start_app(&host, 1, "v1");
    start_app(&host, 2, "v2");
    host.sh(
        "podman run -q -d --name caddy --network host -v /etc/astra:/etc/caddy:ro 127.0.0.1:5000/caddy:2",
    )
    .ok();
    for port in ["8001", "8002", "80"] {
        host.wait(&format!("curl -sSf http://localhost:{port}/readyz"), Duration::from_secs(10));
    }
    assert_eq!(host.get("/readyz"), Answer { status: 200, body: "ready\n".into() });

    let load = host.load(200).websockets(4).start();
    sleep(Duration::from_secs(8));
    let report = load.stop();
    assert_eq!(report.failed, 0, "{report:#?}");
    assert!(report.total > 1000, "{report:#?}");
    assert!(report.kinds.values().all(|kind| kind.total > 0), "{report:#?}");
    assert!(report.versions.contains_key("v1") && report.versions.contains_key("v2"), "{report:#?}");
    assert!(report.websockets.echoes > 50 && report.websockets.cuts.is_empty(), "{report:#?}");
}
