//! The Caddyfile and caddy.env. Called by files.rs; converge.rs asks which image caddy.env names.
//!
//! The text depends on the config, on where the instances listen and on the version of Caddy alone, so that an
//! unchanged config is never loaded again: a load cuts WebSockets.

use std::collections::BTreeMap;

use crate::config::{Config, Tls};
use crate::model::image::PinnedImage;
use crate::model::name::{CADDY_SOCKET, DRAIN_DIR, HEALTH_PORT, InstanceId};
use crate::model::observed::CaddySeen;

use super::units::text::filled;

/// From here on `metrics` is an option of the whole process, not of each server.
const GLOBAL_METRICS: (u32, u32) = (2, 9);
/// Below it passive health checks turn one failed dial of a POST into an outage.
pub const PASSIVE_HEALTH: (u32, u32) = (2, 11);
/// What stands before the version in the first line.
const WRITTEN_FOR: &str = "for Caddy ";

/// The Caddyfile for Caddy `version` (major, minor) in front of instances that listen at these ports. What is
/// written for an old Caddy, every younger one reads as well.
pub fn caddyfile(config: &Config, version: (u32, u32), listens: &BTreeMap<InstanceId, u16>) -> String {
    let version = version.max(CaddySeen::OLDEST);
    let global = version >= GLOBAL_METRICS;
    let server_metrics = if global { "" } else { "metrics" };
    let ids = || listens.keys().copied();
    let upstream =
        |id: InstanceId| format!("{}:{}", id.address(), listens.get(&id).copied().unwrap_or_default());
    let own = |id: InstanceId| format!("{}:{HEALTH_PORT}", id.address());
    let join = |lines: Vec<String>, with: &str| lines.join(with);
    let health_server = |id: InstanceId| {
        let mut lines = vec![format!("servers {} {{", own(id)), format!("\tname health-{id}")];
        lines.extend((!global).then(|| "\tmetrics".to_owned()));
        lines.push("}".to_owned());
        lines.join("\n")
    };
    let health_site = |id: InstanceId| {
        let import = format!("import health {} /{id} {}", id.address(), upstream(id));
        format!("http://{} {{\n\t{import}\n}}", own(id))
    };
    let app_server =
        [server_metrics.to_owned(), proxies(config)].into_iter().filter(|l| !l.is_empty()).collect();
    let ready = &config.app.readiness.path;
    let (listener, site) = site(config);
    filled(
        include_str!("../../caddy/Caddyfile"),
        &[
            ("version", &format!("{}.{}", version.0, version.1)),
            ("admin_socket", CADDY_SOCKET),
            ("metrics_global", if global { "metrics" } else { "" }),
            ("listener", listener),
            ("app_server", &join(app_server, "\n")),
            ("health_servers", &join(ids().map(health_server).collect(), "\n")),
            ("drain_dir", DRAIN_DIR),
            ("ready_path", &quote(ready)),
            ("ready_host", &quote(&ready_host(config))),
            ("health_sites", &join(ids().map(health_site).collect(), "\n")),
            ("site", &site),
            ("tls", if config.caddy.tls == Tls::Internal { "tls internal" } else { "" }),
            ("private", &private(ready)),
            ("blocked", &blocked(config)),
            ("upstreams", &join(ids().map(upstream).collect(), " ")),
            ("passive_health", if version >= PASSIVE_HEALTH { "fail_duration 2s" } else { "" }),
            ("health_port", &HEALTH_PORT.to_string()),
            ("page", include_str!("../../caddy/503.html").trim_end()),
            ("extra", &config.caddy.extra),
        ],
    )
}

/// caddy.env: which image Caddy runs.
pub fn env(image: &PinnedImage) -> String {
    filled(include_str!("../../caddy/caddy.env"), &[("image", &image.to_string())])
}

/// The image that a caddy.env names.
pub fn image(text: &str) -> Option<PinnedImage> {
    let mut lines = text.lines().filter_map(|l| l.strip_prefix("CADDY_IMAGE="));
    lines.next_back()?.trim().parse().ok()
}

/// The version that a Caddyfile of ours was written for.
pub fn written_for(text: &str) -> Option<(u32, u32)> {
    let (_, after) = text.lines().next()?.split_once(WRITTEN_FOR)?;
    let (major, after) = after.split_once('.')?;
    let minor = after.split(|c: char| !c.is_ascii_digit()).next()?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// The port that the site is served on, and the site's addresses.
fn site(config: &Config) -> (&'static str, String) {
    let hosts: Vec<String> = config.caddy.hosts.iter().map(|h| quote(h)).collect();
    match config.caddy.tls {
        _ if hosts.is_empty() => (":80", ":80".to_owned()),
        Tls::Off => (":80", hosts.iter().map(|h| format!("http://{h}")).collect::<Vec<_>>().join(", ")),
        Tls::Acme | Tls::Internal => (":443", hosts.join(", ")),
    }
}

/// The `Host` of a readiness request, the same as the agent's own probe has: an app that checks it knows the
/// first name of the site, and any knows localhost.
fn ready_host(config: &Config) -> String {
    config.caddy.hosts.first().map_or("localhost", String::as_str).to_owned()
}

fn proxies(config: &Config) -> String {
    let nets: Vec<String> = config.caddy.trusted_proxies.iter().map(|n| quote(n)).collect();
    if nets.is_empty() { String::new() } else { format!("trusted_proxies static {}", nets.join(" ")) }
}

/// Readiness tells more than strangers should know; nobody but the host itself may ask. A readiness path that is
/// the front page is nobody's secret.
fn private(ready: &str) -> String {
    let path = ready.split('?').next().unwrap_or_default().trim_end_matches('/');
    if path.is_empty() {
        return String::new();
    }
    let paths = format!("{} {}", quote(path), quote(&format!("{path}/")));
    format!("@private {{\n\tpath {paths}\n\tnot client_ip 127.0.0.0/8 ::1\n}}\nrespond @private 404")
}

fn blocked(config: &Config) -> String {
    let paths: Vec<String> = config.caddy.block.iter().map(|p| quote(p)).collect();
    match paths.is_empty() {
        true => String::new(),
        false => format!("@blocked path {}\nrespond @blocked 404", paths.join(" ")),
    }
}

/// One word of a Caddyfile. Backquoted text is taken as it is, but for placeholders; what cannot stand in it
/// becomes `?`, which a path takes as "any character": more is blocked than was asked for, never less.
fn quote(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:*~%+=&?@".contains(c);
    if !text.is_empty() && text.chars().all(plain) && !text.starts_with('@') {
        return text.to_owned();
    }
    let safe = |c: char| if c.is_control() || "`{}".contains(c) { '?' } else { c };
    format!("`{}`", text.chars().map(safe).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_cannot_leave_their_place() {
        assert_eq!(quote("/.git/config"), "/.git/config");
        assert_eq!(quote("/a b\"c\\"), "`/a b\"c\\`");
        assert_eq!(quote("/x`{$HOME}\n{"), "`/x??$HOME???`");
        assert_eq!(quote(""), "``");
        assert_eq!(quote("@named"), "`@named`");
    }

    #[test]
    fn the_page_can_be_embedded() {
        let page = include_str!("../../caddy/503.html");
        assert!(!page.contains(['`', '{', '}']), "backquotes and placeholders end or change it");
        for asset in ["http:", "https:", "src=", "href=", "url(", "@import"] {
            assert!(!page.contains(asset), "{asset}");
        }
    }

    #[test]
    fn the_image_and_the_version_are_read_back() {
        let text = format!("ghcr.io/a/caddy@sha256:{}", "ab".repeat(32));
        let pinned: PinnedImage = text.parse().unwrap();
        assert_eq!(image(&env(&pinned)), Some(pinned));
        assert_eq!(image("CADDY_IMAGE=caddy:2\n"), None);
        assert_eq!(image(""), None);
        assert_eq!(written_for("# Written by astra-agent for Caddy 2.11: edits"), Some((2, 11)));
        assert_eq!(written_for("# by hand\n# for Caddy 2.11"), None);
    }
}
