//! `[app]` and `[services.NAME]`: parses each key, then checks rules across keys. Called by load.rs.

use std::collections::BTreeMap;
use std::time::Duration;

use super::container::container;
use super::env::public_env;
use super::error::{Problems, Show, ValueError};
use super::read::Reader;
use super::tree::{ServiceTables, Table, Tree};
use super::value;
use super::{Kind, Network, Readiness, Route, Service, Strategy, Web};
use crate::model::image::TrackedImage;
use crate::model::instance::ServiceName;
use crate::model::name::{AppName, EnvKey};
use crate::model::observed::Engine;

/// Shortest interval between two health checks of an instance, and the longest answer to one.
const SHORTEST_INTERVAL: Duration = Duration::from_secs(1);
const LONGEST_ANSWER: Duration = Duration::from_secs(60);

/// The keys of `[app]` that belong to the whole site.
pub(super) struct Site {
    pub name: AppName,
    pub image: TrackedImage,
    pub engine: Option<Engine>,
}

pub(super) fn site(tree: &Tree<'_>, problems: &mut Problems<'_>) -> Option<Site> {
    let mut r = Reader { table: &tree.table("app"), problems };
    r.require("image");
    let name = r.text("name", str::parse::<AppName>);
    let image = r.text("image", str::parse::<TrackedImage>);
    let engines = [("auto", None), ("podman", Some(Engine::Podman)), ("docker", Some(Engine::Docker))];
    let engine = r.choice("engine", &engines);
    Some(Site { name: name?, image: image?, engine: engine? })
}

/// `[app]`, always a web service.
pub(super) fn app(
    tree: &Tree<'_>,
    strategy: Option<Strategy>,
    problems: &mut Problems<'_>,
) -> Option<Service> {
    let tables = ServiceTables {
        own: tree.table("app"),
        readiness: tree.table("app.readiness"),
        route: Table::default(),
    };
    let app = service(ServiceName::app(), &tables, strategy, problems)?;
    if app.at_most_one && strategy == Some(Strategy::Surge) {
        let mut r = Reader { table: &tree.table("deploy"), problems };
        let fault = ValueError::new("`surge` starts a second copy, which `[app] at_most = 1` excludes");
        r.fault(
            "strategy",
            fault.help("leave `strategy` out: the old copy is stopped before the new one starts"),
        );
        return None;
    }
    Some(app)
}

/// `[services.NAME]`; `None` if one has an error.
pub(super) fn others(
    tree: &Tree<'_>,
    strategy: Option<Strategy>,
    problems: &mut Problems<'_>,
) -> Option<BTreeMap<ServiceName, Service>> {
    let mut services = BTreeMap::new();
    let mut sound = true;
    for (text, tables) in tree.services() {
        let name =
            text.parse::<ServiceName>().map_err(ValueError::from).and_then(|name| match name.is_app() {
                true => Err(ValueError::new("the service `app` is [app]").help("give this one another name")),
                false => Ok(name),
            });
        let service = match (name, &tables.own.given) {
            (Ok(name), _) => service(name, &tables, strategy, problems),
            (Err(fault), given) => {
                given.iter().for_each(|span| problems.add(span, Show::UpToMark, fault.clone()));
                None
            }
        };
        sound &= service.is_some();
        services.extend(service.map(|service| (service.name, service)));
    }
    sound.then_some(services)
}

/// `[deploy] strategy`, for all web services; `None`: each has its default.
pub(super) fn strategy(tree: &Tree<'_>, problems: &mut Problems<'_>) -> Option<Strategy> {
    let mut r = Reader { table: &tree.table("deploy"), problems };
    let strategies = [("rolling", Strategy::Rolling), ("surge", Strategy::Surge)];
    r.optional("strategy", |r, key| r.choice(key, &strategies)).flatten()
}

/// One service of its tables.
fn service(
    name: ServiceName,
    tables: &ServiceTables<'_>,
    strategy: Option<Strategy>,
    problems: &mut Problems<'_>,
) -> Option<Service> {
    let instances = Reader { table: &tables.own, problems }.integer("instances", 1..=254);
    let readiness = readiness(&tables.readiness, problems);
    let kind = kind(name, tables, instances.unwrap_or(1), problems);
    let mut r = Reader { table: &tables.own, problems };
    let network = r.choice("network", &[("bridge", Network::Bridge), ("host", Network::Host)]);
    let command = r.list("command", value::argument);
    let volumes = r.distinct("volumes", value::volume);
    let memory = r.optional("memory", memory);
    let cpus = r.optional("cpus", Reader::number);
    let stop_timeout = r.time("stop_timeout");
    let required_env = r.distinct("required_env", str::parse::<EnvKey>);
    no_empty_program(&mut r, "command", command.as_deref());
    let container = container(&mut r);
    let env = if name.is_app() { Some(BTreeMap::new()) } else { public_env(&mut r) };
    if network == Some(Network::Host)
        && matches!(kind, Some(Kind::Web(_)))
        && let Some(own) =
            env.iter().flatten().map(|(key, _)| key.as_str()).find(|key| ["PORT", "HOST"].contains(key))
    {
        let fault = ValueError::new(format!("with network = \"host\" each instance gets its own {own}"));
        r.fault("env", fault.help("leave it out"));
    }
    let at_most_one = at_most(&mut r, instances);
    let (instances, kind, at_most_one) = (instances?, kind?, at_most_one?);
    let default = match kind {
        // A second copy beside the only one keeps the site up.
        Kind::Web(_) if instances == 1 && !at_most_one => Strategy::Surge,
        _ => Strategy::Rolling,
    };
    let strategy = match kind {
        Kind::Web(_) if !at_most_one => strategy.unwrap_or(default),
        Kind::Web(_) | Kind::Worker { .. } => Strategy::Rolling,
    };
    Some(Service {
        name,
        kind,
        instances,
        strategy,
        network: network?,
        command: command?,
        volumes: volumes?,
        memory: memory?,
        cpus: cpus?,
        stop_timeout: stop_timeout?,
        required_env: required_env?,
        readiness: readiness?,
        env: env?,
        container: container?,
        at_most_one,
    })
}

/// A service with a port is a web service; the app always has one.
fn kind(
    name: ServiceName,
    tables: &ServiceTables<'_>,
    instances: u16,
    problems: &mut Problems<'_>,
) -> Option<Kind> {
    let is_web = tables.own.nodes.contains_key("port");
    unfit(is_web, tables, problems);
    let mut r = Reader { table: &tables.readiness, problems };
    if !is_web {
        return Some(Kind::Worker { settle: settle(&mut r)? });
    }
    let path = r.text("path", |text| value::url_path(text, false));
    let answer_timeout = r.time("answer_timeout");
    if answer_timeout.is_some_and(|answer| answer > LONGEST_ANSWER) {
        r.fault("answer_timeout", ValueError::new("`answer_timeout` may be 60s at most"));
    }
    let given = r.node("interval").is_some();
    let interval = if given { r.time("interval") } else { Some(usual_interval(instances)) };
    if given && interval.is_some_and(|interval| interval < SHORTEST_INTERVAL) {
        r.fault("interval", ValueError::new("`interval` must be at least 1s"));
    }
    // Overlapping checks would add load to a busy application.
    let interval = interval.zip(answer_timeout).map(|(interval, answer)| interval.max(answer));
    let mut r = Reader { table: &tables.own, problems };
    r.require("base_port");
    let base_port = r.integer("base_port", 1..=65534);
    let port = r.integer("port", 1..=65535);
    let route = if name.is_app() { Some(None) } else { route(tables, problems).map(Some) };
    Some(Kind::Web(Web {
        base_port: base_port?,
        port: port?,
        path: path?,
        interval: interval?,
        answer_timeout: answer_timeout?,
        route: route?,
    }))
}

/// Keys in a user's file that belong to the other kind of service.
fn unfit(is_web: bool, tables: &ServiceTables<'_>, problems: &mut Problems<'_>) {
    let of_a_worker = [(&tables.readiness, "settle")];
    let of_web = [
        (&tables.own, "base_port"),
        (&tables.readiness, "path"),
        (&tables.readiness, "interval"),
        (&tables.readiness, "answer_timeout"),
        (&tables.route, "hosts"),
        (&tables.route, "path"),
        (&tables.route, "strip_prefix"),
    ];
    let (keys, message, help) = match is_web {
        true => {
            (&of_a_worker[..], "a service with `port` has no", "leave it out: its readiness `path` is asked")
        }
        false => (&of_web[..], "a service without `port` has no", "write `port`, or leave it out"),
    };
    for (table, key) in keys {
        if let Some(node) = table.nodes.get(key).filter(|node| node.span.file > 0) {
            problems.add(&node.key, node.show(), ValueError::new(format!("{message} `{key}`")).help(help));
        }
    }
}

fn settle(r: &mut Reader<'_, '_, '_>) -> Option<Duration> {
    let (settle, timeout) = (r.time("settle")?, value::duration(r.node("timeout")?.value.as_str()?).ok()?);
    if settle >= timeout {
        r.fault("settle", ValueError::new("`settle` must be shorter than `timeout`"));
        return None;
    }
    Some(settle)
}

fn route(tables: &ServiceTables<'_>, problems: &mut Problems<'_>) -> Option<Route> {
    let mut r = Reader { table: &tables.route, problems };
    let hosts = r.distinct("hosts", value::host)?;
    let path = r.optional("path", |r, key| r.text(key, |text| value::url_path(text, false)))?;
    let path = path.unwrap_or_default().trim_end_matches('/').to_owned();
    let strip_prefix = r.boolean("strip_prefix")?;
    if hosts.is_empty() && path.is_empty() {
        let title = &tables.own.title;
        let fault = ValueError::new(format!("no request goes to [{title}]"));
        let help = format!("write `[{title}.route]`, and `path = \"/…\"` or `hosts = [\"…\"]` below it");
        let span = tables.route.given.as_ref().or(tables.own.given.as_ref())?;
        problems.add(span, Show::Line, fault.help(help));
        return None;
    }
    if strip_prefix && path.is_empty() {
        r.fault("strip_prefix", ValueError::new("`strip_prefix` needs a `path`"));
        return None;
    }
    Some(Route { hosts, path, strip_prefix })
}

/// Docker's own minimum; with less, neither engine starts a container.
const LEAST_MEMORY: u64 = 6 << 20;

fn memory(r: &mut Reader<'_, '_, '_>, key: &str) -> Option<u64> {
    let bytes = r.size(key)?;
    if bytes < LEAST_MEMORY {
        r.fault(key, ValueError::new("`memory` must be at least \"6M\": no container starts with less"));
        return None;
    }
    Some(bytes)
}

/// Whether two copies must never run at once.
fn at_most(r: &mut Reader<'_, '_, '_>, instances: Option<u16>) -> Option<bool> {
    let at_most: i64 = r.integer("at_most", 0..=1)?;
    if let (1, Some(more @ 2..)) = (at_most, instances) {
        let fault = ValueError::new(format!("`at_most = 1` excludes {more} instances"));
        r.fault("at_most", fault.help("write `instances = 1`"));
        return None;
    }
    Some(at_most == 1)
}

fn readiness(table: &Table<'_>, problems: &mut Problems<'_>) -> Option<Readiness> {
    let mut r = Reader { table, problems };
    let notify = r.boolean("notify");
    let timeout = r.time("timeout");
    Some(Readiness { notify: notify?, timeout: timeout? })
}

/// The default interval: about three readiness requests a second over all instances at most, so that a host
/// with many instances is idle without traffic.
fn usual_interval(instances: u16) -> Duration {
    Duration::from_secs(3).max(Duration::from_millis(300) * u32::from(instances))
}

/// An argv may be empty, but its program may not.
pub(super) fn no_empty_program(r: &mut Reader<'_, '_, '_>, key: &str, argv: Option<&[String]>) {
    if argv.and_then(<[String]>::first).is_some_and(String::is_empty) {
        r.fault(key, ValueError::new(format!("the program in `{key}` is an empty string")));
    }
}
