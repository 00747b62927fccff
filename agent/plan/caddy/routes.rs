//! The parts of the Caddyfile that repeat for each service and instance: routes, upstreams, drain routes, health
//! sites.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::Ipv4Addr;

use crate::config::{Route, Service, Web};
use crate::model::instance::{InstanceId, InstanceName, ServiceName};
use crate::model::name::HEALTH_PORT;
use crate::plan::files::Listens;

use super::quote;

/// Up to this many instances, each has its own drain route. With more, one half serves while an instance of
/// the other half is drained: a route for each would make the file grow with the square of the count.
const SINGLE_ROUTES: usize = 32;

/// Since this version Caddy counts failed health checks.
const HEALTH_FAILS: (u32, u32) = (2, 8);

/// A web service, and the port of each of its instances.
pub(super) struct Upstreams<'a> {
    pub service: &'a Service,
    pub web: &'a Web,
    pub ports: BTreeMap<InstanceId, u16>,
}

impl<'a> Upstreams<'a> {
    /// `None`: the service is a worker, or not committed yet.
    pub fn of(service: &'a Service, listens: &Listens) -> Option<Self> {
        let own = listens.iter().filter(|(id, _)| id.service == service.name);
        let ports: BTreeMap<_, _> = own.map(|(id, port)| (id.number, *port)).collect();
        let web = service.web().filter(|_| !ports.is_empty())?;
        Some(Self { service, web, ports })
    }

    fn name(&self) -> ServiceName {
        self.service.name
    }

    fn port(&self, id: InstanceId) -> u16 {
        self.ports.get(&id).copied().unwrap_or_default()
    }

    /// Address of an instance for requests, like [`crate::model::step::Target::upstream`].
    fn plain(&self, id: InstanceId) -> String {
        format!("{}:{}", id.address(), self.port(id))
    }

    /// The same address for streams, like [`crate::model::step::Target::stream_upstream`].
    fn stream(&self, id: InstanceId) -> String {
        format!("[::ffff:{}]:{}", id.address(), self.port(id))
    }

    fn instance(&self, number: InstanceId) -> InstanceName {
        InstanceName { service: self.name(), number }
    }
}

pub(super) fn health_site_address(id: InstanceId) -> String {
    format!("{}:{HEALTH_PORT}", id.address())
}

/// Requests other than streams: neither WebSockets, in HTTP/1.1 and by extended CONNECT (RFC 8441), nor event
/// streams. (Several `not` are joined by AND.)
pub(super) fn plain_matcher() -> &'static str {
    "@plain {\n\tnot header Upgrade websocket\n\tnot method CONNECT\n\tnot header Accept text/event-stream*\n}"
}

/// The part of the site for one service: its requests go to all its instances, or around the drained ones.
pub(super) fn route(version: (u32, u32), of: &Upstreams<'_>, app: Option<&Route>) -> String {
    let name = of.name();
    let private = private(name, &of.web.path);
    let inner = format!("{private}route @working {{\n\timport drained_{name}\n}}\n{}", proxies(version, of));
    matched(name, of.web, app, &inner)
}

/// The same for a service that is paused. A bare `error` would come before the routes of all other services.
pub(super) fn paused(service: &Service, web: &Web, app: Option<&Route>) -> String {
    let text = if web.route.is_some() { "error 503\n" } else { "route {\n\terror 503\n}\n" };
    matched(service.name, web, app, text)
}

/// The longer path first, then names before any name.
pub(super) fn rank(route: &Route) -> impl Ord + use<> {
    (Reverse(route.path.len()), route.hosts.is_empty())
}

/// The conditions of a route, one a line; none for all requests.
fn conditions(route: &Route) -> String {
    let mut lines = String::new();
    if !route.hosts.is_empty() {
        let hosts = route.hosts.iter().map(|h| quote(h)).collect::<Vec<_>>().join(" ");
        let _ = writeln!(lines, "\thost {hosts}");
    }
    if !route.path.is_empty() {
        let _ = writeln!(lines, "\tpath {} {}", quote(&route.path), quote(&format!("{}/*", route.path)));
    }
    lines
}

/// `inner` for the requests of a service, without those that go to the app by a more specific route.
fn matched(name: ServiceName, web: &Web, app: Option<&Route>, inner: &str) -> String {
    let Some(route) = &web.route else { return inner.to_owned() };
    let mut matcher = conditions(route);
    if let Some(app) = app.filter(|app| rank(app) < rank(route)) {
        let _ = writeln!(matcher, "\tnot {{\n{}\t}}", indent(&conditions(app)));
    }
    if matcher.is_empty() {
        matcher.push_str("\tpath *\n");
    }
    let strip = match route.strip_prefix && !route.path.is_empty() {
        true => format!("uri strip_prefix {}\n", quote(&route.path)),
        false => String::new(),
    };
    format!("@route_{name} {{\n{matcher}}}\nroute @route_{name} {{\n{}}}\n", indent(&(strip + inner)))
}

/// Blocks the readiness path for other hosts, because its answer may hold internal details. A readiness path
/// that is the front page is public.
fn private(name: ServiceName, ready: &str) -> String {
    let path = ready.split('?').next().unwrap_or_default().trim_end_matches('/');
    if path.is_empty() {
        return String::new();
    }
    let paths = format!("{} {}", quote(path), quote(&format!("{path}/")));
    // Both conditions: the connection comes from this host, and no proxy on it names another client.
    let host = "127.0.0.0/8 ::1";
    format!(
        "@private_{name} {{\n\tpath {paths}\n\tnot {{\n\t\tremote_ip {host}\n\t\tclient_ip {host}\n\t}}\n}}\n\
         route @private_{name} {{\n\trespond 404\n}}\n"
    )
}

/// The proxies of a service over all instances, with health checks.
pub(super) fn proxies(version: (u32, u32), of: &Upstreams<'_>) -> String {
    let (name, interval) = (of.name(), of.web.interval);
    let all: Vec<_> = of.ports.keys().copied().collect();
    // Streams are few, and clients reopen a stream that hits a hung instance, so they are checked less often.
    // A starting Caddy checks before its own listeners are up, so one failure does not count.
    let fails = if version >= HEALTH_FAILS { "\thealth_fails 2\n" } else { "" };
    let plain = join(&all, |id| of.plain(id));
    let streams = join(&all, |id| of.stream(id));
    let checks = [
        ("@plain ", plain, "proxy", interval, ""),
        ("", streams, "streams", super::streams_interval(of.web), fails),
    ];
    let mut text = String::new();
    for (matcher, to, import, interval, fails) in checks {
        let _ = writeln!(
            text,
            "reverse_proxy {matcher}{to} {{\n\timport {import}_{name}\n\timport checks_{name} {}\n{fails}}}",
            super::time(interval)
        );
    }
    text
}

/// The routes around drained instances: for exactly one drained group, and for any other combination. They
/// have no health checks: they are only used while the agent works, which has seen the others ready.
pub(super) fn drained(of: &Upstreams<'_>) -> String {
    let all: Vec<InstanceId> = of.ports.keys().copied().collect();
    let size = if all.len() <= SINGLE_ROUTES { 1 } else { all.len().div_ceil(2) };
    let groups: Vec<&[InstanceId]> = all.chunks(size).collect();
    let mut text = String::new();
    for (nth, group) in groups.iter().enumerate() {
        let _ = writeln!(text, "{}", marker(of, &format!("drained_{}", nth + 1), group));
    }
    for (nth, group) in groups.iter().enumerate() {
        let others: Vec<_> = all.iter().copied().filter(|id| !group.contains(id)).collect();
        let behind: Vec<_> = groups.iter().skip(nth + 1).flat_map(|g| g.iter().copied()).collect();
        let mut inner = String::new();
        if !behind.is_empty() {
            let more = format!("more_{}", nth + 1);
            let _ = writeln!(inner, "{}", marker(of, &more, &behind));
            let _ = writeln!(inner, "handle @{more} {{\n{}}}", indent(&first_undrained(of, &all)));
        } else if groups.len() == 1 {
            inner = "error 503\n".to_owned();
        }
        if !others.is_empty() {
            inner.push_str(&to(of, &others));
        }
        let _ = writeln!(text, "handle @drained_{} {{\n{}}}", nth + 1, indent(&inner));
    }
    text
}

/// If more than one group is drained: the first undrained instance serves alone. If there is none, the
/// request fails at once.
fn first_undrained(of: &Upstreams<'_>, all: &[InstanceId]) -> String {
    let mut text = String::new();
    for id in all {
        let file = of.instance(*id);
        let _ = writeln!(text, "@up_{id} not file {{\n\troot {}\n\ttry_files /{file}\n}}", super::DRAIN_DIR);
    }
    for id in all {
        let _ = writeln!(text, "handle @up_{id} {{\n{}}}", indent(&to(of, &[*id])));
    }
    text.push_str("error 503\n");
    text
}

fn to(of: &Upstreams<'_>, ids: &[InstanceId]) -> String {
    let (streams, plain) = (join(ids, |id| of.stream(id)), join(ids, |id| of.plain(id)));
    let name = of.name();
    format!(
        "reverse_proxy @plain {plain} {{\n\timport proxy_{name}\n}}\nreverse_proxy {streams} {{\n\timport streams_{name}\n}}\n"
    )
}

fn marker(of: &Upstreams<'_>, name: &str, ids: &[InstanceId]) -> String {
    let files = join(ids, |id| format!("/{}", of.instance(id)));
    format!("@{name} file {{\n\troot {}\n\ttry_files {files}\n}}", super::DRAIN_DIR)
}

/// The name of a server whose metrics are not those of the site.
pub(super) fn health_server(address: &Ipv4Addr, name: &str, own_metrics: bool) -> String {
    let metrics = if own_metrics { "\tmetrics\n" } else { "" };
    format!("servers {address}:{HEALTH_PORT} {{\n\tname health-{name}\n{metrics}}}")
}

/// A site for each loopback address: the health routes of the instances with this number.
pub(super) fn health_sites(numbers: &BTreeSet<InstanceId>, services: &[&Upstreams<'_>]) -> String {
    let site = |id: &InstanceId| {
        let mut inner = format!("import health_site {}\n", id.address());
        let there = services.iter().filter(|of| of.ports.contains_key(id));
        for of in there.rev() {
            inner.push_str(&health_route(of, *id));
        }
        // A health check of a stream's upstream has the IPv6 form in its Host header.
        let mapped = format!("http://[::ffff:{}]:{HEALTH_PORT}", id.address());
        format!("http://{}, {mapped} {{\n{}}}", health_site_address(*id), indent(&inner))
    };
    numbers.iter().map(site).collect::<Vec<_>>().join("\n")
}

fn health_route(of: &Upstreams<'_>, id: InstanceId) -> String {
    let import = format!("import health_{} /{} {}\n", of.name(), of.instance(id), of.plain(id));
    let path = of.name().health_path();
    match path.is_empty() {
        true => format!("handle {{\n{}}}\n", indent(&import)),
        false => format!("handle {path}/* {{\n\turi strip_prefix {path}\n{}}}\n", indent(&import)),
    }
}

fn join(ids: &[InstanceId], text: impl Fn(InstanceId) -> String) -> String {
    ids.iter().map(|id| text(*id)).collect::<Vec<_>>().join(" ")
}

pub(super) fn indent(text: &str) -> String {
    text.lines().map(|line| format!("\t{line}\n")).collect()
}
