//! The parts of the Caddyfile that repeat for each instance: upstreams, drain routes, health sites, the door
//! (the load balancer's health path).

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::config::Config;
use crate::model::name::{HEALTH_PORT, InstanceId};

use super::quote;

/// Up to this many instances, each has its own drain route. With more, one half serves while an instance of
/// the other half is drained: a route for each would make the file grow with the square of the count.
const SINGLE_ROUTES: usize = 32;

/// Since this version Caddy counts failed health checks.
const HEALTH_FAILS: (u32, u32) = (2, 8);

/// The port of each instance.
pub(super) type Listens = BTreeMap<InstanceId, u16>;

/// Address of an instance for requests, like [`crate::model::step::Target::upstream`].
fn plain(listens: &Listens, id: InstanceId) -> String {
    format!("{}:{}", id.address(), listens.get(&id).copied().unwrap_or_default())
}

/// The same address for streams, like [`crate::model::step::Target::stream_upstream`].
fn stream(listens: &Listens, id: InstanceId) -> String {
    format!("[::ffff:{}]:{}", id.address(), listens.get(&id).copied().unwrap_or_default())
}

fn health_site_address(id: InstanceId) -> String {
    format!("{}:{HEALTH_PORT}", id.address())
}

/// Requests other than streams: neither WebSockets, in HTTP/1.1 and by extended CONNECT (RFC 8441), nor event
/// streams. (Several `not` are joined by AND.)
pub(super) fn plain_matcher() -> &'static str {
    "@plain {\n\tnot header Upgrade websocket\n\tnot method CONNECT\n\tnot header Accept text/event-stream*\n}"
}

/// The site's proxies over all instances, with health checks.
pub(super) fn proxies(config: &Config, version: (u32, u32), listens: &Listens) -> String {
    let all: Vec<_> = listens.keys().copied().collect();
    let interval = config.app.readiness.interval;
    // Streams are few, and clients reopen a stream that hits a hung instance, so they are checked less often.
    // A starting Caddy checks before its own listeners are up, so one failure does not count.
    let fails = if version >= HEALTH_FAILS { "\thealth_fails 2\n" } else { "" };
    let checks = [("@plain ", "proxy", interval, ""), ("", "streams", interval * 3, fails)];
    let address: [fn(&Listens, InstanceId) -> String; 2] = [plain, stream];
    let mut text = String::new();
    for ((matcher, import, interval, fails), address) in checks.into_iter().zip(address) {
        let to = join(&all, |id| address(listens, id));
        let _ = writeln!(
            text,
            "reverse_proxy {matcher}{to} {{\n\timport {import}\n\timport checks {}\n{fails}}}",
            super::time(interval)
        );
    }
    text
}

/// The routes around drained instances: for exactly one drained group, and for any other combination. They
/// have no health checks: they are only used while the agent works, which has seen the others ready.
pub(super) fn drained(listens: &Listens) -> String {
    let all: Vec<InstanceId> = listens.keys().copied().collect();
    let size = if all.len() <= SINGLE_ROUTES { 1 } else { all.len().div_ceil(2) };
    let groups: Vec<&[InstanceId]> = all.chunks(size).collect();
    let mut text = String::new();
    for (nth, group) in groups.iter().enumerate() {
        let _ = writeln!(text, "{}", marker(&format!("drained_{}", nth + 1), group));
    }
    for (nth, group) in groups.iter().enumerate() {
        let others: Vec<_> = all.iter().copied().filter(|id| !group.contains(id)).collect();
        let behind: Vec<_> = groups.iter().skip(nth + 1).flat_map(|g| g.iter().copied()).collect();
        let mut inner = String::new();
        if !behind.is_empty() {
            let more = format!("more_{}", nth + 1);
            let _ = writeln!(inner, "{}", marker(&more, &behind));
            let _ = writeln!(inner, "handle @{more} {{\n{}}}", indent(&first_undrained(listens, &all)));
        } else if groups.len() == 1 {
            inner = "error 503\n".to_owned();
        }
        if !others.is_empty() {
            inner.push_str(&to(listens, &others));
        }
        let _ = writeln!(text, "handle @drained_{} {{\n{}}}", nth + 1, indent(&inner));
    }
    text
}

/// If more than one group is drained: the first undrained instance serves alone. If there is none, the
/// request fails at once.
fn first_undrained(listens: &Listens, all: &[InstanceId]) -> String {
    let mut text = String::new();
    for id in all {
        let _ = writeln!(text, "@up_{id} not file {{\n\troot {}\n\ttry_files /{id}\n}}", super::DRAIN_DIR);
    }
    for id in all {
        let _ = writeln!(text, "handle @up_{id} {{\n{}}}", indent(&to(listens, &[*id])));
    }
    text.push_str("error 503\n");
    text
}

fn to(listens: &Listens, ids: &[InstanceId]) -> String {
    let streams = join(ids, |id| stream(listens, id));
    let plain = join(ids, |id| plain(listens, id));
    format!(
        "reverse_proxy @plain {plain} {{\n\timport proxy\n}}\nreverse_proxy {streams} {{\n\timport streams\n}}\n"
    )
}

fn marker(name: &str, ids: &[InstanceId]) -> String {
    let files = join(ids, |id| format!("/{id}"));
    format!("@{name} file {{\n\troot {}\n\ttry_files {files}\n}}", super::DRAIN_DIR)
}

/// The name of an instance's health server, and its site.
pub(super) fn health_server(id: InstanceId, own_metrics: bool) -> String {
    let metrics = if own_metrics { "\tmetrics\n" } else { "" };
    format!("servers {} {{\n\tname health-{id}\n{metrics}}}", health_site_address(id))
}

pub(super) fn health_site(listens: &Listens, id: InstanceId) -> String {
    let import = format!("import health {} /{id} {}", id.address(), plain(listens, id));
    // A health check of a stream's upstream has the IPv6 form in its Host header.
    let mapped = format!("http://[::ffff:{}]:{HEALTH_PORT}", id.address());
    format!("http://{}, {mapped} {{\n\t{import}\n}}", health_site_address(id))
}

/// The load balancer's health path: asks one instance after another until one is ready.
pub(super) fn door(path: &str, listens: &Listens) -> String {
    let mut chain = "respond \"no instance is ready\" 503\n".to_owned();
    for id in listens.keys().rev() {
        chain = format!(
            "reverse_proxy {} {{\n\theader_up Host {{upstream_hostport}}\n\t@unready status 3xx 4xx 5xx\n\thandle_response @unready {{\n{}\t}}\n\t\
             handle_response {{\n\t\trespond \"ok\" 200\n\t}}\n}}\n",
            health_site_address(*id),
            indent(&indent(&chain)),
        );
    }
    format!("handle {} {{\n\trewrite * /serves\n{}}}\n", quote(path), indent(&chain))
}

fn join(ids: &[InstanceId], text: impl Fn(InstanceId) -> String) -> String {
    ids.iter().map(|id| text(*id)).collect::<Vec<_>>().join(" ")
}

fn indent(text: &str) -> String {
    text.lines().map(|line| format!("\t{line}\n")).collect()
}
