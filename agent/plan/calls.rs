//! The services that containers call by name. Called by files.rs.
//!
//! A name that stands in a container's arguments must lead somewhere until that container is replaced: names of the
//! committed release and of pinned accessories count besides those of the config.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use crate::config::Config;
use crate::model::envfile::ManagedLines;
use crate::model::instance::{InstanceName, ServiceName};

use super::files::Listens;
use super::{Inputs, own_files};

/// The services that are called, and the port of each of their wanted instances: none for one that is paused, or gone.
pub type Called = BTreeMap<ServiceName, Listens>;

/// Those of the config alone, on its ports.
pub fn of_config(config: &Config) -> Called {
    let with_ports = |name| (name, ports(config, name, |id| config.port_of(id)));
    config.called().into_iter().map(with_ports).collect()
}

/// Those of this host.
pub fn called(inputs: &Inputs<'_>) -> Called {
    after(inputs, inputs.committed())
}

/// Those once these `lines` are committed.
pub fn after(inputs: &Inputs<'_>, lines: Option<ManagedLines>) -> Called {
    let mut names = inputs.config.called();
    for lines in lines.into_iter().chain(own_files::pins_in_use(inputs)) {
        names.extend(lines.all().flat_map(|(_, of)| of.args.iter().filter_map(|arg| name_in(arg))));
    }
    let with_ports = |name| (name, ports(inputs.config, name, |id| inputs.port(id)));
    names.into_iter().map(with_ports).collect()
}

/// Whether this host has the address of each of them.
pub fn are_set(inputs: &Inputs<'_>, called: &Called) -> bool {
    called.keys().all(|name| inputs.observed.addresses.contains(&name.address()))
}

fn ports(config: &Config, name: ServiceName, port: impl Fn(InstanceName) -> Option<u16>) -> Listens {
    let service = config.service(name).filter(|service| service.web().is_some());
    let wanted = service.into_iter().flat_map(|service| service.instances().chain(service.spare()));
    wanted.filter_map(|id| Some((id, port(id)?))).collect()
}

/// The name in `--add-host=api:198.18.x.y`.
fn name_in(argument: &str) -> Option<ServiceName> {
    let (name, address) = argument.strip_prefix("--add-host=")?.split_once(':')?;
    let name: ServiceName = name.parse().ok()?;
    (address.parse::<Ipv4Addr>().ok()? == name.address()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_known_by_its_address() {
        let api: ServiceName = "api".parse().unwrap();
        assert_eq!(name_in(&format!("--add-host=api:{}", api.address())), Some(api));
        for other in
            ["--add-host=api:10.0.0.1", "--add-host=api:host-gateway", "--network=host", "--add-host=a"]
        {
            assert_eq!(name_in(other), None, "{other}");
        }
    }
}
