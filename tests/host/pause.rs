//! `scale`, `pause` and `resume`: another number of instances than agent.toml has, over reboots and deploys.

use std::time::Duration;

use crate::recovery::QUICK;
use crate::site::{CONFIG_FILE, config_with, installed_with, turn};

const FRAGMENT: &str = "/etc/astra/agent.d/zz-scale.toml";

#[test]
fn a_paused_site_answers_503_until_it_is_resumed() {
    let health = ("tls = \"off\"", "tls = \"off\"\nhealth = \"/health\"");
    let host = installed_with("pause", &config_with([QUICK, health]));
    host.agent(["pause"]).ok();
    let paused = |host: &crate::harness::Host| {
        // At once: no instance is waited for.
        let answer =
            host.sh("curl -sS -m 1 -o /dev/null -w '%{http_code} %header{retry-after}' localhost/").ok();
        assert_eq!(answer.stdout, "503 5");
        assert_eq!(host.get("/health").status, 503);
        let status = host.agent(["status"]).ok().stdout;
        assert!(status.contains("paused      app: "), "{status}");
    };
    paused(&host);
    host.assert_tidy();
    assert_eq!(host.sh("podman ps --format '{{.Names}}'").ok().stdout, "astra-caddy\n");
    host.reboot();
    host.wait("curl -sS -m 5 localhost/", Duration::from_secs(30));
    host.sh("systemctl start astra-agent-reconcile").ok();
    paused(&host);

    let deployed = host.deploy("v2").ok();
    assert!(deployed.text().contains("app is paused"), "{}", deployed.text());
    paused(&host);
    host.agent(["resume"]).ok();
    assert_eq!(host.versions([1, 2]), ["v2"; 2]);
    assert_eq!((host.get("/health").status, host.sh(&format!("test -e {FRAGMENT}")).code()), (200, 1));
    assert_eq!(host.agent(["plan", "--reconcile"]).ok().stdout, "nothing to do\n");
    host.assert_tidy();

    // With the app paused, another web service goes on: its route comes before the page.
    let base = host.read(CONFIG_FILE);
    let api = "\n[services.api]\nport = 3000\nenv = { PORT = \"3000\" }\nbase_port = 8100\n\
               readiness.path = \"/readyz\"\nroute = { path = \"/api\", strip_prefix = true }\n";
    host.write(CONFIG_FILE, &format!("{base}{api}"));
    host.agent(["deploy"]).ok();
    host.agent(["pause", "app"]).ok();
    assert_eq!((host.get("/").status, host.get("/api/version").status), (503, 200));
    host.agent(["resume"]).ok();
    assert_eq!((host.get("/").status, host.get("/api/version").status), (200, 200));
    host.write(CONFIG_FILE, &base);
    host.agent(["deploy"]).ok();

    // More and fewer instances, without a lost request; what cannot be changes nothing.
    let turn = turn();
    let load = host.load(50).websockets(2).start();
    host.wait("curl -sf --max-time 1 localhost/", Duration::from_secs(5));
    host.agent(["scale", "app=3"]).ok();
    assert_eq!(host.versions([1, 2, 3]), ["v2"; 3]);
    for (words, said) in [
        (["scale", "mail=1"], "`mail` is no service of the release"),
        (["scale", "app=255"], "from 0 to 254"),
        (["scale", "app"], "write SERVICE=NUMBER"),
        (["pause", "mail"], "agent.toml has: app"),
    ] {
        let refused = host.agent(words);
        assert_eq!(refused.code(), 2, "{}", refused.text());
        assert!(refused.text().contains(said), "{}", refused.text());
    }
    assert!(host.read(FRAGMENT).contains("instances = 3"));
    host.deploy("v1").ok();
    assert_eq!(host.versions([1, 2, 3]), ["v1"; 3]);
    host.agent(["resume", "app"]).ok();
    load.stop().assert_lossless();
    drop(turn);
    assert_eq!(host.status()["instances"].as_array().unwrap().len(), 2);
    host.assert_tidy();
}
