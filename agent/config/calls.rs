//! `calls`: which web services a service reaches by name, through Caddy. Called by load.rs.

use std::collections::BTreeMap;

use super::across::table;
use super::error::{Problems, Show, ValueError};
use super::read::Reader;
use super::tree::Tree;
use super::{Accessory, Service};
use crate::model::instance::ServiceName;

/// Every name in `calls` is a web service, and every web service gets requests. `services`: those of the release.
pub(super) fn calls(
    tree: &Tree<'_>,
    services: &[&Service],
    accessories: &BTreeMap<ServiceName, Accessory>,
    problems: &mut Problems<'_>,
) {
    let all = services.iter().copied().chain(accessories.values().map(|accessory| &accessory.service));
    for caller in all.clone() {
        for name in &caller.calls {
            let fault = match services.iter().find(|service| service.name == *name) {
                _ if accessories.contains_key(name) => Some(named_already(*name, "an accessory")),
                None => Some(unknown(*name, services)),
                Some(service) if service.web().is_none() => Some(named_already(*name, "a worker")),
                Some(_) => clash(caller, *name, all.clone()),
            };
            if let Some(fault) = fault {
                Reader { table: &table(tree, caller), problems }.fault("calls", fault);
            }
        }
    }
    let is_called = |name| all.clone().any(|caller| caller.calls.contains(&name));
    let lonely = |service: &&&Service| {
        let web = service.web().filter(|web| web.route.is_none());
        web.is_some() && !service.name.is_app() && !is_called(service.name)
    };
    for service in services.iter().filter(lonely) {
        let own = table(tree, service);
        let Some(span) = &own.given else { continue };
        let fault = ValueError::new(format!("no request goes to [{}]", own.title));
        let help = format!(
            "write `[{}.route]`, and `path = \"/…\"` or `hosts = [\"…\"]` below it; or `calls = [\"{}\"]` in the service that calls it",
            own.title, service.name
        );
        problems.add(span, Show::Line, fault.help(help));
    }
}

fn named_already(name: ServiceName, kind: &str) -> ValueError {
    let help = "leave it out: its name is its address on the network `site`";
    ValueError::new(format!("`{name}` is {kind}, which Caddy does not reach")).help(help)
}

fn unknown(name: ServiceName, services: &[&Service]) -> ValueError {
    let web = services.iter().filter(|service| service.web().is_some());
    let names: Vec<_> = web.map(|service| service.name.to_string()).collect();
    ValueError::new(format!("`{name}` is no web service")).help(format!("known: {}", names.join(", ")))
}

/// Another meaning of this name, or another service with its address.
fn clash<'s>(
    caller: &Service,
    name: ServiceName,
    all: impl Iterator<Item = &'s Service>,
) -> Option<ValueError> {
    if caller.container.add_hosts.contains_key(name.as_str()) {
        let fault = ValueError::new(format!("`add_hosts` has the name `{name}` as well"));
        return Some(fault.help("take it out of one of them"));
    }
    let mut called = all.flat_map(|service| &service.calls);
    let other = called.find(|other| **other != name && other.address() == name.address())?;
    let message = format!("`{name}` and `{other}` would have the same address");
    Some(ValueError::new(message).help("give one of the two services another name"))
}
