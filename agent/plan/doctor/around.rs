//! The app's surroundings: disk, clock, engine, Caddy, registry.

use std::collections::BTreeSet;

use super::Inputs;
use crate::config::OwnImage;
use crate::model::checkup::{Checkup, ImageAsked};
use crate::model::image::PinnedImage;
use crate::model::instance::ServiceName;
use crate::model::name::{AUTH_FILE, CADDYFILE, STATE};
use crate::model::problem::Problem;
use crate::plan::{caddy, checks, signatures};

/// The journal needs a few KiB a run.
const STATE_FREE: u64 = 64 << 20;
const DAY: u64 = 24 * 3600;

pub(super) fn findings(inputs: &Inputs<'_>, checkup: &Checkup) -> Vec<Problem> {
    let mut found = disk(inputs, checkup);
    found.extend(clock(checkup));
    found.extend(programs(checkup));
    found.extend(checks::engine(inputs));
    found.extend(docker(checkup));
    found.extend(proxy(inputs, checkup));
    found.extend(registry(checkup));
    found.extend(signed(inputs, checkup));
    found.extend(checks::volumes(inputs));
    found
}

fn signed(inputs: &Inputs<'_>, checkup: &Checkup) -> Vec<Problem> {
    let committed = inputs.committed();
    let image = |(name, asked): (&ServiceName, &ImageAsked)| {
        let serves = || Some(committed.as_ref()?.of(*name)?.image.clone());
        match asked.resolved.as_ref().and_then(|resolved| resolved.as_ref().ok()) {
            Some(digest) => {
                Some(PinnedImage { repository: asked.repository.clone(), digest: digest.clone() })
            }
            None => serves(),
        }
    };
    let images: BTreeSet<_> = checkup.images.iter().filter_map(image).collect();
    images.iter().find_map(|image| signatures::problem(inputs, image)).into_iter().collect()
}

fn disk(inputs: &Inputs<'_>, checkup: &Checkup) -> Vec<Problem> {
    let mut found = Vec::from_iter(checks::disk(inputs));
    if let Some(free) = checkup.state_free.filter(|free| *free < STATE_FREE) {
        let what = format!(
            "{STATE} has {} MiB free: a run that cannot write its journal does not begin",
            free >> 20
        );
        found.push(Problem::host("disk", what, "free space: `df -h`, `journalctl --vacuum-size=200M`"));
    }
    found
}

fn clock(checkup: &Checkup) -> Option<Problem> {
    let fix = "`systemctl enable --now systemd-timesyncd` (or chrony), and see `timedatectl timesync-status`";
    match checkup.clock_synchronised {
        Some(true) | None => None,
        // A container cannot set the clock, which is its machine's.
        Some(false) if checkup.in_container => {
            let what =
                "the clock is not synchronised, and belongs to the machine that this container runs on";
            Some(Problem::note("clock", what, format!("on that machine: {fix}")))
        }
        Some(false) => {
            let what = "the clock is not synchronised: certificates, logins and the history depend on it";
            Some(Problem::host("clock", what, fix))
        }
    }
}

fn programs(checkup: &Checkup) -> Option<Problem> {
    let absent = checkup.absent.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" and ");
    let what = format!(
        "{absent} cannot be found: requests to a container that starts may hang, and `calls` need addresses"
    );
    let fix = "install the package iproute2 (Debian, Ubuntu) or iproute (RHEL, Amazon Linux)";
    (!absent.is_empty()).then(|| Problem::host("iproute", what, fix))
}

/// Without these settings a site works, but loses requests at each restart of docker, for example by an
/// upgrade of its package.
fn docker(checkup: &Checkup) -> Vec<Problem> {
    let Some(dockerd) = checkup.dockerd else { return Vec::new() };
    let mut found = Vec::new();
    if !dockerd.journald {
        let what = "docker has no log driver `journald`: no container of the site can start";
        found.push(Problem::host("docker_journald", what, "install a docker that is built with it"));
    }
    if !dockerd.live_restore {
        let what = "a restart of docker stops every container: for some seconds the site is down";
        let fix = "write `\"live-restore\": true` into /etc/docker/daemon.json, then `systemctl reload docker`, which \
                   touches no container";
        found.push(Problem::note("docker_live_restore", what, fix));
    }
    if dockerd.userland_proxy {
        let what = "requests pass docker-proxy, which a restart of docker ends: what it carries is cut";
        let fix = "write `\"userland-proxy\": false` into /etc/docker/daemon.json, then `systemctl restart docker`, with \
                   live-restore in force";
        found.push(Problem::note("docker_userland_proxy", what, fix));
    }
    found
}

fn proxy(inputs: &Inputs<'_>, checkup: &Checkup) -> Vec<Problem> {
    let mut found = Vec::from_iter(checks::caddy(inputs));
    match &inputs.observed.caddy {
        Some(seen) if seen.version.is_some_and(|version| version < caddy::PASSIVE_HEALTH) => {
            let (major, minor) = caddy::PASSIVE_HEALTH;
            let what = format!(
                "Caddy is older than {major}.{minor}: no passive health checks, so an instance that dies is noticed \
                 only by the next active one"
            );
            let fix = match &inputs.config.caddy.image {
                OwnImage::Tracked(_) => "`astra-agent caddy-upgrade`",
                OwnImage::Pinned(_) => {
                    "write a newer [caddy] image into agent.toml, then `astra-agent caddy-upgrade`"
                }
            };
            found.push(Problem::host("caddy_version", what, fix));
        }
        _ => {}
    }
    let runs = inputs.observed.caddy.as_ref().and_then(|caddy| caddy.runs.as_ref());
    if runs.is_some_and(|runs| runs.caddyfile.is_none()) {
        let what =
            format!("Caddy does not serve by {CADDYFILE}: another config was loaded, or a load was cut off");
        let fix = "`astra-agent reconcile` loads it, which cuts WebSockets";
        found.push(Problem::host("caddy", what, fix));
    }
    if let Some(address) = &checkup.admin_tcp {
        let what = format!(
            "an admin endpoint of Caddy answers on {address}: every user of this host can change the site"
        );
        let fix = "find it with `ss -tlnp sport = :2019`; write `admin off` into its Caddyfile, or end it";
        found.push(Problem::host("admin_tcp", what, fix));
    }
    found
}

fn registry(checkup: &Checkup) -> Vec<Problem> {
    let mut found: Vec<Problem> = Vec::new();
    for problem in checkup.images.values().flat_map(|asked| about(asked, checkup.now)) {
        // Two services of one registry share its login.
        if !found.iter().any(|known| known.what == problem.what) {
            found.push(problem);
        }
    }
    found
}

fn about(asked: &ImageAsked, now: u64) -> Vec<Problem> {
    let mut found = Vec::new();
    let registry = asked.repository.registry();
    let renew = format!("renew the login: `podman login --authfile {AUTH_FILE} {registry}`");
    if let Some(why) = &asked.bad_login {
        found.push(Problem::host("login", why.clone(), renew.clone()));
    }
    if let Some(expiry) = asked.login {
        let life = expiry.since.map(|since| expiry.at.saturating_sub(since));
        let soon = match life {
            // Credentials that expire within hours are renewed automatically.
            Some(life) if life <= 2 * DAY => 3600.min(life / 4),
            _ => 3 * DAY,
        };
        let left = expiry.at.saturating_sub(now);
        if expiry.at <= now {
            let hours = (now - expiry.at) / 3600;
            let what = format!("the login for {registry} in {AUTH_FILE} expired {hours} hours ago");
            found.push(Problem::host("login", what, renew.clone()));
        } else if left < soon {
            let what = format!("the login for {registry} in {AUTH_FILE} expires in {} minutes", left / 60);
            found.push(Problem::host("login", what, renew.clone()));
        }
    }
    if let Some(Err(why)) = &asked.resolved {
        let fix = if why.contains("login rejected") || why.contains("not found") {
            renew
        } else {
            format!(
                "`curl -sI https://{registry}/v2/`: what runs keeps running, and `rollback` needs no registry"
            )
        };
        found.push(Problem::host("registry", why.clone(), fix));
    }
    found
}
