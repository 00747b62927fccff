//! `[services.NAME]` with `kind = "accessory"`: what it has besides the keys of a worker. Called by load.rs.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use toml::de::DeValue;

use super::app::{Defaults, named, service};
use super::error::{Problems, ValueError};
use super::migrate;
use super::read::Reader;
use super::site::own_image;
use super::tree::{ServiceTables, Tree};
use super::value::clip;
use super::{Accessory, Caddy, Network, Service};
use crate::model::instance::ServiceName;
use crate::model::name::HEALTH_PORT;

/// Whether the tables belong to an accessory.
pub(super) fn is_accessory(tables: &ServiceTables<'_>) -> bool {
    let kind = tables.own.nodes.get("kind").map(|node| node.value);
    matches!(kind, Some(DeValue::String(text)) if *text == "accessory")
}

/// All accessories; `None` if one has an error.
pub(super) fn accessories(
    tree: &Tree<'_>,
    defaults: Defaults,
    problems: &mut Problems<'_>,
) -> Option<BTreeMap<ServiceName, Accessory>> {
    let tables = tree.services().filter(|(_, tables)| is_accessory(tables));
    named(tables, problems, |name, tables, problems| accessory(name, tables, defaults, problems))
}

fn accessory(
    name: ServiceName,
    tables: &ServiceTables<'_>,
    defaults: Defaults,
    problems: &mut Problems<'_>,
) -> Option<Accessory> {
    let service = service(name, tables, defaults, problems);
    migrate::refuse(tables, problems);
    let mut r = Reader { table: &tables.own, problems };
    r.require("image");
    let image = own_image(&mut r);
    let publish = r.distinct("publish", |text| published(text).map(|_| text.to_owned()));
    let service = Service { inherit_env: false, ..service? };
    if service.readiness.notify {
        let fault = ValueError::new("an accessory has no `notify`: what uses it would wait for it at boot");
        let mut r = Reader { table: &tables.readiness, problems };
        r.fault("notify", fault.help("write `command` or `tcp`"));
        return None;
    }
    if service.network == Network::Host && publish.as_ref().is_some_and(|ports| !ports.is_empty()) {
        let fault =
            ValueError::new("with network = \"host\" its ports are the host's, and none is published");
        r.fault("publish", fault.help("leave `publish` out"));
        return None;
    }
    Some(Accessory { service, image: image?, publish: publish? })
}

/// The ports of the host in `[ADDRESS:]PORT[-PORT]:PORT[-PORT][/tcp|/udp]`, and the protocol.
fn published(text: &str) -> Result<(RangeInclusive<u16>, &str), ValueError> {
    let fault = || {
        ValueError::new(format!("`{}` is not a published port", clip(text))).help(
            "write PORT:PORT, ADDRESS:PORT:PORT or PORT-PORT:PORT-PORT, with or without /udp: \"127.0.0.1:5432:5432\"",
        )
    };
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let (rest, inner) = ports.rsplit_once(':').ok_or_else(fault)?;
    let (address, outer) =
        rest.rsplit_once(':').map_or((None, rest), |(address, outer)| (Some(address), outer));
    let plain = address.is_none_or(|address| address.parse::<std::net::Ipv4Addr>().is_ok());
    let (outer, inner) = (range(outer).ok_or_else(fault)?, range(inner).ok_or_else(fault)?);
    if !plain || outer.len() != inner.len() || !["tcp", "udp"].contains(&protocol) {
        return Err(fault());
    }
    Ok((outer, protocol))
}

fn range(text: &str) -> Option<RangeInclusive<u16>> {
    let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (port(first)?, port(last)?);
    (first <= last).then_some(first..=last)
}

/// A published port belongs to one accessory alone, and neither to Caddy nor to an instance.
pub(super) fn ports<'c>(
    tree: &Tree<'_>,
    accessories: impl Iterator<Item = (&'c ServiceName, &'c Accessory)>,
    services: &[&Service],
    caddy: &Caddy,
    problems: &mut Problems<'_>,
) {
    let mut known: Vec<(ServiceName, &str, RangeInclusive<u16>)> = Vec::new();
    for (name, accessory) in accessories {
        let Some((_, tables)) = tree.services().find(|(text, _)| *text == name.as_str()) else { continue };
        let mut r = Reader { table: &tables.own, problems };
        for text in &accessory.publish {
            let Ok((ports, protocol)) = published(text) else { continue };
            let meets =
                |other: &RangeInclusive<u16>| other.start() <= ports.end() && ports.start() <= other.end();
            let of_caddy = [caddy.http_port, caddy.https_port, HEALTH_PORT].map(|port| port..=port);
            let of_instance = services.iter().filter(|service| service.most() > 0).filter_map(|service| {
                let base = service.web()?.base_port;
                Some((service.name, base.saturating_add(1)..=base.saturating_add(service.most())))
            });
            let mut of_instance = of_instance.filter(|(_, range)| protocol == "tcp" && meets(range));
            let same =
                |(_, of, range): &&(ServiceName, &str, RangeInclusive<u16>)| *of == protocol && meets(range);
            let holder = match (known.iter().find(same), of_instance.next()) {
                (Some((other, ..)), _) => format!("the accessory {other}"),
                (_, Some((other, _))) => format!("an instance of {other}"),
                // HTTP/3 uses the port of HTTPS on UDP.
                _ if of_caddy.iter().any(meets) => "Caddy".to_owned(),
                _ => {
                    known.push((*name, protocol, ports));
                    continue;
                }
            };
            r.fault("publish", ValueError::new(format!("`{text}` is taken: {holder} uses it")));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_published_in_the_form_of_the_engines() {
        for (text, ports, protocol) in [
            ("5432:5432", 5432..=5432, "tcp"),
            ("127.0.0.1:5432:5432", 5432..=5432, "tcp"),
            ("7005-7008:7005-7008", 7005..=7008, "tcp"),
            ("53:5353/udp", 53..=53, "udp"),
        ] {
            assert_eq!(published(text).unwrap(), (ports, protocol), "{text}");
        }
        for bad in
            ["", "80", "0:80", "a:80", "host:1:2", "1-3:1-2", "3-1:3-1", "1:2/sctp", "1:2:3:4", "65536:1"]
        {
            assert!(published(bad).is_err(), "{bad}");
        }
    }
}
