//! The door: the path on which a load balancer checks this host. It asks every service that visitors reach, not one for other services alone.

use std::net::Ipv4Addr;

use crate::model::instance::ServiceName;
use crate::model::name::HEALTH_PORT;

use super::quote;
use super::routes::{Upstreams, health_site_address, indent};

/// Asks one service after another, at the Caddyfile's own address, until one has no instance that is ready.
/// With a paused app this host serves nothing.
pub(super) fn door(path: &str, services: &[&Upstreams<'_>], paused: bool, own_address: Ipv4Addr) -> String {
    let all = if paused { "respond \"paused\" 503\n" } else { "respond \"ok\" 200\n" };
    let mut chain = all.to_owned();
    for of in services.iter().rev() {
        let name = of.service.name;
        let refusal = format!("respond \"no instance{} is ready\" 503\n", whose(name));
        let to = format!("{own_address}:{HEALTH_PORT}");
        chain = ask(&to, Some(&format!("/{name}")), &refusal, &chain);
    }
    format!("handle {} {{\n{}}}\n", quote(path), indent(&chain))
}

fn whose(name: ServiceName) -> String {
    if name.is_app() { String::new() } else { format!(" of {name}") }
}

/// The answers about each service: asks one instance after another until one is ready.
pub(super) fn asked(services: &[&Upstreams<'_>]) -> String {
    let of = |of: &&Upstreams<'_>| {
        let mut chain = "respond 503\n".to_owned();
        for id in of.ports.keys().rev() {
            chain = ask(&health_site_address(*id), None, &chain, "respond 200\n");
        }
        let name = of.service.name;
        let serves = format!("rewrite * {}/serves\n", name.health_path());
        format!("handle /{name} {{\n{}}}\n", indent(&(serves + &chain)))
    };
    services.iter().map(of).collect()
}

/// One request: what follows if it gets no 2xx, and what otherwise.
fn ask(to: &str, path: Option<&str>, unready: &str, ready: &str) -> String {
    let rewrite = path.map(|path| format!("\trewrite {path}\n")).unwrap_or_default();
    format!(
        "reverse_proxy {to} {{\n{rewrite}\theader_up Host {{upstream_hostport}}\n\t@unready status 3xx 4xx 5xx\n\t\
         handle_response @unready {{\n{}\t}}\n\thandle_response {{\n{}\t}}\n}}\n",
        indent(&indent(unready)),
        indent(&indent(ready)),
    )
}
