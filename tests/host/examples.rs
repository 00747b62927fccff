//! The sites of packaging/examples, each with an app that behaves like the original: installed, deployed under load,
//! broken, and rolled back without a registry. One fragment of the config replaces what this machine cannot have:
//! images, host names, the database.

use std::time::Duration;

use crate::harness::{Engine, Host};
use crate::site::{CONFIG_FILE, PASSWORD, turn};

/// A site of packaging/examples.
struct Example {
    name: &'static str,
    config: &'static str,
    /// agent.d/50-environment.toml; empty: none.
    environment: &'static str,
    /// Variables that only `env set` knows.
    secrets: &'static [&'static str],
    /// More lines of the fragment.
    own: &'static str,
    /// Prefix of its containers.
    site: &'static str,
}

macro_rules! file {
    ($name:literal) => {
        include_str!(concat!("../../packaging/examples/", $name))
    };
}

const ASTRA: Example = Example {
    name: "ex-astra",
    config: file!("astra/agent.toml"),
    environment: "",
    secrets: &["DATABASE_PASSWORD"],
    own: "",
    site: "astra",
};
const ORDER_TRACKING: Example = Example {
    name: "ex-orders",
    config: file!("order-tracking/agent.toml"),
    environment: file!("order-tracking/prod.toml"),
    secrets: &["SPRING_DATASOURCE_PASSWORD"],
    // A JVM takes longer: see the other half of the matrix.
    own: "PORT = \"8080\"\nAPP_START_DELAY = \"5\"\n",
    site: "order-tracking",
};
const MUEJAM: Example = Example {
    name: "ex-muejam",
    config: file!("muejam/agent.toml"),
    environment: file!("muejam/staging.toml"),
    secrets: &["DATABASE_PASSWORD", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"],
    own: "[services.valkey]\nimage = \"127.0.0.1:5000/redis:7\"\n",
    site: "muejam",
};
const FREESIDE: Example = Example {
    name: "ex-freeside",
    config: file!("freeside/agent.toml"),
    environment: "",
    secrets: &["DATABASE_URL", "JWT_SECRET", "STRIPE_KEY", "SESSION_SECRET"],
    own: "[services.redis]\nimage = \"127.0.0.1:5000/redis:7\"\n",
    site: "freeside",
};

fn installed(engine: Engine, example: &Example) -> Host {
    let suffix = if engine == Engine::Docker { "-docker" } else { "" };
    let host = Host::boot_with(&format!("{}{suffix}", example.name), engine);
    // A host that is itself a container has no memory controller, and no limit above its own.
    let limited = host.sh("grep -qw memory /sys/fs/cgroup/cgroup.controllers").code() == 0;
    let limits = ["memory =", "cpus =", "ulimits ="].map(|key| (key, limited));
    // podman needs `catatonit`.
    let beyond = [&limits[..], &[("init =", engine == Engine::Docker)]].concat();
    let keep = |line: &&str| beyond.iter().all(|(key, possible)| *possible || !line.starts_with(key));
    let config: String = example.config.lines().filter(keep).map(|line| format!("{line}\n")).collect();
    host.write(CONFIG_FILE, &config);
    if !example.environment.is_empty() {
        host.write("/etc/astra/agent.d/50-environment.toml", example.environment);
    }
    let database = match engine {
        Engine::Podman => "host.containers.internal",
        Engine::Docker => "172.17.0.1",
    };
    let own = example.own;
    host.write(
        "/etc/astra/agent.d/90-test.toml",
        &format!(
            "[app]\nimage = \"127.0.0.1:5000/astra:latest\"\n[caddy]\nimage = \"127.0.0.1:5000/caddy:2\"\nhosts = []\n\
             tls = \"off\"\n[deploy]\nsoak = \"1s\"\n[env]\nDATABASE_HOST = \"{database}\"\nDATABASE_NAME = \"astra\"\n\
             DATABASE_USER = \"astra\"\nALLOWED_HOSTS = \"*\"\nSECRET_KEY = {{ generate = 64 }}\n{own}"
        ),
    );
    host.sh("openssl rand -hex 32 2>/dev/null >/etc/astra/rekor-signing-key.pem; true").ok();
    for secret in example.secrets.iter().chain(&["DATABASE_PASSWORD"]) {
        host.sh_with(&format!("astra-agent env set {secret}"), PASSWORD).ok();
    }
    host.agent(["install"]).ok();
    host
}

impl Host {
    fn names_and_ids(&self, part: &str) -> Vec<String> {
        let client = self.engine.client();
        let list =
            self.sh(&format!("{client} ps --no-trunc --format '{{{{.Names}}}} {{{{.ID}}}}' | sort")).ok();
        list.stdout.lines().filter(|line| line.contains(part)).map(str::to_owned).collect()
    }

    /// A command in the store of an example.
    fn in_store(&self, container: &str, command: &str) -> String {
        let client = self.engine.client();
        self.sh(&format!("{client} exec {container} redis-cli {command}")).ok().stdout
    }
}

fn serves(engine: Engine, example: &Example) {
    let host = installed(engine, example);
    assert_eq!(host.get("/version").body, "v1\n");
    host.agent(["status"]).ok();
    let store =
        ["valkey", "redis"].into_iter().find(|name| example.config.contains(&format!("[services.{name}]")));
    let store = store.map(|name| format!("{}-{name}-1", example.site));
    let before = store.as_ref().map(|store| host.names_and_ids(store));

    let turn = turn();
    let load = host.load(50).start();
    host.wait("curl -sf --max-time 1 localhost/", Duration::from_secs(5));
    let job = |n: u32| {
        // A worker that gets SIGTERM now has to finish it first.
        store.as_ref().map(|store| host.in_store(store, &format!("RPUSH jobs job-{n}:4")))
    };
    job(1);
    host.deploy("v2").ok();
    assert_eq!(host.get("/version").body, "v2\n");
    job(2);
    host.tag("latest", "exits");
    let broken = host.agent(["deploy"]);
    assert_eq!(broken.code(), 3, "{}", broken.text());
    assert_eq!(host.get("/version").body, "v2\n");
    host.sh("systemctl stop docker-registry").ok();
    job(3);
    host.agent(["rollback"]).ok();
    load.stop().assert_lossless();
    drop(turn);
    host.sh("systemctl start docker-registry").ok();
    assert_eq!(host.get("/version").body, "v1\n");
    host.agent(["status"]).ok();

    if let Some(store) = &store {
        assert_eq!(Some(host.names_and_ids(store)), before, "a deploy restarted {store}");
        let client = host.engine.client();
        let done = format!("test $({client} exec {store} redis-cli LLEN done) = 3");
        host.wait(&done, Duration::from_secs(30));
        assert_eq!(host.in_store(store, "LRANGE done 0 -1").lines().count(), 3, "each job is done once");
    }
    if example.site == ORDER_TRACKING.site {
        host.agent(["pause"]).ok();
        let answer = host.sh("curl -sS -m 1 -o /dev/null -w '%{http_code}' localhost/").ok();
        assert_eq!(answer.stdout, "503");
        host.agent(["resume"]).ok();
        assert_eq!(host.get("/version").body, "v1\n");
    }
    let doctor = host.agent(["doctor"]);
    assert!(!doctor.text().contains("problem:"), "{}", doctor.text());
}

#[test]
fn astra_serves() {
    serves(Engine::Podman, &ASTRA);
}

#[test]
fn order_tracking_serves_on_docker() {
    serves(Engine::Docker, &ORDER_TRACKING);
}

#[test]
fn muejam_serves_on_docker() {
    serves(Engine::Docker, &MUEJAM);
}

#[test]
fn freeside_serves() {
    serves(Engine::Podman, &FREESIDE);
}

/// The other half of the matrix: minutes more, so only when asked for.
#[test]
#[ignore = "the same sites on the other engine: cargo test --test host examples -- --ignored"]
fn every_example_serves_on_the_other_engine() {
    serves(Engine::Docker, &ASTRA);
    serves(Engine::Podman, &Example { own: "PORT = \"8080\"\nAPP_START_DELAY = \"20\"\n", ..ORDER_TRACKING });
    serves(Engine::Podman, &MUEJAM);
    serves(Engine::Docker, &FREESIDE);
}
