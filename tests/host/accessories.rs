//! A site whose database and cache are accessories: PostgreSQL and Redis in containers of their own, reached by name.

use std::time::{Duration, Instant};

use crate::harness::{Engine, Host};
use crate::recovery::QUICK;
use crate::site::{CONFIG_FILE, config_with, turn};

const DATABASE: [(&str, &str); 2] = [
    ("DATABASE_HOST = \"host.containers.internal\"", "DATABASE_HOST = \"db\"\nREDIS_HOST = \"redis\""),
    ("DATABASE_USER = \"astra\"", "DATABASE_USER = \"astra\"\nDATABASE_PASSWORD = { generate = 32 }"),
];
const ACCESSORIES: &str = r#"
[services.db]
kind = "accessory"
image = "127.0.0.1:5000/postgres:17"
volumes = ["db:/var/lib/postgresql/data"]
env = { POSTGRES_USER = "astra", POSTGRES_DB = "astra" }
secrets = { POSTGRES_PASSWORD = "DATABASE_PASSWORD" }
stop_timeout = "30s"
readiness = { tcp = 5432, timeout = "60s" }

[services.redis]
kind = "accessory"
image = "127.0.0.1:5000/redis:7"
volumes = ["redis:/data"]
publish = ["127.0.0.1:6379:6379"]
readiness = { command = ["redis-cli", "ping"], timeout = "20s" }
"#;

impl Host {
    /// Ids of the accessories' containers.
    fn accessories(&self) -> String {
        let client = self.engine.client();
        let list = format!("{client} ps --no-trunc --format '{{{{.Names}}}} {{{{.ID}}}}' | sort");
        let all = self.sh(&list).ok().stdout;
        all.lines().filter(|line| !line.starts_with("astra-app") && !line.contains("caddy")).collect()
    }

    fn in_redis(&self, command: &str) -> String {
        self.within("redis", command)
    }

    fn within(&self, accessory: &str, command: &str) -> String {
        let client = self.engine.client();
        self.sh(&format!("{client} exec astra-{accessory}-1 {command}")).ok().stdout.trim().to_owned()
    }
}

fn site(engine: Engine, name: &str) -> Host {
    let host = Host::boot_with(name, engine);
    let config = config_with([QUICK, DATABASE[0], DATABASE[1]]);
    host.write(CONFIG_FILE, &(config + ACCESSORIES));
    host.sh("astra-agent install").ok();
    host
}

fn change_alone(engine: Engine, name: &str) {
    let host = site(engine, name);
    assert_eq!(host.versions([1, 2]), ["v1"; 2]);
    assert_eq!(host.get("/count").body, "1\n");
    let (before, stored) = (host.accessories(), host.sh("md5sum /etc/astra/astra-db.env").ok().stdout);
    assert_eq!(before.matches("astra-").count(), 2, "{before}");

    // Deploys and a rollback leave them alone, and lose nothing.
    let turn = turn();
    let load = host.load(50).start();
    host.wait("curl -sf --max-time 1 localhost/", Duration::from_secs(5));
    host.deploy("v2").ok();
    host.tag("latest", "exits");
    assert_eq!(host.agent(["deploy"]).code(), 3);
    host.sh("systemctl stop docker-registry").ok();
    host.agent(["rollback"]).ok();
    host.sh("systemctl start docker-registry").ok();
    load.stop().assert_lossless();
    drop(turn);
    assert_eq!(host.accessories(), before);
    assert_eq!(host.sh("md5sum /etc/astra/astra-db.env").ok().stdout, stored);
    assert_eq!(host.versions([1, 2]), ["v1"; 2]);

    // An upgrade keeps the data; one that fails goes back, and so does a change of the settings.
    let apps = host.sh("systemctl show -p InvocationID astra-app@1 astra-app@2").ok().stdout;
    host.tag_in("redis", "7", "8");
    host.agent(["accessory", "upgrade", "redis"]).ok();
    assert_eq!(host.in_redis("printenv NEWER"), "1");
    assert_eq!(host.get("/count").body, "2\n");
    host.tag_in("redis", "7", "broken");
    let failed = host.agent(["accessory", "upgrade", "redis"]);
    assert_eq!(failed.code(), 3, "{}", failed.text());
    assert!(failed.text().contains("no-such-option"), "{}", failed.text());
    assert_eq!((host.in_redis("printenv NEWER"), host.get("/count").body), ("1".into(), "3\n".into()));
    let config = host.read(CONFIG_FILE);
    host.write(
        CONFIG_FILE,
        &config.replace("[\"redis-cli\", \"ping\"], timeout = \"20s\"", "[\"false\"], timeout = \"3s\""),
    );
    let failed = host.agent(["accessory", "restart", "redis"]);
    assert!(failed.text().contains("`false` ended with code 1"), "{}", failed.text());
    assert_eq!((failed.code(), host.get("/count").body), (3, "4\n".to_owned()), "{}", failed.text());
    host.write(
        CONFIG_FILE,
        &config.replace("stop_timeout = \"30s\"", "stop_timeout = \"30s\"\nshm_size = \"256M\""),
    );
    let pending = host.agent(["status"]).ok().stdout;
    assert!(pending.contains("accessory restart db` would change its arguments"), "{pending}");
    host.agent(["accessory", "restart", "db"]).ok();
    host.wait("curl -sf --max-time 5 localhost/readyz", Duration::from_secs(20));
    assert_eq!(host.sh("systemctl show -p InvocationID astra-app@1 astra-app@2").ok().stdout, apps);

    let doctor = host.agent(["doctor"]);
    assert!(!doctor.text().contains("problem:"), "{}", doctor.text());

    // They boot without the agent, and come back when they are stopped or removed by hand.
    host.sh("mv /usr/local/bin/astra-agent /root/").ok();
    host.reboot();
    host.wait("curl -sf -m 5 localhost/readyz && curl -sf -m 5 localhost/count", Duration::from_secs(60));
    host.sh("mv /root/astra-agent /usr/local/bin/").ok();
    host.sh(&format!("{} rm -f astra-redis-1; systemctl disable --now astra-db@1", engine.client())).ok();
    let status = host.agent(["status"]);
    assert_eq!(status.code(), 4, "{}", status.text());
    host.agent(["reconcile"]).ok();
    host.wait("curl -sf -m 5 localhost/readyz && curl -sf -m 5 localhost/count", Duration::from_secs(30));
    assert_eq!(host.sh("systemctl is-enabled astra-db@1").ok().stdout, "enabled\n");
    host.wait("astra-agent status", Duration::from_secs(20));
    host.assert_tidy();
}

#[test]
fn accessories_change_alone() {
    change_alone(Engine::Podman, "accessories");
}

#[test]
fn accessories_change_alone_on_docker() {
    change_alone(Engine::Docker, "accessories-docker");
}

#[test]
fn accessories_outlive_twenty_deploys_and_five_rollbacks() {
    let host = site(Engine::Podman, "accessories-deploys");
    let starts = "systemctl show -p InvocationID,NRestarts astra-db@1 astra-redis@1";
    let (before, started) = (host.accessories(), host.sh(starts).ok().stdout);
    assert_eq!(before.matches("astra-").count(), 2, "{before}");
    let sql = |query: &str| {
        host.within(
            "db",
            &format!("sh -c 'PGPASSWORD=$POSTGRES_PASSWORD psql -h /tmp -U astra -qAt -c \"{query}\"'"),
        )
    };
    sql("create table kept (deploy int)");
    let begun = Instant::now();
    let (mut serves, mut other, mut visits) = ("v1", "v2", 0);
    for deploy in 1..=20 {
        host.tag("latest", other);
        // A release that was rolled back is held.
        host.agent(["deploy", "--force"]).ok();
        (serves, other) = (other, serves);
        if deploy % 4 == 0 {
            host.agent(["rollback"]).ok();
            (serves, other) = (other, serves);
        }
        visits += 1;
        assert_eq!(host.versions([1, 2]), [serves; 2]);
        assert_eq!(host.get("/count").body, format!("{visits}\n"));
        sql(&format!("insert into kept values ({deploy})"));
    }
    println!("20 deploys and 5 rollbacks in {:.0?}", begun.elapsed());
    assert_eq!(host.accessories(), before);
    assert_eq!(host.sh(starts).ok().stdout, started);
    assert_eq!(sql("select count(*), sum(deploy) from kept"), "20|210");
    assert_eq!(host.in_redis("redis-cli get visits"), "20");
    let runs = "astra-agent history -n 100 --json | jq -r '.runs[] | select(.accessory) | .verb'";
    assert_eq!(host.sh(runs).ok().stdout, "install\ninstall\n");
    host.assert_tidy();
}
