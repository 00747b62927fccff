//! A host behind a load balancer: its health path, foreign host names, forged headers, unusual readiness
//! paths.

use std::time::Duration;

use crate::harness::Host;
use crate::recovery::QUICK;
use crate::site::{CONFIG_FILE, config_with, installed_with};

/// The address through which the balancer reaches the host; it is one of the trusted proxies.
const ADDRESS: &str = "127.0.0.1";

fn behind_a_balancer(rest: &str) -> String {
    let site =
        format!("hosts = [\"one.test\"]\ntrusted_proxies = [\"127.0.0.0/8\"]\nhealth = \"/health\"\n{rest}");
    config_with([QUICK, ("hosts = []", &site)])
}

impl Host {
    /// Status and body of a request to the host's own address.
    fn visit(&self, options: &str, path: &str) -> String {
        let command = format!("curl -sS -m 20 -w ' %{{http_code}}' {options} http://{ADDRESS}{path}");
        self.sh(&command).stdout.trim().replace('\n', " ")
    }
}

#[test]
fn the_health_path_is_truthful_for_any_host_name() {
    let host = installed_with("balancer", &behind_a_balancer(""));
    for name in ["", "-H 'Host: one.test'", "-H 'Host: 10.1.2.3'"] {
        assert_eq!(host.visit(name, "/health"), "ok 200", "{name}");
    }
    assert!(host.visit("-H 'Host: one.test'", "/").ends_with(" 200"));
    assert_eq!(host.visit("", "/"), "unknown host 421", "a name that is not the site's");

    // A client may forge the first addresses of X-Forwarded-For; the balancer appends the true one.
    let forged = "-H 'Host: one.test' -H 'X-Forwarded-For: 127.0.0.1, 203.0.113.5'";
    assert!(host.visit(forged, "/readyz").ends_with("404"), "{}", host.visit(forged, "/readyz"));

    // The path needs one ready instance; a drained one does not count.
    host.sh("systemctl stop astra-app@1").ok();
    assert_eq!(host.visit("", "/health"), "ok 200");
    host.sh("touch /run/astra/drain/2").ok();
    assert_eq!(host.visit("", "/health"), "no instance is ready 503");
    host.sh("rm /run/astra/drain/2; systemctl stop astra-app@2").ok();
    assert_eq!(host.visit("", "/health"), "no instance is ready 503");
    host.agent(["reconcile"]).ok();
    assert_eq!(host.visit("", "/health"), "ok 200");

    // The readiness path itself can be the health path; and Caddy can use another port.
    let same = behind_a_balancer("http_port = 8080").replace("\"/health\"", "\"/readyz\"");
    host.write(CONFIG_FILE, &same);
    host.agent(["reconcile"]).ok();
    let other = format!("curl -sS -m 20 http://{ADDRESS}:8080/readyz");
    host.wait(&format!("{other} | grep -x ok"), Duration::from_secs(15));
}

#[test]
fn readiness_accepts_204_and_slow_answers_but_no_redirect() {
    let odd = |lines: &str| config_with([QUICK, ("[env]", &format!("[env]\n{lines}"))]);
    let host = installed_with("odd-ready", &odd("APP_READY_STATUS = \"204\""));
    host.deploy("v2").ok();
    assert_eq!(host.get("/").status, 200);

    let slow = odd("APP_READY_DELAY = \"3\"")
        .replace("path = \"/readyz\"", "path = \"/readyz\"\nanswer_timeout = \"5s\"");
    host.write(CONFIG_FILE, &slow);
    host.agent(["deploy"]).ok();
    let running = host.invocations();
    host.agent(["deploy"]).ok();
    host.agent(["reconcile"]).ok();
    assert_eq!(host.invocations(), running, "an instance that answers slowly is as good as any");

    // A path that only the next image has, or a mistyped one, does not take the site down.
    host.write(CONFIG_FILE, &slow.replace("path = \"/readyz\"", "path = \"/reddyz\""));
    for verb in ["reconcile", "deploy", "rollback"] {
        let refused = host.agent([verb]);
        assert_eq!(refused.code(), 2, "{}", refused.text());
        assert!(refused.text().contains("/reddyz answered 404"), "{}", refused.text());
        assert_eq!(host.get("/").status, 200);
    }

    // The message has the last answer and its redirect target.
    host.write(CONFIG_FILE, &slow.replace("APP_READY_DELAY = \"3\"", "APP_READY_STATUS = \"301\""));
    let failed = host.agent(["deploy"]);
    assert_eq!(failed.code(), 3, "{}{}", failed.stdout, failed.stderr);
    assert!(failed.text().contains("/readyz answered 301"), "{}", failed.text());
    assert_eq!(host.get("/").status, 200);
}
