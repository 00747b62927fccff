//! `[app]` and `[services.NAME]`: parses each key, then checks rules across keys. Called by load.rs.

use std::collections::BTreeMap;

use super::accessory::is_accessory;
use super::container::container;
use super::env::environment;
use super::error::{Problems, Show, ValueError};
use super::migrate;
use super::read::Reader;
use super::readiness::{checks, liveness, readiness};
use super::site::own_image;
use super::tree::{ServiceTables, Table, Tree};
use super::value;
use super::{Kind, Network, OwnImage, Route, Service, Strategy, Web};
use crate::model::image::TrackedImage;
use crate::model::instance::ServiceName;
use crate::model::name::{AppName, EnvKey};
use crate::model::observed::Engine;

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

/// Defaults that all services of a site share.
#[derive(Clone, Copy)]
pub(super) struct Defaults {
    /// `[deploy] strategy`, for all web services; `None`: each has its own default.
    strategy: Option<Strategy>,
    network: Network,
}

pub(super) fn defaults(tree: &Tree<'_>, problems: &mut Problems<'_>) -> Defaults {
    let mut r = Reader { table: &tree.table("deploy"), problems };
    let strategies = [("rolling", Strategy::Rolling), ("surge", Strategy::Surge)];
    let strategy = r.optional("strategy", |r, key| r.choice(key, &strategies)).flatten();
    let accessories = tree.services().any(|(_, tables)| is_accessory(&tables));
    Defaults { strategy, network: if accessories { Network::Site } else { Network::Bridge } }
}

/// `[app]`, always a web service.
pub(super) fn app(tree: &Tree<'_>, defaults: Defaults, problems: &mut Problems<'_>) -> Option<Service> {
    let tables = ServiceTables {
        own: tree.table("app"),
        readiness: tree.table("app.readiness"),
        route: Table::default(),
        migrate: tree.table("migrate"),
    };
    let migrate = migrate::migrate(&tables.migrate, problems);
    let app = service(ServiceName::app(), &tables, defaults, problems)?;
    if app.at_most_one && defaults.strategy == Some(Strategy::Surge) {
        let mut r = Reader { table: &tree.table("deploy"), problems };
        let fault = ValueError::new("`surge` starts a second copy, which `[app] at_most = 1` excludes");
        r.fault(
            "strategy",
            fault.help("leave `strategy` out: the old copy is stopped before the new one starts"),
        );
        return None;
    }
    Some(Service { migrate: migrate?, ..app })
}

/// `[services.NAME]` without the accessories; `None` if one has an error.
pub(super) fn others(
    tree: &Tree<'_>,
    defaults: Defaults,
    problems: &mut Problems<'_>,
) -> Option<BTreeMap<ServiceName, Service>> {
    let tables = tree.services().filter(|(_, tables)| !is_accessory(tables));
    named(tables, problems, |name, tables, problems| {
        let service = service(name, tables, defaults, problems);
        let image = image_of_service(tables, problems);
        let own = tables.own.nodes.contains_key("image");
        let migrate = migrate::of_service(tables, service.as_ref(), own, problems);
        Some(Service { image: image?, migrate: migrate?, ..service? })
    })
}

/// An image of its own. It alone does not tell a worker, which each deploy replaces, from an accessory.
fn image_of_service(tables: &ServiceTables<'_>, problems: &mut Problems<'_>) -> Option<Option<OwnImage>> {
    let mut r = Reader { table: &tables.own, problems };
    let image = r.optional("image", |r, _| own_image(r))?;
    if image.is_some() && r.node("kind").is_none() && r.node("port").is_none() {
        let fault = ValueError::new("a service with an `image` of its own and no `port` needs `kind`");
        r.fault(
            "image",
            fault.help("write `kind = \"accessory\"` for a database or a cache, or `kind = \"worker\"`"),
        );
        return None;
    }
    Some(image)
}

/// Reads each of these tables under its name; `None` if one has an error.
pub(super) fn named<'a, T>(
    all: impl Iterator<Item = (&'a str, ServiceTables<'a>)>,
    problems: &mut Problems<'_>,
    mut read: impl FnMut(ServiceName, &ServiceTables<'a>, &mut Problems<'_>) -> Option<T>,
) -> Option<BTreeMap<ServiceName, T>> {
    let mut found = BTreeMap::new();
    let mut sound = true;
    for (text, tables) in all {
        let name = name_of(text, &tables, problems);
        let one = name.and_then(|name| Some((name, read(name, &tables, problems)?)));
        sound &= one.is_some();
        found.extend(one);
    }
    sound.then_some(found)
}

/// The name in `[services.NAME]`.
fn name_of(text: &str, tables: &ServiceTables<'_>, problems: &mut Problems<'_>) -> Option<ServiceName> {
    let name = text.parse::<ServiceName>().map_err(ValueError::from).and_then(|name| match name.is_app() {
        true => Err(ValueError::new("the service `app` is [app]").help("give this one another name")),
        false => Ok(name),
    });
    let fault = match name {
        Ok(name) => return Some(name),
        Err(fault) => fault,
    };
    tables.own.given.iter().for_each(|span| problems.add(span, Show::UpToMark, fault.clone()));
    None
}

/// One service of its tables.
pub(super) fn service(
    name: ServiceName,
    tables: &ServiceTables<'_>,
    defaults: Defaults,
    problems: &mut Problems<'_>,
) -> Option<Service> {
    let instances = Reader { table: &tables.own, problems }.integer("instances", 0..=254);
    let readiness = readiness(&tables.readiness, problems);
    let kind = kind(name, tables, instances.unwrap_or(1), problems);
    let mut r = Reader { table: &tables.own, problems };
    let networks = [("bridge", Network::Bridge), ("site", Network::Site), ("host", Network::Host)];
    let network = r.optional("network", |r, key| r.choice(key, &networks));
    let network = network.map(|given| given.unwrap_or(defaults.network));
    let command = r.list("command", value::argument);
    let volumes = r.distinct("volumes", value::volume);
    let memory = r.optional("memory", memory);
    let cpus = r.optional("cpus", Reader::number);
    let stop_timeout = r.time("stop_timeout");
    let required_env = r.distinct("required_env", str::parse::<EnvKey>);
    no_empty_program(&mut r, "command", command.as_deref());
    let calls = r.distinct("calls", str::parse::<ServiceName>);
    let container = container(&mut r);
    let on_host = network == Some(Network::Host) && matches!(kind, Some(Kind::Web(_)));
    let environment = environment(&mut r, name, on_host, required_env.as_deref());
    let at_most_one = at_most(&mut r, instances);
    let (instances, kind, at_most_one) = (instances?, kind?, at_most_one?);
    let strategy = strategy(&kind, instances, at_most_one, defaults);
    let (inherit_env, env, secrets) = environment?;
    Some(Service {
        name,
        image: None,
        migrate: None,
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
        inherit_env,
        env,
        secrets,
        calls: calls?.into_iter().collect(),
        container: container?,
        at_most_one,
    })
}

/// In which order the instances of a service change.
fn strategy(kind: &Kind, instances: u16, at_most_one: bool, defaults: Defaults) -> Strategy {
    match kind {
        Kind::Worker(_) => Strategy::Rolling,
        Kind::Web(_) if at_most_one => Strategy::Rolling,
        // A second copy beside the only one keeps the site up.
        Kind::Web(_) if instances == 1 => defaults.strategy.unwrap_or(Strategy::Surge),
        Kind::Web(_) => defaults.strategy.unwrap_or(Strategy::Rolling),
    }
}

/// The kind, as `kind` says or by the keys that are there: a service with a port is a web service; the app always
/// has one.
fn kind(
    name: ServiceName,
    tables: &ServiceTables<'_>,
    instances: u16,
    problems: &mut Problems<'_>,
) -> Option<Kind> {
    let word = word(name, tables, problems)?;
    if !name.is_app() {
        unfit(word, tables, problems);
    }
    let mut r = Reader { table: &tables.readiness, problems };
    if word != Word::Web {
        return Some(Kind::Worker(liveness(&mut r)?));
    }
    let path = r.text("path", |text| value::url_path(text, false));
    let checks = checks(&mut r, instances);
    let mut r = Reader { table: &tables.own, problems };
    r.require("base_port");
    let base_port = r.integer("base_port", 1..=65534);
    let port = r.integer("port", 1..=65535);
    let warm_up = warm_up(&mut r);
    // Without a route it is for other services alone: calls.rs.
    let routed = !name.is_app() && tables.route.given.is_some();
    let route = if routed { route(tables, problems).map(Some) } else { Some(None) };
    let (interval, answer_timeout) = checks?;
    Some(Kind::Web(Web {
        base_port: base_port?,
        port: port?,
        path: path?,
        interval,
        answer_timeout,
        warm_up: warm_up?,
        route: route?,
    }))
}

/// The words for `kind`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Word {
    Web,
    Worker,
    Accessory,
}

fn word(name: ServiceName, tables: &ServiceTables<'_>, problems: &mut Problems<'_>) -> Option<Word> {
    if name.is_app() {
        return Some(Word::Web);
    }
    let mut r = Reader { table: &tables.own, problems };
    let words = [("web", Word::Web), ("worker", Word::Worker), ("accessory", Word::Accessory)];
    let given = r.optional("kind", |r, key| r.choice(key, &words))?;
    let found = if r.node("port").is_some() { Word::Web } else { Word::Worker };
    if given == Some(Word::Web) {
        r.require("port");
    }
    Some(given.unwrap_or(found))
}

/// Keys in a user's file that belong to another kind of service.
fn unfit(word: Word, tables: &ServiceTables<'_>, problems: &mut Problems<'_>) {
    let ServiceTables { own, readiness, route, .. } = tables;
    let of_web = [
        (own, "port"),
        (own, "base_port"),
        (own, "warm_up"),
        (readiness, "path"),
        (readiness, "interval"),
        (route, "hosts"),
        (route, "path"),
        (route, "strip_prefix"),
    ];
    let of_accessories = [(own, "publish")];
    let of_releases = [(own, "instances"), (own, "at_most"), (own, "required_env"), (own, "inherit_env")];
    let of_workers = [(readiness, "settle"), (readiness, "command"), (readiness, "tcp")];
    let mut refuse = |keys: &[(&Table<'_>, &str)], message: &str, help: &str| {
        for (table, key) in keys {
            if let Some(node) = table.nodes.get(key).filter(|node| node.span.file > 0) {
                let fault = ValueError::new(format!("{message} `{key}`")).help(help);
                problems.add(&node.key, node.show(), fault);
            }
        }
    };
    match word {
        Word::Web => {
            refuse(&of_workers, "a web service has no", "leave it out: its readiness `path` is asked");
            refuse(&of_accessories, "only an accessory has", "write `kind = \"accessory\"`, or leave it out");
        }
        Word::Worker => {
            refuse(&of_web, "a service without `port` has no", "write `port`, or leave it out");
            refuse(&of_accessories, "only an accessory has", "write `kind = \"accessory\"`, or leave it out");
        }
        Word::Accessory => {
            let help = "leave it out: an accessory is one container, which Caddy does not reach";
            refuse(&of_web, "an accessory has no", help);
            refuse(&of_releases, "an accessory has no", help);
        }
    }
    if word != Word::Web && !readiness.nodes.contains_key("command") {
        let message = "without `command` in its readiness, a service without `port` has no";
        refuse(&[(readiness, "answer_timeout")], message, "leave it out");
    }
}

/// More requests than these are taken for a test of the application.
const MOST_REQUESTS: usize = 32;

fn warm_up(r: &mut Reader<'_, '_, '_>) -> Option<Vec<String>> {
    let paths = r.distinct("warm_up", value::url_request)?;
    if paths.len() > MOST_REQUESTS {
        r.fault("warm_up", ValueError::new(format!("`warm_up` has more than {MOST_REQUESTS} requests")));
        return None;
    }
    Some(paths)
}

/// `[app.route]`; the inner `None`: it says nothing.
pub(super) fn app_route(tree: &Tree<'_>, problems: &mut Problems<'_>) -> Option<Option<Route>> {
    let (hosts, path) = targets(&mut Reader { table: &tree.table("app.route"), problems })?;
    let path = path.unwrap_or_default();
    let says = !hosts.is_empty() || !path.is_empty();
    Some(says.then_some(Route { hosts, path, strip_prefix: false }))
}

/// The hosts and the path of a route; an empty path: all.
fn targets(r: &mut Reader<'_, '_, '_>) -> Option<(Vec<String>, Option<String>)> {
    let hosts = r.distinct("hosts", value::host)?;
    let path = r.optional("path", |r, key| r.text(key, |text| value::url_path(text, false)))?;
    Some((hosts, path.map(|path| path.trim_end_matches('/').to_owned())))
}

fn route(tables: &ServiceTables<'_>, problems: &mut Problems<'_>) -> Option<Route> {
    let mut r = Reader { table: &tables.route, problems };
    let (hosts, path) = targets(&mut r)?;
    let strip_prefix = r.boolean("strip_prefix")?;
    if hosts.is_empty() && path.is_none() {
        let fault = ValueError::new(format!("[{}] names no request", tables.route.title));
        let help = "write `path = \"/…\"` or `hosts = [\"…\"]` below it";
        problems.add(tables.route.given.as_ref()?, Show::Line, fault.help(help));
        return None;
    }
    let path = path.unwrap_or_default();
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

/// An argv may be empty, but its program may not.
pub(super) fn no_empty_program(r: &mut Reader<'_, '_, '_>, key: &str, argv: Option<&[String]>) {
    if argv.and_then(<[String]>::first).is_some_and(String::is_empty) {
        r.fault(key, ValueError::new(format!("the program in `{key}` is an empty string")));
    }
}
