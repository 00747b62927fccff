//! The contenders: how each is installed, and how it deploys and goes back.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::host::Host;
use crate::records::Way;
use crate::settings::PROJECT;
use crate::store::Store;

const IMAGE: &str = "127.0.0.1:5000/astra";

/// Installs v1.
pub fn install(host: &Host, store: &Store, way: Way) -> Result<()> {
    match way {
        Way::Agent => host.install(store, "")?,
        Way::Careful => by_hand(host, "careful")?,
        Way::Plain => by_hand(host, "plain")?,
        Way::AutoUpdate => quadlet(host)?,
    }
    until_served(host)
}

/// Caddy's first check may have come too early, before the app was up.
pub fn until_served(host: &Host) -> Result<()> {
    let serves = "for i in 1 2 3 4 5 6; do curl -sf -o /dev/null localhost/readyz || exit; done";
    host.wait(serves, Duration::from_secs(60)).context("the app is not served")
}

/// A command that must succeed before the deploy: podman auto-update runs no migrations.
pub fn before(way: Way, tag: &str) -> Option<String> {
    (way == Way::AutoUpdate).then(|| migrate(tag))
}

/// One command: the process that a case kills.
pub fn deploy(way: Way, tag: &str) -> String {
    match way {
        Way::Agent => "astra-agent deploy".into(),
        Way::Careful | Way::Plain => format!("/usr/local/bin/deploy {IMAGE}:{tag}"),
        Way::AutoUpdate => "podman auto-update".into(),
    }
}

/// `None`: the way has no rollback to an earlier release.
pub fn rollback(way: Way) -> Option<String> {
    match way {
        Way::Agent => Some("astra-agent rollback".into()),
        Way::Careful => Some("/usr/local/bin/deploy --back".into()),
        Way::Plain => Some(deploy(way, "v1")),
        Way::AutoUpdate => None,
    }
}

/// A run of its timer, which comes whatever an operator has seen.
pub fn timer(way: Way) -> Option<&'static str> {
    (way == Way::AutoUpdate).then_some("podman auto-update")
}

/// The process that does the work of a deploy; `$pid` is the one that an operator has started.
pub fn process(way: Way) -> &'static str {
    match way {
        Way::Agent => "$(systemctl show -P MainPID 'astra-agent-deploy-*')",
        _ => "$pid",
    }
}

fn migrate(tag: &str) -> String {
    format!("podman run --rm --env-file /etc/astra/astra.env {IMAGE}:{tag} migrate.sh")
}

/// A file of this directory.
fn file(name: &str) -> Result<String> {
    let path = Path::new(PROJECT).join("tests/campaign").join(name);
    fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
}

fn environment(host: &Host, image: &str, caddyfile: &str) -> Result<()> {
    host.sh("install -d -m 0700 /etc/astra")?.ok()?;
    host.write(
        "/etc/astra/astra.env",
        &format!(
            "APP_IMAGE={image}\nDATABASE_HOST=host.containers.internal\nDATABASE_NAME=astra\nDATABASE_USER=astra\n\
             DATABASE_PASSWORD=canary-db-pw-7f3a\nALLOWED_HOSTS=*\nSECRET_KEY=a-key-that-is-no-secret-at-all\n"
        ),
    )?;
    host.write("/etc/astra/Caddyfile", &file(caddyfile)?)?;
    host.sh(&format!("podman pull -q 127.0.0.1:5000/caddy:2 && podman pull -q {IMAGE}:latest"))?.ok()?;
    host.sh(&migrate("latest"))?.ok().map(drop)
}

fn by_hand(host: &Host, folder: &str) -> Result<()> {
    environment(host, &format!("{IMAGE}:v1"), &format!("{folder}/Caddyfile"))?;
    for unit in ["astra-app@.service", "astra-caddy.service"] {
        host.write(&format!("/etc/systemd/system/{unit}"), &file(&format!("{folder}/{unit}"))?)?;
    }
    host.write("/usr/local/bin/deploy", &file(&format!("{folder}/deploy"))?)?;
    host.sh(&format!(
        "chmod +x /usr/local/bin/deploy; for i in 1 2; do echo APP_IMAGE={IMAGE}:v1 >/etc/astra/image-$i.env; done
         systemctl daemon-reload && systemctl enable --now astra-app@1 astra-app@2 astra-caddy"
    ))?
    .ok()
    .map(drop)
}

fn quadlet(host: &Host) -> Result<()> {
    environment(host, &format!("{IMAGE}:latest"), "careful/Caddyfile")?;
    let app = file("auto-update/astra-app.container")?;
    for i in ["1", "2"] {
        host.write(&format!("/etc/containers/systemd/astra-app-{i}.container"), &app.replace("@i@", i))?;
    }
    let caddy = file("auto-update/astra-caddy.container")?;
    host.write("/etc/containers/systemd/astra-caddy.container", &caddy)?;
    let start = "systemctl daemon-reload && systemctl start astra-app-1 astra-app-2 astra-caddy";
    host.sh(start)?.ok().map(drop)
}
