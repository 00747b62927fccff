//! An upgrade of Caddy's image: however `caddy-upgrade` is cut off, the site recovers by itself, with the
//! former image or the new one. And a Caddy that is down never counts as serving.

use std::time::{Duration, Instant};

use crate::harness::Host;
use crate::recovery::QUICK;
use crate::site::{config_with, installed_with};

const CADDY: &str = "127.0.0.1:5000/caddy:2";

/// Moments of an upgrade, as shell conditions.
const TRIED: &str = "test -e /run/astra/trial-caddy.env";
const DOWN: &str = "test $(systemctl show -P ActiveState astra-caddy) = deactivating";
const STARTS: &str = "test -e /run/astra/trial-caddy.env && systemctl show -P SubState astra-caddy | grep -q '^start$\\|auto-restart'";

impl Host {
    /// Pushes another image under the tag that Caddy follows: a copy of the current one, or one without
    /// Caddy.
    fn publish_caddy(&self, works: bool, mark: &str) {
        let from = if works {
            "$(sed -n s/^CADDY_IMAGE=//p /etc/astra/caddy.env)"
        } else {
            "127.0.0.1:5000/astra:v1"
        };
        self.sh(&format!(
            "cd /root && printf \"FROM {from}\\nLABEL mark={mark}\\n\" >caddyfile-{mark} && \
             podman build -q -f caddyfile-{mark} -t local/caddy:{mark} . && podman push -q local/caddy:{mark} {CADDY}"
        ))
        .ok();
    }

    /// Starts an upgrade; returns at `moment`.
    fn upgrade_until(&self, moment: &str) {
        self.sh(&format!(
            "setsid astra-agent caddy-upgrade >/root/upgrade 2>&1 </dev/null & \
             for i in $(seq 3000); do {moment} && exit 0; sleep 0.01; done; cat /root/upgrade; exit 1"
        ))
        .ok();
    }

    fn kill_the_run(&self) {
        self.sh("systemctl kill -s KILL 'astra-agent-caddy-upgrade-*'").ok();
    }

    /// Waits until the site serves and no leftovers of a run remain; returns the time it took.
    fn await_site(&self) -> Duration {
        let begun = Instant::now();
        let serves = "curl -sfo /dev/null -m 2 localhost/ && ! test -e /run/astra/trial-caddy.env && \
                      test $(systemctl show -P ActiveState astra-caddy) = active";
        self.wait(serves, Duration::from_secs(90));
        begun.elapsed()
    }

    fn last_run(&self) -> String {
        self.sh("astra-agent history -n 3").ok().stdout
    }
}

#[test]
fn a_cut_off_caddy_upgrade_leaves_a_serving_site() {
    let host = installed_with("caddy-cut", &config_with([QUICK]));
    let worked = host.read("/etc/astra/caddy.env");
    for (number, (works, moment)) in [(true, TRIED), (true, DOWN), (false, STARTS)].into_iter().enumerate() {
        host.publish_caddy(works, &format!("cut{number}"));
        host.upgrade_until(moment);
        host.kill_the_run();
        let took = host.await_site();
        eprintln!("killed when {moment} (works: {works}): serves after {took:.1?}\n{}", host.last_run());
        host.wait("astra-agent status", Duration::from_secs(30));
        assert_eq!(host.read("/etc/astra/caddy.env"), worked, "{}", host.last_run());
        let upgrade = host.history().into_iter().find(|run| run["verb"] == "caddy-upgrade").unwrap();
        assert!(upgrade["outcome"].to_string().contains("undone"), "{upgrade}");
    }
    // A power cut: the former image boots, without the agent's help.
    host.publish_caddy(false, "broken-at-boot");
    host.sh("systemctl disable -q astra-agent-recover.service astra-agent-reconcile.timer").ok();
    host.upgrade_until(STARTS);
    host.reboot();
    let took = host.await_site();
    eprintln!("power cut: serves after {took:.1?}");
    assert_eq!(host.read("/etc/astra/caddy.env"), worked);
    host.sh(
        "systemctl enable -q astra-agent-recover.service astra-agent-reconcile.timer; astra-agent recover",
    )
    .ok();

    // The run itself goes back from an image that cannot run, and keeps one that works.
    let refused = host.agent(["caddy-upgrade"]);
    assert_eq!(refused.code(), 1, "{}{}", refused.stdout, refused.stderr);
    host.await_site();
    assert_eq!(host.read("/etc/astra/caddy.env"), worked);
    host.publish_caddy(true, "last");
    host.agent(["caddy-upgrade"]).ok();
    host.await_site();
    assert_ne!(host.read("/etc/astra/caddy.env"), worked);
    host.agent(["reconcile"]).ok();
    host.assert_tidy();
}

#[test]
fn a_caddy_without_its_image_gets_it_again_and_does_not_count_as_serving() {
    let host = installed_with("caddy-lost", &config_with([QUICK]));
    host.deploy("v2").ok();
    let image = host.sh("sed -n s/^CADDY_IMAGE=//p /etc/astra/caddy.env").ok().stdout;
    let lose = format!("systemctl stop astra-caddy; podman rmi -f {}", image.trim());
    host.sh(&lose).ok();
    // The registry is down: the image cannot be pulled, and status says that the site is down.
    host.sh("systemctl stop docker-registry").ok();
    let back = host.agent(["rollback"]);
    assert_eq!(back.code(), 4, "{}{}", back.stdout, back.stderr);
    assert_eq!(host.versions([1, 2]), ["v1", "v1"], "the instances went back");
    assert!(back.stdout.contains("incomplete: release 1"), "{}", back.stdout);
    assert_eq!(host.agent(["status"]).code(), 4);
    host.sh(
        "systemctl start docker-registry; until curl -sfo /dev/null 127.0.0.1:5000/v2/; do sleep 0.1; done",
    )
    .ok();
    let kept = host.agent(["reconcile"]).ok();
    eprintln!("{}{}", kept.stdout, kept.stderr);
    assert_eq!(host.get("/").status, 200);
    assert_eq!(host.agent(["status"]).code(), 0);
    // With every instance drained the site does not count as serving.
    host.sh("touch /run/astra/drain/1 /run/astra/drain/2").ok();
    assert_eq!(host.agent(["status"]).code(), 4);
    host.agent(["reconcile"]).ok();
    assert_eq!(host.agent(["status"]).code(), 0);
}
