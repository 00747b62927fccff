//! packaging/examples/chronos: a front end on `/` with nothing of the environment, an API below `/api`, a scheduler, a
//! database, and a tunnel server whose file is made from a template.

use std::time::Duration;

use crate::harness::{Engine, Host, Load};
use crate::site::{CONFIG_FILE, turn};

const CONFIG: &str = include_str!("../../packaging/examples/chronos/agent.toml");
/// Replaces what this machine cannot have.
const OWN: &str = r#"
[app]
image = "127.0.0.1:5000/astra:latest"
[services.front]
image = "127.0.0.1:5000/front:latest"
command = ["python3", "front.py"]
[services.scheduler]
command = ["python3", "-c", "import signal, time; signal.signal(15, lambda *a: exit(0)); time.sleep(1e6)"]
readiness.settle = "1s"
[services.db]
image = "127.0.0.1:5000/postgres:17"
[services.frps]
image = "127.0.0.1:5000/astra:v1"
command = ["python3", "frps.py"]
[caddy]
image = "127.0.0.1:5000/caddy:2"
hosts = []
tls = "off"
[deploy]
soak = "1s"
[env]
APP_BELOW = "api/"
ALLOWED_HOSTS = "*"
SECRET_KEY = { generate = 64 }
"#;

pub fn site(engine: Engine, name: &str) -> Host {
    let host = Host::boot_with(name, engine);
    host.push_front("v1");
    host.write(CONFIG_FILE, CONFIG);
    host.write("/etc/astra/agent.d/90-test.toml", OWN);
    host.sh_with("astra-agent env set BOILER_PIN", "canary-boiler-pin").ok();
    host.agent(["install"]).ok();
    host
}

impl Host {
    /// The containers of the site and their ids, without those of a service.
    fn all_but(&self, service: &str) -> Vec<String> {
        let list =
            format!("{} ps --no-trunc --format '{{{{.Names}}}} {{{{.ID}}}}' | sort", self.engine.client());
        let all = self.sh(&list).ok().stdout;
        let of = format!("chronos-{service}-");
        all.lines()
            .filter(|line| line.starts_with("chronos-") && !line.starts_with(&of))
            .map(str::to_owned)
            .collect()
    }

    pub fn of_accessories(&self) -> Vec<String> {
        let is_one =
            |line: &String| ["chronos-db-", "chronos-frps-"].iter().any(|name| line.starts_with(name));
        self.all_but("-").into_iter().filter(is_one).collect()
    }

    /// The variables of a container.
    fn variables(&self, container: &str) -> String {
        self.sh(&format!("{} exec {container} env", self.engine.client())).ok().stdout
    }

    /// The greeting of the tunnel server, and the end of its token in the environment.
    fn greeting(&self) -> (String, String) {
        let greeting = self.sh("timeout 5 cat </dev/tcp/127.0.0.1/7005").ok().stdout;
        let token = self.sh("sed -n 's/^FRPS_TOKEN=//p' /etc/astra/chronos.env").ok().stdout;
        (greeting.trim().to_owned(), token.trim()[28..].to_owned())
    }

    fn page(&self) -> String {
        self.get("/").body
    }
}

fn serves(engine: Engine, name: &str) {
    let host = site(engine, name);
    assert_eq!((host.page().as_str(), host.get("/api/version").body.as_str()), ("v1 green\n", "v1\n"));
    assert_eq!(host.get("/apis").body, "v1 green\n");
    assert_eq!(host.sh("curl -sSf localhost/health").ok().stdout, "ok");
    let front = host.variables("chronos-front-1");
    assert!(!front.contains("DATABASE_PASSWORD") && !front.contains("BOILER_PIN"), "{front}");
    let (greeting, token) = host.greeting();
    assert_eq!(greeting, format!("{token} 1"));

    // A second release of both images, a broken one, and the first again without a registry.
    let stores = host.of_accessories();
    let guard = turn();
    let loads = [host.load(50).below("/api").start(), host.load(50).gets().start()];
    host.wait("curl -sf --max-time 1 localhost/", Duration::from_secs(5));
    host.push_front("v2");
    host.deploy("v2").ok();
    assert_eq!((host.page().as_str(), host.get("/api/version").body.as_str()), ("v2 green\n", "v2\n"));
    host.tag("latest", "exits");
    assert_eq!(host.agent(["deploy"]).code(), 3);
    host.sh("systemctl stop docker-registry").ok();
    host.agent(["rollback"]).ok();
    assert_eq!((host.page().as_str(), host.get("/api/version").body.as_str()), ("v1 green\n", "v1\n"));
    // The colour alone: nothing but the front end restarts.
    let before = host.all_but("front");
    host.edit("\"green\"", "\"blue\"");
    host.agent(["deploy", "--keep-image"]).ok();
    assert_eq!(host.all_but("front"), before);
    assert_eq!(host.page(), "v1 blue\n");
    let [api, front] = loads.map(Load::stop);
    api.assert_lossless();
    assert_eq!((front.failed, front.versions.len()), (0, 2), "{front:#?}");
    drop(guard);
    host.sh("systemctl start docker-registry").ok();
    assert_eq!(host.of_accessories(), stores, "a deploy restarted an accessory");

    // A template that fails changes nothing.
    let (files, all) = (host.sh("ls /etc/astra/files").ok().stdout, host.all_but("-"));
    host.edit("FRPS_TOKEN | tojson", "FRPS_TOKE | tojson");
    let refused = host.agent(["accessory", "restart", "frps"]);
    assert_eq!(refused.code(), 2, "{}", refused.text());
    assert!(
        refused.text().contains("[files.frps] content:3:29: `FRPS_TOKE | tojson` has no value"),
        "{}",
        refused.text()
    );
    let status = host.agent(["status"]).text();
    assert!(status.contains("`astra-agent accessory restart frps` would be refused"), "{status}");
    let check = host.agent(["check"]);
    assert!(check.code() == 2 && check.text().contains("`FRPS_TOKE | tojson`"), "{}", check.text());
    host.agent(["deploy", "--keep-image"]).ok();
    assert_eq!((host.sh("ls /etc/astra/files").ok().stdout, host.all_but("-")), (files, all));
    // A changed file comes with the accessory's own verb, and goes again if the program does not accept it.
    host.edit("FRPS_TOKE | tojson", "FRPS_TOKEN | tojson");
    host.edit("[{ single = 5171 }]", "[{ single = 5171 }, { single = 5172 }]");
    host.agent(["deploy", "--keep-image"]).ok();
    assert_eq!(host.greeting().0, format!("{token} 1"));
    host.agent(["accessory", "restart", "frps"]).ok();
    assert_eq!(host.greeting().0, format!("{token} 2"));
    let good = host.read(CONFIG_FILE);
    host.edit("{{ FRPS_TOKEN | tojson }}", "\\\"\\\"");
    let bad = host.agent(["accessory", "restart", "frps"]);
    assert_eq!(bad.code(), 3, "{}", bad.text());
    assert!(bad.text().contains("no token"), "{}", bad.text());
    assert_eq!(host.greeting().0, format!("{token} 2"));
    host.write(CONFIG_FILE, &good);

    // Also without the agent.
    host.reboot();
    host.wait("curl -sf --max-time 1 localhost/api/version", Duration::from_secs(60));
    host.wait("timeout 1 cat </dev/tcp/127.0.0.1/7005", Duration::from_secs(60));
    assert_eq!((host.page().as_str(), host.greeting().0), ("v1 blue\n", format!("{token} 2")));
    let doctor = host.agent(["doctor"]);
    assert!(!doctor.text().contains("problem:"), "{}", doctor.text());
    host.agent(["status"]).ok();
    // The secret and the token are in no journal and on no command line.
    let journals =
        host.sh("cat /var/lib/astra-agent/journal/* /proc/*/cmdline 2>/dev/null | tr '\\0' ' '").stdout;
    let secret = host.sh("sed -n 's/^FRPS_TOKEN=//p' /etc/astra/chronos.env").ok().stdout;
    assert!(!journals.contains(secret.trim()) && !journals.contains("canary-boiler-pin"));
}

/// A minute more, so only when asked for: cargo test --test host chronos -- --ignored.
#[test]
#[ignore = "the same site on the other engine"]
fn chronos_serves_on_docker() {
    serves(Engine::Docker, "ex-chronos-docker");
}

#[test]
fn chronos_serves() {
    serves(Engine::Podman, "ex-chronos");
}
