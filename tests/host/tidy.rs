//! Leftovers of a run for the next one: images, containers, markers; and a run that waits for an earlier
//! one's migration.

use std::time::{Duration, Instant};

use crate::recovery::QUICK;
use crate::site::{config_with, installed_with};

const JOB: &str = r#"
[[cron_jobs]]
name = "mail"
minute = "0"
hour = "3"
run = ["true"]
"#;

#[test]
fn housekeeping_removes_everything_that_is_not_in_use() {
    let host = installed_with("tidy", &(config_with([QUICK]) + JOB));
    let image = |tag: &str| format!("127.0.0.1:5000/astra@{}", host.digest(tag));

    // An undone deploy is flushed as well: the next reboot does not look like a power cut in a pull.
    assert_eq!(host.deploy("exits").code(), 3);
    assert_eq!(host.sh("ls /var/lib/astra-agent/unflushed").code(), 2);

    // Images that cannot be removed do not stop the removal of others.
    for tag in ["exits", "flaps", "never-ready", "not-ready"] {
        host.sh(&format!("podman pull -q {}", image(tag))).ok();
    }
    for tag in ["exits", "never-ready", "not-ready"] {
        host.sh(&format!("podman create --name foreign-{tag} {}", image(tag))).ok();
    }
    // The container of a job whose service starts is no leftover; once the service is stopped, it is one.
    host.sh("mkdir -p /run/systemd/system/astra-cron-mail.service.d; \
        printf '[Service]\nExecStart=\nExecStart=/bin/sleep 600\n' >/run/systemd/system/astra-cron-mail.service.d/x.conf; \
        systemctl daemon-reload; systemctl start --no-block astra-cron-mail; \
        podman create -q --name astra-cron-mail --label astra.release=1 127.0.0.1:5000/astra:v1")
        .ok();
    let deploy = host.deploy("v2").ok();
    eprintln!("{}{}", deploy.stdout, deploy.stderr);
    assert_eq!(host.sh(&format!("podman image exists {}", image("flaps"))).code(), 1, "{}", deploy.stderr);
    assert_eq!(deploy.stderr.matches("housekeeping: remove").count(), 3, "{}", deploy.stderr);
    host.sh("podman container exists astra-cron-mail").ok();
    host.sh(
        "podman rm -f foreign-exits foreign-never-ready foreign-not-ready; systemctl stop astra-cron-mail",
    )
    .ok();
    host.deploy("v3").ok();
    assert_eq!(host.sh("podman container exists astra-cron-mail").code(), 1);
    for tag in ["exits", "never-ready", "not-ready"] {
        assert_eq!(host.sh(&format!("podman image exists {}", image(tag))).code(), 1, "{tag}");
    }
}

#[test]
fn a_wait_for_an_earlier_migration_can_be_interrupted() {
    let host = installed_with("tidy-migration", &config_with([QUICK]));
    host.sh("mkdir -p /run/systemd/system/astra-migrate.service.d; \
        printf '[Unit]\nAssertPathExists=\n[Service]\nEnvironmentFile=\nExecCondition=\nExecStart=\nExecStart=/bin/sleep 60\n' \
            >/run/systemd/system/astra-migrate.service.d/x.conf; \
        systemctl daemon-reload; systemctl start --no-block astra-migrate")
        .ok();
    host.wait("test $(systemctl show -P ActiveState astra-migrate) = activating", Duration::from_secs(10));
    host.tag("latest", "v2");
    let begun = Instant::now();
    let stopped = host.sh(
        "astra-agent deploy >/root/deploy 2>&1 & sleep 8; kill -INT $!; wait $!; code=$?; cat /root/deploy; exit $code",
    );
    assert_eq!(stopped.code(), 1, "{}{}", stopped.stdout, stopped.stderr);
    assert!(stopped.stdout.contains("SIGINT"), "{}", stopped.stdout);
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    eprintln!("{}", stopped.stdout);
    assert_eq!(host.sh("systemctl show -P ActiveState astra-migrate").ok().stdout, "activating\n");
    assert_eq!(host.versions([1, 2]), ["v1", "v1"]);
}
