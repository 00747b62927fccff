//! Caddy on a real host: answers to strangers, names and certificates, and changes of the config under
//! traffic.

use std::time::Duration;

use crate::harness::Host;
use crate::recovery::QUICK;
use crate::site::{CONFIG_FILE, config_with, installed_with};

/// A visitor from outside the host, through its address on the bridge.
const VISIT: &str = "curl -sS -m 15 -o /dev/null -w '%{http_code}' http://10.88.0.1";

impl Host {
    fn code(&self, command: &str) -> String {
        self.sh(command).stdout.trim().to_owned()
    }

    /// A changed agent.toml, applied with `verb`.
    fn change(&self, verb: &str, config: &str) {
        self.write(CONFIG_FILE, config);
        self.agent([verb]).ok();
        let plan = self.agent(["plan"]).ok().stdout;
        assert!(plan.starts_with("nothing to do"), "after {verb}: {plan}");
    }
}

#[test]
fn strangers_see_neither_readiness_nor_blocked_paths_and_get_a_503_page() {
    let block = ("tls = \"off\"", "tls = \"off\"\nblock = [\"/.env\", \"/wp-login.php\"]");
    let host = installed_with("strangers", &config_with([QUICK, block]));
    for (path, code) in
        [("/", "200"), ("/.env", "404"), ("/wp-login.php", "404"), ("/readyz", "404"), ("/readyz/", "404")]
    {
        assert_eq!(host.code(&format!("{VISIT}{path}")), code, "{path}");
    }
    // The host itself may ask for readiness; a forged header does not help a stranger.
    assert_eq!(host.get("/readyz").status, 200);
    let forwarded =
        "curl -sS -o /dev/null -w '%{http_code}' -H 'X-Forwarded-For: 203.0.113.9' 127.0.0.1/readyz";
    assert_eq!(host.code(forwarded), "200");
    let running = host.invocations();
    let trusted = ("tls = \"off\"", "tls = \"off\"\ntrusted_proxies = [\"127.0.0.0/8\"]");
    host.change("reconcile", &config_with([QUICK, trusted]));
    assert_eq!(host.code(forwarded), "404", "the address that a trusted proxy names is the visitor's");
    assert_eq!(host.invocations(), running, "a changed Caddyfile restarts nothing");

    host.sh("systemctl stop astra-app@1 astra-app@2").ok();
    // Until Caddy's next check a request that reaches neither ends as 502, with the same page.
    host.wait(
        "[ $(curl -s -o /dev/null -m 20 -w '%{http_code}' localhost/) = 503 ]",
        Duration::from_secs(40),
    );
    let page = host.sh("curl -sSi -m 20 localhost/").ok().stdout;
    for said in ["HTTP/1.1 503", "Retry-After: 5", "text/html", "Back in a moment"] {
        assert!(page.contains(said), "no {said:?} in:\n{page}");
    }
    host.agent(["reconcile"]).ok();
    assert_eq!(host.get("/").status, 200);
}

#[test]
fn a_readiness_path_that_takes_two_seconds_costs_no_request() {
    // Checks from before a drain are answered during it.
    let slow = ("path = \"/readyz\"", "path = \"/slow\"\nanswer_timeout = \"5s\"");
    let host = installed_with("slow-ready", &config_with([QUICK, slow]));
    let load = host.load(600).quick().start();
    for version in ["v2", "v1"] {
        host.tag("latest", version);
        host.agent(["deploy"]).ok();
    }
    let report = load.stop();
    assert_eq!(report.failed, 0, "{report:#?}");
}

#[test]
fn a_site_has_the_configured_names_and_certificate() {
    let host = installed_with("names", &config_with([QUICK]));
    let running = host.invocations();
    let named =
        [("hosts = []", "hosts = [\"one.test\", \"two.test\"]"), ("tls = \"off\"", "tls = \"internal\"")];
    host.change("reconcile", &config_with([QUICK, named[0], named[1]]));
    let ask = |rest: &str| {
        let names = "--resolve one.test:443:127.0.0.1 --resolve two.test:443:127.0.0.1 --resolve one.test:80:127.0.0.1";
        host.code(&format!(
            "curl -sSk -m 5 {names} -o /dev/null -w '%{{http_code}} %{{redirect_url}}' {rest}"
        ))
    };
    // Caddy takes a moment to make a certificate.
    host.wait(
        "curl -sSk -m 5 -f --resolve one.test:443:127.0.0.1 https://one.test/",
        Duration::from_secs(20),
    );
    assert_eq!(ask("https://one.test/"), "200");
    assert_eq!(ask("https://two.test/"), "200");
    assert_eq!(ask("http://one.test/here"), "308 https://one.test/here");
    let issuer = host.sh(
        "curl -skv -o /dev/null --resolve one.test:443:127.0.0.1 https://one.test/ 2>&1 | grep -i issuer",
    );
    assert!(issuer.stdout.contains("Caddy Local Authority"), "{}", issuer.stdout);
    // An app that checks its Host gets readiness requests with the first name.
    let health = host.read("/etc/astra/Caddyfile");
    assert!(health.contains("header_up Host one.test"), "{health}");
    assert_eq!(host.invocations(), running);
    host.deploy("v2").ok();
    assert_eq!(ask("https://one.test/"), "200");

    // Back to plain port 80.
    host.change("reconcile", &config_with([QUICK]));
    assert_eq!(host.get("/").status, 200);
}

#[test]
fn instances_are_added_removed_and_moved_by_the_config() {
    let host = installed_with("moves", &config_with([QUICK]));
    let with = |instances: &str, base: &str| {
        let line = format!("instances = {instances}\nbase_port = {base}");
        config_with([QUICK, ("instances = 2", &line)])
    };
    let listening = |ports: &[u16]| {
        let open = host.sh("ss -Htln | grep -o '127.0.0.1:8[0-9]*' | sort -u").stdout;
        let wanted: Vec<_> = ports.iter().map(|p| format!("127.0.0.1:{p}")).collect();
        assert_eq!(open.lines().collect::<Vec<_>>(), wanted);
        assert_eq!(host.get("/").status, 200);
        host.assert_tidy();
    };
    for (instances, base, ports) in [("3", "8000", &[8001, 8002, 8003][..]), ("1", "8000", &[8001])] {
        host.change("deploy", &with(instances, base));
        listening(ports);
    }
    // The only instance moves once the added one is ready.
    let load = host.load(30).websockets(0).start();
    host.change("deploy", &with("2", "8100"));
    let report = load.stop();
    listening(&[8101, 8102]);
    // Each of the three new Caddyfiles may lose one request (docs/decisions/0021).
    println!("{} of {} requests lost", report.failed, report.total);
    assert!(report.failed <= 3, "{report:#?}");
    // A reconcile moves nothing, and reports what a deploy would move.
    let running = host.invocations();
    host.write(CONFIG_FILE, &with("2", "8200"));
    let said = host.agent(["reconcile"]).ok();
    assert!(format!("{}{}", said.stdout, said.stderr).contains("8201"), "{}{}", said.stdout, said.stderr);
    assert_eq!(host.invocations(), running);
    listening(&[8101, 8102]);
    // A reboot keeps the old ports, and a deploy then moves the instances.
    host.reboot();
    host.wait("curl -sSf -m 2 localhost/", Duration::from_secs(60));
    listening(&[8101, 8102]);
    host.agent(["deploy"]).ok();
    listening(&[8201, 8202]);
}
