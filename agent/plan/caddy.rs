//! The Caddyfile and caddy.env. Called by files.rs; converge.rs reads the image of caddy.env here.
//!
//! The text depends only on the config, the instances' ports and Caddy's version, so an unchanged config is
//! never loaded again: a load takes 4 s.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;

use crate::config::{Config, Service, Tls, Web};
use crate::model::caddyfile::{LEAVING, own_address};
use crate::model::image::PinnedImage;
use crate::model::instance::{InstanceId, ServiceName};
use crate::model::name::{CADDY_SOCKET, DRAIN_DIR, HEALTH_PORT};
use crate::model::observed::CaddySeen;

use super::calls::Called;
use super::files::Listens;
use super::units::text::filled;

mod door;
mod inside;
mod routes;

use routes::Upstreams;

/// Since this version `metrics` is a global option instead of one a server.
const GLOBAL_METRICS: (u32, u32) = (2, 9);
/// Below this version, passive health checks turn one failed dial of a POST into an outage.
pub const PASSIVE_HEALTH: (u32, u32) = (2, 11);
/// Since this version a forwarded-for header can be read from the right.
const STRICT_PROXIES: (u32, u32) = (2, 8);
/// Added to the health check that lets an instance back into rotation.
const RETRY_MARGIN: Duration = Duration::from_secs(5);
const CHECK_MARGIN: Duration = Duration::from_millis(500);
/// Text before the version in the first line.
const WRITTEN_FOR: &str = "for Caddy ";

/// The Caddyfile for Caddy `version` (major, minor) and instances on these ports. Newer versions of Caddy can
/// read it as well. `None`: Caddy has never run here, and this file is replaced once it tells its version.
pub fn caddyfile(config: &Config, version: Option<(u32, u32)>, listens: &Listens, called: &Called) -> String {
    let text = |own_address| text(config, version, (listens, called), own_address);
    text(own_address(&text(Ipv4Addr::LOCALHOST)))
}

fn text(
    config: &Config,
    version: Option<(u32, u32)>,
    (listens, calls): (&Listens, &Called),
    own_address: Ipv4Addr,
) -> String {
    // The first Caddyfile has no clients to keep, and is replaced at once.
    let shutdown_delay = if version.is_some() { "4s" } else { "0s" };
    let written_for = version.map(|version| version.max(CaddySeen::OLDEST));
    let version = written_for.unwrap_or(CaddySeen::OLDEST);
    let written_for = written_for.map_or("of any version".to_owned(), |(a, b)| format!("{a}.{b}"));
    let global = version >= GLOBAL_METRICS;
    let upstreams: Vec<Upstreams<'_>> =
        config.services().filter_map(|service| Upstreams::of(service, listens)).collect();
    let called = inside::called(config, listens, calls);
    let is_routed = |of: &&Upstreams<'_>| upstreams.iter().any(|known| known.service.name == of.service.name);
    let known: Vec<&Upstreams<'_>> =
        upstreams.iter().chain(called.iter().filter(|of| !is_routed(of))).collect();
    let numbers: BTreeSet<InstanceId> = known.iter().flat_map(|of| of.ports.keys().copied()).collect();
    let (listener, site) = site(config);
    let services = known.iter().map(|of| service(config, version, of, own_address));
    let paused = config.app.instances == 0 && !upstreams.iter().any(|of| of.service.name.is_app());
    let door = config.caddy.health.as_deref();
    let public: Vec<&Upstreams<'_>> = upstreams.iter().filter(|of| is_public(of.service, of.web)).collect();
    let door = door.map(|path| door::door(path, &public, paused, own_address));
    let mut health_servers: Vec<_> =
        numbers.iter().map(|n| routes::health_server(&n.address(), &n.to_string(), !global)).collect();
    health_servers.extend(inside::servers(config, version, calls));
    health_servers.extend(door.as_ref().map(|_| routes::health_server(&own_address, "door", !global)));
    let door = door.unwrap_or_default();
    filled(
        include_str!("../../caddy/Caddyfile"),
        &[
            ("version", &written_for),
            ("shutdown_delay", shutdown_delay),
            ("admin_socket", CADDY_SOCKET),
            ("ports", &ports(config)),
            ("metrics_global", if global { "metrics" } else { "" }),
            ("listener", &listener),
            ("app_server", &app_server(config, version)),
            ("health_servers", &health_servers.join("\n")),
            ("drain_dir", DRAIN_DIR),
            ("health_port", &HEALTH_PORT.to_string()),
            ("services", services.collect::<Vec<_>>().join("\n").trim_end()),
            ("health_sites", &routes::health_sites(&numbers, &known)),
            ("site", &site),
            ("inside", &inside::sites(config, version, calls, &called)),
            ("tls", if config.caddy.tls == Tls::Internal { "tls internal" } else { "" }),
            ("door", &door),
            ("blocked", &blocked(config)),
            ("plain", routes::plain_matcher()),
            ("routes", &site_routes(config, version, &upstreams)),
            ("page", include_str!("../../caddy/503.html").trim_end()),
            ("extra", &config.caddy.extra),
            ("strangers", &strangers(config, &door)),
            ("own_address", &own_address.to_string()),
            ("asked", &config.caddy.health.as_ref().map(|_| door::asked(&public)).unwrap_or_default()),
        ],
    )
}

/// The snippets of one service.
fn service(config: &Config, version: (u32, u32), of: &Upstreams<'_>, own_address: Ipv4Addr) -> String {
    let (web, name) = (of.web, of.service.name);
    let answer = web.answer_timeout;
    filled(
        include_str!("../../caddy/Service"),
        &[
            ("service", name.as_str()),
            ("drain_dir", DRAIN_DIR),
            ("ready_path", &quote(&web.path)),
            ("ready_host", &quote(config.ready_host(web))),
            ("ready_scheme", if config.is_https() { "https" } else { "http" }),
            ("answer_timeout", &time(answer)),
            ("lb_policy", &policy(config, name)),
            // Longer than the time until a restarted instance is back in rotation.
            ("try_duration", &time(web.interval + answer + RETRY_MARGIN)),
            ("stream_try_duration", &time(streams_interval(web) + answer + RETRY_MARGIN)),
            ("passive_health", if version >= PASSIVE_HEALTH { "fail_duration 2s" } else { "" }),
            ("headers_up", &headers_up(config)),
            ("health_path", &name.health_path()),
            ("health_port", &HEALTH_PORT.to_string()),
            // The health route itself answers earlier.
            ("check_timeout", &time(answer + CHECK_MARGIN)),
            ("drained", &routes::drained(of)),
            ("leaving", LEAVING),
            ("own_address", &own_address.to_string()),
        ],
    )
}

/// Time between two health checks of an instance's address for streams.
fn streams_interval(web: &Web) -> Duration {
    web.interval * 2
}

/// Whether visitors reach the service: others of the site may be all that call it.
fn is_public(service: &Service, web: &Web) -> bool {
    service.name.is_app() || web.route.is_some()
}

/// The routes of the site: the longer path first, then names before any name; the app gets the rest.
fn site_routes(config: &Config, version: (u32, u32), upstreams: &[Upstreams<'_>]) -> String {
    let app = config.app_route.as_ref();
    let served = upstreams.iter().filter(|of| is_public(of.service, of.web));
    let served = served.map(|of| (of.web, routes::route(version, of, app)));
    let is_served = |service: &&Service| upstreams.iter().any(|of| of.service.name == service.name);
    let paused = config.paused().filter(|service| !is_served(service));
    let paused = paused.filter_map(|service| Some((service, service.web()?)));
    let paused = paused.filter(|(service, web)| is_public(service, web));
    let paused = paused.map(|(service, web)| (web, routes::paused(service, web, app)));
    let mut routes: Vec<(&Web, String)> = served.chain(paused).collect();
    let rank = |web: &Web| web.route.as_ref().map(routes::rank);
    routes.sort_by_key(|(web, _)| (rank(web).is_none(), rank(web)));
    routes.into_iter().map(|(_, text)| text).collect()
}

/// caddy.env: the image of Caddy.
pub fn env(image: &PinnedImage) -> String {
    filled(include_str!("../../caddy/caddy.env"), &[("image", &image.to_string())])
}

/// The image in a caddy.env.
pub fn image(text: &str) -> Option<PinnedImage> {
    let mut lines = text.lines().filter_map(|l| l.strip_prefix("CADDY_IMAGE="));
    lines.next_back()?.trim().parse().ok()
}

/// The version that a Caddyfile of the agent was written for.
pub fn written_for(text: &str) -> Option<(u32, u32)> {
    let (_, after) = text.lines().next()?.split_once(WRITTEN_FOR)?;
    let (major, after) = after.split_once('.')?;
    let minor = after.split(|c: char| !c.is_ascii_digit()).next()?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// The site's port and addresses.
fn site(config: &Config) -> (String, String) {
    let caddy = &config.caddy;
    let hosts: Vec<String> = caddy.hosts.iter().map(|h| quote(h)).collect();
    let http = format!(":{}", caddy.http_port);
    match caddy.tls {
        _ if hosts.is_empty() => (http.clone(), format!("http://{http}")),
        Tls::Off => (http, hosts.iter().map(|h| format!("http://{h}")).collect::<Vec<_>>().join(", ")),
        Tls::Acme | Tls::Internal => (format!(":{}", caddy.https_port), hosts.join(", ")),
    }
}

/// Answers other host names on the plain HTTP port: a load balancer sends the host's address. Caddy would
/// answer them with an empty 200, which makes a dead host look healthy.
fn strangers(config: &Config, door: &str) -> String {
    if config.caddy.hosts.is_empty() {
        return String::new();
    }
    let door: String = door.lines().map(|line| format!("\t{line}\n")).collect();
    format!("http://:{} {{\n{door}\trespond \"unknown host\" 421\n}}", config.caddy.http_port)
}

fn ports(config: &Config) -> String {
    let ports = [("http_port", config.caddy.http_port, 80), ("https_port", config.caddy.https_port, 443)];
    let other = ports.iter().filter(|(_, port, usual)| port != usual);
    other.map(|(name, port, _)| format!("{name} {port}")).collect::<Vec<_>>().join("\n")
}

fn app_server(config: &Config, version: (u32, u32)) -> String {
    let mut lines = Vec::new();
    if version < GLOBAL_METRICS {
        lines.push("metrics".to_owned());
    }
    let nets: Vec<String> = config.caddy.trusted_proxies.iter().map(|n| quote(n)).collect();
    if !nets.is_empty() {
        lines.push(format!("trusted_proxies static {}", nets.join(" ")));
        if version >= STRICT_PROXIES {
            // The right-most address that is not a trusted proxy's: a client may have forged those to the
            // left of it.
            lines.push("trusted_proxies_strict".to_owned());
        }
    }
    lines.join("\n")
}

fn policy(config: &Config, service: ServiceName) -> String {
    let cookie = if service.is_app() { String::new() } else { format!("_{service}") };
    match config.caddy.sticky {
        true => format!("lb_policy cookie astra_instance{cookie} {{\n\tfallback least_conn\n}}"),
        false => "lb_policy least_conn".to_owned(),
    }
}

/// `{Name}` is replaced by that header of the request; other braces are Caddy's own placeholders.
fn headers_up(config: &Config) -> String {
    let value = |text: &str| {
        let mut parts = text.split('{');
        let mut filled = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let header = part.starts_with(|c: char| c.is_ascii_uppercase());
            filled.push_str(if header { "{http.request.header." } else { "{" });
            filled.push_str(part);
        }
        filled.replace('\\', "\\\\").replace('"', "\\\"")
    };
    let lines =
        config.caddy.headers_up.iter().map(|(name, text)| format!("header_up {name} \"{}\"", value(text)));
    lines.collect::<Vec<_>>().join("\n")
}

/// A duration in Caddy's format.
fn time(time: Duration) -> String {
    match time.subsec_millis() {
        0 => format!("{}s", time.as_secs()),
        _ => format!("{}ms", time.as_millis()),
    }
}

fn blocked(config: &Config) -> String {
    let paths: Vec<String> = config.caddy.block.iter().map(|p| quote(p)).collect();
    match paths.is_empty() {
        true => String::new(),
        false => format!("@blocked path {}\nrespond @blocked 404", paths.join(" ")),
    }
}

/// One word of a Caddyfile, in backquotes, which keep everything but placeholders literal. Characters that
/// cannot be quoted become `?`, which in a path matches any character: that blocks more than was requested,
/// never less.
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
    fn quoted_words_stay_one_word() {
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
        assert_eq!(
            written_for("# Written by astra-agent for Caddy of any version: edits are overwritten. And"),
            None
        );
    }
}
