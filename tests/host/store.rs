//! An image store that a power cut may have damaged: remaining damage is reported every time.

use std::time::Duration;

use crate::site::installed;

/// State after a power cut: the marker of a pull without its counterpart in /run.
const MARK: &str = "/var/lib/astra-agent/unflushed";

/// podman, whose check of its store runs /root/check.
const PODMAN: &str = r#"#!/bin/sh
[ "$1 $2" != "system check" ] || . /root/check
exec /usr/bin/podman.real "$@"
"#;

#[test]
fn remaining_damage_keeps_its_marker() {
    let host = installed("store");
    host.write("/root/podman", PODMAN);
    host.sh("mv /usr/bin/podman /usr/bin/podman.real && install -m 0755 /root/podman /usr/bin/podman").ok();
    let cut_off = format!("127.0.0.1:5000/astra@{}", host.digest("v2"));
    host.sh(&format!("podman pull -q {cut_off} && rm -f /run/astra/unflushed")).ok();
    host.write(MARK, &format!("{cut_off}\n"));
    host.tag("latest", "v3");

    // Damage that podman cannot repair: the pull is refused, now and the next time.
    host.write("/root/check", "exit 125");
    for _ in 0..2 {
        let deploy = host.agent(["deploy"]);
        let said = format!("{}{}", deploy.stdout, deploy.stderr);
        assert_eq!(deploy.code(), 1, "{said}");
        assert!(said.contains("damage is left") && said.contains("podman system reset"), "{said}");
        assert_eq!(host.read(MARK).trim(), cut_off, "the mark went");
    }
    assert_eq!(host.versions([1, 2]), ["v1", "v1"]);

    // A check is stopped when its run is.
    host.write("/root/check", "exec sleep 600");
    let checks = "systemctl is-active astra-store-check.service";
    let deploy = host.sh("timeout --foreground -s INT 6 astra-agent deploy");
    assert_eq!(host.sh("podman image exists localhost/none").code(), 1, "podman answers");
    assert_eq!(deploy.code(), 124, "{}{}", deploy.stdout, deploy.stderr);
    host.wait(&format!("! {checks}"), Duration::from_secs(15));
    assert_eq!(host.read(MARK).trim(), cut_off, "the mark went");

    // The real check: the image of the cut-off pull is removed, and so is the marker.
    host.write("/root/check", ":");
    let deploy = host.agent(["deploy"]).ok();
    assert!(deploy.text().contains("the image store was checked and repaired"), "{}", deploy.text());
    assert_eq!(host.versions([1, 2]), ["v3", "v3"]);
    assert_eq!(
        host.sh(&format!("podman image exists {cut_off}")).code(),
        1,
        "what was cut off is still there"
    );
    assert_eq!(host.sh(&format!("ls {MARK}")).code(), 2);
}
