//! Rules across the services and the proxy: ports and routes that exclude each other. Called by load.rs.

use std::ops::RangeInclusive;

use super::error::{Problems, Show, Span, ValueError};
use super::read::Reader;
use super::tree::{Table, Tree};
use super::{Caddy, Route, Service, Web};
use crate::model::envfile::service_keys;
use crate::model::name::HEALTH_PORT;

/// Every instance, spares included, needs its own port, which Caddy must not use.
pub(super) fn ports(tree: &Tree<'_>, services: &[&Service], caddy: &Caddy, problems: &mut Problems<'_>) {
    let mut known: Vec<(&Service, RangeInclusive<u16>)> = Vec::new();
    for (service, web) in services.iter().filter_map(|service| Some((*service, service.web()?))) {
        let table = table(tree, service);
        let mut r = Reader { table: &table, problems };
        let Some(range) = range(&mut r, service, web) else { continue };
        if let Some(port) =
            [caddy.http_port, caddy.https_port, HEALTH_PORT].into_iter().find(|port| range.contains(port))
        {
            let who = if port == HEALTH_PORT { "Caddy's health checks use" } else { "Caddy serves" };
            let message = format!("port {port} of {} is taken: {who} it", holder(service, web, port));
            r.fault("base_port", ValueError::new(message).help("choose another base_port"));
        }
        let shared = |(_, other): &&(&Service, RangeInclusive<u16>)| {
            other.start() <= range.end() && range.start() <= other.end()
        };
        if let Some((other, taken)) = known.iter().find(shared) {
            let port = range.start().max(taken.start());
            let message = format!("port {port} belongs to the service {} as well", other.name);
            r.fault("base_port", ValueError::new(message).help("choose another base_port"));
        }
        known.push((service, range));
    }
}

/// The instance with this port, in words.
fn holder(service: &Service, web: &Web, port: u16) -> String {
    match port - web.base_port {
        n if n > service.instances => "the spare of a surge deploy".to_owned(),
        n => format!("instance {n}"),
    }
}

/// The ports of a service.
fn range(r: &mut Reader<'_, '_, '_>, service: &Service, web: &Web) -> Option<RangeInclusive<u16>> {
    let count = service.most();
    if count > 254 {
        let message = "`instances` may be 253 at most with surge, whose spare is one more";
        r.fault("instances", ValueError::new(message));
        return None;
    }
    let Some(last) = web.base_port.checked_add(count) else {
        let message = format!("the {count} ports above {} go past 65535", web.base_port);
        r.fault("base_port", ValueError::new(message).help(format!("at most {}", u16::MAX - count)));
        return None;
    };
    Some(web.base_port + 1..=last)
}

/// The table of a service.
pub(super) fn table<'a>(tree: &Tree<'a>, service: &Service) -> Table<'a> {
    let mut others = tree.services().filter(|(name, _)| *name == service.name.as_str());
    others.next().map_or_else(|| tree.table("app"), |(_, tables)| tables.own)
}

/// The lines of a service in the env file are the agent's own.
pub(super) fn variables(tree: &Tree<'_>, services: &[&Service], problems: &mut Problems<'_>) {
    let env = tree.table("env");
    for service in services.iter().filter(|service| !service.name.is_app()) {
        for key in service_keys(service.name) {
            let Some(node) = env.nodes.get(key.as_str()) else { continue };
            let fault =
                ValueError::new(format!("`{key}` is the agent's own line for [services.{}]", service.name));
            problems.add(
                &node.key,
                node.show(),
                fault.help("give the service another name, or the variable"),
            );
        }
    }
}

/// Each route leads to one service, by names of the site.
pub(super) fn routes(
    tree: &Tree<'_>,
    services: &[&Service],
    app_route: Option<&Route>,
    caddy: &Caddy,
    problems: &mut Problems<'_>,
) {
    let routes: Vec<(&Service, &Route)> =
        services.iter().filter_map(|service| Some((*service, route_of(service, app_route)?))).collect();
    for (nth, (service, route)) in routes.iter().enumerate() {
        let Some(span) = place(tree, service) else { continue };
        if app_route.is_none() && route.path.is_empty() && route.hosts.is_empty() {
            let fault = ValueError::new(format!(
                "[services.{}] takes every request, and [app] gets none",
                service.name
            ));
            problems.add(&span, Show::Line, fault.help("write `[app.route]`, and `path = \"/…\"` below it"));
        }
        let show = Show::Line;
        let unknown = route.hosts.iter().find(|host| !caddy.hosts.is_empty() && !caddy.hosts.contains(host));
        if let Some(host) = unknown {
            let fault = ValueError::new(format!("`{host}` is no name of the site"));
            problems.add(&span, show, fault.help("add it to `hosts` in [caddy]"));
        }
        let common = |other: &Route| {
            let both_any = other.hosts.is_empty() && route.hosts.is_empty();
            both_any || other.hosts.iter().any(|host| route.hosts.contains(host))
        };
        let same = |(_, other): &&(&Service, &Route)| other.path == route.path && common(other);
        if let Some((other, _)) = routes.iter().take(nth).find(same) {
            let fault =
                ValueError::new(format!("the route of {} is that of {} as well", service.name, other.name));
            problems.add(&span, show, fault.help("one request goes to one service"));
        }
    }
}

fn route_of<'s>(service: &'s Service, app_route: Option<&'s Route>) -> Option<&'s Route> {
    service.web()?.route.as_ref().or(app_route.filter(|_| service.name.is_app()))
}

fn place(tree: &Tree<'_>, service: &Service) -> Option<Span> {
    if service.name.is_app() {
        return tree.table("app.route").given;
    }
    let (_, tables) = tree.services().find(|(name, _)| *name == service.name.as_str())?;
    tables.route.given.or(tables.own.given)
}
