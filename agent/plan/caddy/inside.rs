//! The inner sites of Caddy: containers reach a service of `calls` there by its name, past drained instances as
//! visitors do. Each service has an address of its own instead of a host name: a front end may pass on the visitor's
//! `Host`.

use crate::config::Config;
use crate::model::instance::ServiceName;
use crate::plan::calls::Called;

use super::routes::{self, Upstreams, indent};
use super::{DRAIN_DIR, GLOBAL_METRICS, Listens, filled};

/// The upstreams of the services that are called, also of one that is not committed yet: others of the same release
/// may call it while they are on trial.
pub(super) fn called<'a>(config: &'a Config, listens: &Listens, called: &Called) -> Vec<Upstreams<'a>> {
    let of = |(name, wanted): (&ServiceName, &Listens)| {
        let service = config.service(*name)?;
        Upstreams::of(service, listens).or_else(|| Upstreams::of(service, wanted))
    };
    called.iter().filter_map(of).collect()
}

/// The sites of all services that are called; one that is paused, or gone, answers 503.
pub(super) fn sites(
    config: &Config,
    version: (u32, u32),
    called: &Called,
    known: &[Upstreams<'_>],
) -> String {
    let site = |name: &ServiceName| {
        let of = known.iter().find(|of| of.service.name == *name);
        let inner = of.map_or_else(
            || "error 503\n".to_owned(),
            |of| format!("route @working {{\n\timport drained_{name}\n}}\n{}", routes::proxies(version, of)),
        );
        filled(
            include_str!("../../../caddy/Inside"),
            &[
                ("service", name.as_str()),
                ("address", &name.address().to_string()),
                ("port", &config.caddy.http_port.to_string()),
                ("scheme", if config.is_https() { "https" } else { "http" }),
                ("plain", routes::plain_matcher()),
                ("drain_dir", DRAIN_DIR),
                ("inner", &indent(&inner)),
            ],
        )
    };
    called.keys().map(site).collect::<Vec<_>>().join("\n")
}

/// Their servers. A caller may name the visitor, whom it knows, so the networks of containers are trusted.
pub(super) fn servers(config: &Config, version: (u32, u32), called: &Called) -> Vec<String> {
    let metrics = if version < GLOBAL_METRICS { "\tmetrics\n" } else { "" };
    let trust = "\ttrusted_proxies static private_ranges 198.18.0.0/15\n";
    let server = |name: &ServiceName| {
        let at = format!("{}:{}", name.address(), config.caddy.http_port);
        format!("servers {at} {{\n\tname inside-{name}\n{metrics}{trust}}}")
    };
    called.keys().map(server).collect()
}
