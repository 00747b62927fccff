//! Registries without a public certificate: the agent reaches them as podman does.

use std::time::Duration;

use serde_json::Value;

use crate::harness::Host;
use crate::site::{CONFIG_FILE, PASSWORD, config_with};

/// The host's registry a second time: behind TLS with its own authority, and over plain HTTP.
const FRONT: &str = "{
	admin off
	skip_install_trust
	auto_https disable_redirects
}
https://reg.lan:5443 {
	tls internal
	reverse_proxy 127.0.0.1:5000
}
http://reg.lan:5001 {
	reverse_proxy 127.0.0.1:5000
}
";

/// doctor's finding about the registry; empty if the tag resolves.
fn complaint(host: &Host) -> String {
    let answer: Value = serde_json::from_str(&host.agent(["doctor", "--json"]).stdout).unwrap();
    let found = answer["findings"].as_array().unwrap().iter().find(|f| f["check"] == "registry");
    found.map(|f| f["what"].to_string()).unwrap_or_default()
}

#[test]
fn the_agent_resolves_whatever_podman_can_pull() {
    let host = Host::boot("reach");
    host.write("/root/front/Caddyfile", FRONT);
    host.sh("echo 127.0.0.1 reg.lan >>/etc/hosts; \
        podman run -q -d --name front --network host -v /root/front:/front -e XDG_DATA_HOME=/front/data \
            --entrypoint caddy 127.0.0.1:5000/caddy:2 run --config /front/Caddyfile --adapter caddyfile")
        .ok();
    host.wait(
        "curl -sfk https://reg.lan:5443/v2/ && curl -sf http://reg.lan:5001/v2/",
        Duration::from_secs(30),
    );
    let image = |registry: &str| config_with([("127.0.0.1:5000/astra", &format!("{registry}/astra"))]);

    host.write(CONFIG_FILE, &image("reg.lan:5443"));
    let unknown = complaint(&host);
    assert!(unknown.contains("certificate"), "{unknown}");
    host.sh("install -D -m 0644 /root/front/data/caddy/pki/authorities/local/root.crt \
        /etc/containers/certs.d/reg.lan:5443/ca.crt")
        .ok();
    assert_eq!(complaint(&host), "");

    host.write(CONFIG_FILE, &image("reg.lan:5001"));
    assert_ne!(complaint(&host), "");
    let conf = "[[registry]]\nlocation = \"reg.lan:5001\"\ninsecure = true\n";
    host.write("/etc/containers/registries.conf.d/lan.conf", conf);
    assert_eq!(complaint(&host), "");
    host.sh_with("astra-agent env set DATABASE_PASSWORD", PASSWORD).ok();
    host.agent(["install"]).ok();
    assert_eq!(host.get("/").status, 200);
    assert!(host.env("APP_IMAGE").starts_with("reg.lan:5001/astra@sha256:"));
}
