//! `[app]`, `[migrate]`, `[deploy]`, `[caddy]` and `[verify]`: parses each key, then checks rules across
//! keys. Called by load.rs.

use std::time::Duration;

use super::container::{container, entrypoint};
use super::error::{Problems, ValueError};
use super::read::Reader;
use super::tree::{Table, Tree};
use super::value;
use super::{App, Caddy, CaddyImage, Deploy, Migrate, Network, Readiness, Strategy, Tls, Verify};
use crate::model::image::TrackedImage;
use crate::model::name::{AppName, EnvKey, HEALTH_PORT};
use crate::model::observed::Engine;

/// Shortest interval between two health checks of an instance, and the longest answer to one.
const SHORTEST_INTERVAL: Duration = Duration::from_secs(1);
const LONGEST_ANSWER: Duration = Duration::from_secs(60);

pub(super) fn app(tree: &Tree<'_>, problems: &mut Problems<'_>) -> Option<App> {
    let instances = Reader { table: &tree.table("app"), problems }.integer("instances", 1..=254);
    let readiness = readiness(&tree.table("app.readiness"), instances.unwrap_or(1), problems);
    let mut r = Reader { table: &tree.table("app"), problems };
    r.require("image");
    let name = r.text("name", str::parse::<AppName>);
    let image = r.text("image", str::parse::<TrackedImage>);
    let engines = [("auto", None), ("podman", Some(Engine::Podman)), ("docker", Some(Engine::Docker))];
    let engine = r.choice("engine", &engines);
    let base_port = r.integer("base_port", 1..=65534);
    let port = r.integer("port", 1..=65535);
    let network = r.choice("network", &[("bridge", Network::Bridge), ("host", Network::Host)]);
    let command = r.list("command", value::argument);
    let volumes = r.distinct("volumes", value::volume);
    let memory = r.optional("memory", memory);
    let cpus = r.optional("cpus", Reader::number);
    let stop_timeout = r.time("stop_timeout");
    let required_env = r.distinct("required_env", str::parse::<EnvKey>);
    no_empty_program(&mut r, "command", command.as_deref());
    let container = container(&mut r);
    let at_most_one = at_most(&mut r, instances);
    Some(App {
        name: name?,
        image: image?,
        engine: engine?,
        instances: instances?,
        base_port: base_port?,
        port: port?,
        network: network?,
        command: command?,
        volumes: volumes?,
        memory: memory?,
        cpus: cpus?,
        stop_timeout: stop_timeout?,
        required_env: required_env?,
        readiness: readiness?,
        container: container?,
        at_most_one: at_most_one?,
    })
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

fn readiness(table: &Table<'_>, instances: u16, problems: &mut Problems<'_>) -> Option<Readiness> {
    let mut r = Reader { table, problems };
    let notify = r.boolean("notify");
    let path = r.text("path", |text| value::url_path(text, false));
    let timeout = r.time("timeout");
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
    Some(Readiness {
        notify: notify?,
        path: path?,
        timeout: timeout?,
        interval: interval?,
        answer_timeout: answer_timeout?,
    })
}

/// The default interval: about three readiness requests a second over all instances at most, so that a host
/// with many instances is idle without traffic.
fn usual_interval(instances: u16) -> Duration {
    Duration::from_secs(3).max(Duration::from_millis(300) * u32::from(instances))
}

/// The outer `None`: an error; the inner one: the table is absent.
pub(super) fn migrate(tree: &Tree<'_>, problems: &mut Problems<'_>) -> Option<Option<Migrate>> {
    let mut r = Reader { table: &tree.table("migrate"), problems };
    if r.table.given.is_none() {
        return Some(None);
    }
    r.require("command");
    let command = r.list("command", value::argument);
    if command.as_ref().is_some_and(Vec::is_empty) {
        r.fault(
            "command",
            ValueError::new("`command` is empty").help("without migrations, leave out [migrate]"),
        );
    }
    no_empty_program(&mut r, "command", command.as_deref());
    let entrypoint = entrypoint(&mut r);
    let timeout = r.time("timeout");
    Some(Some(Migrate { entrypoint: entrypoint?, command: command?, timeout: timeout? }))
}

/// The default strategy depends on `instances`.
pub(super) fn deploy(
    tree: &Tree<'_>,
    app: Option<&App>,
    caddy: Option<&Caddy>,
    problems: &mut Problems<'_>,
) -> Option<Deploy> {
    let mut r = Reader { table: &tree.table("deploy"), problems };
    let default = match app {
        Some(app) if app.instances == 1 && !app.at_most_one => Strategy::Surge,
        _ => Strategy::Rolling,
    };
    let strategies = [("rolling", Strategy::Rolling), ("surge", Strategy::Surge)];
    let strategy = match r.node("strategy") {
        Some(_) => r.choice("strategy", &strategies),
        None => Some(default),
    };
    if let (Some(Strategy::Surge), Some(true)) = (strategy, app.map(|app| app.at_most_one)) {
        let fault = ValueError::new("`surge` starts a second copy, which `[app] at_most = 1` excludes");
        r.fault(
            "strategy",
            fault.help("leave `strategy` out: the old copy is stopped before the new one starts"),
        );
    }
    let soak = r.time("soak");
    let drain_timeout = r.time("drain_timeout");
    let websocket_timeout = r.time("websocket_timeout");
    let auto = r.boolean("auto");
    let keep = r.integer("keep", 2..=100);
    let min_free = r.size("min_free");
    let mut app_table = Reader { table: &tree.table("app"), problems: r.problems };
    if let (Some(app), Some(caddy), Some(strategy)) = (app, caddy, strategy) {
        ports(&mut app_table, app, caddy, strategy);
    }
    Some(Deploy {
        strategy: strategy?,
        soak: soak?,
        drain_timeout: drain_timeout?,
        websocket_timeout: websocket_timeout?,
        auto: auto?,
        keep: keep?,
        min_free: min_free?,
    })
}

/// Every instance, the spare included, needs its own port, which Caddy must not use.
fn ports(r: &mut Reader<'_, '_, '_>, app: &App, caddy: &Caddy, strategy: Strategy) {
    let spare = u16::from(strategy == Strategy::Surge);
    let count = app.instances + spare;
    if count > 254 {
        let message = "`instances` may be 253 at most with surge, whose spare is one more";
        return r.fault("instances", ValueError::new(message));
    }
    let Some(last) = app.base_port.checked_add(count) else {
        let message = format!("the {count} ports above {} go past 65535", app.base_port);
        return r.fault("base_port", ValueError::new(message).help(format!("at most {}", u16::MAX - count)));
    };
    if let Some(port) = [caddy.http_port, caddy.https_port, HEALTH_PORT]
        .into_iter()
        .find(|port| (app.base_port + 1..=last).contains(port))
    {
        let who = if port == HEALTH_PORT { "Caddy's health checks use" } else { "Caddy serves" };
        let what = match port - app.base_port {
            n if n > app.instances => "the spare of a surge deploy".to_owned(),
            n => format!("instance {n}"),
        };
        let message = format!("port {port} of {what} is taken: {who} it");
        r.fault("base_port", ValueError::new(message).help("choose another base_port"));
    }
}

pub(super) fn caddy(tree: &Tree<'_>, problems: &mut Problems<'_>) -> Option<Caddy> {
    let mut r = Reader { table: &tree.table("caddy"), problems };
    let image = r.text("image", |text| match text.contains('@') {
        true => text.parse().map(CaddyImage::Pinned),
        false => text.parse().map(CaddyImage::Tracked),
    });
    let hosts = r.distinct("hosts", value::host);
    let tls = r.choice("tls", &[("acme", Tls::Acme), ("internal", Tls::Internal), ("off", Tls::Off)]);
    let block = r.distinct("block", |text| value::url_path(text, true));
    let trusted_proxies = r.distinct("trusted_proxies", value::cidr);
    let extra = r.text("extra", value::caddyfile);
    let http_port = r.integer("http_port", 1..=65535);
    let https_port = r.integer("https_port", 1..=65535);
    if let (Some(http), Some(https)) = (http_port, https_port)
        && (http == https || [http, https].contains(&HEALTH_PORT))
    {
        let key =
            if https == HEALTH_PORT || r.node("http_port").is_none() { "https_port" } else { "http_port" };
        let message =
            "`http_port`, `https_port` and 9080, where Caddy checks the instances, must be three ports";
        r.fault(key, ValueError::new(message));
    }
    let health = r.optional("health", |r, key| r.text(key, |text| value::url_path(text, false)));
    let headers_up = r.pairs("headers_up", value::header);
    let sticky = r.boolean("sticky");
    if let (Some(hosts), Some(Tls::Acme)) = (&hosts, tls) {
        let public = |h: &String| {
            !h.contains('.') || h.ends_with(".localhost") || h.parse::<std::net::Ipv4Addr>().is_ok()
        };
        if let Some(host) = hosts.iter().find(|h| public(h)) {
            let fault = ValueError::new(format!("no public CA gives `{host}` a certificate"));
            r.fault("hosts", fault.help("write `tls = \"internal\"` or `tls = \"off\"`"));
        }
    }
    Some(Caddy {
        image: image?,
        hosts: hosts?,
        tls: tls?,
        block: block?,
        http_port: http_port?,
        https_port: https_port?,
        health: health?,
        trusted_proxies: trusted_proxies?,
        headers_up: headers_up?,
        sticky: sticky?,
        extra: extra?,
    })
}

pub(super) fn verify(tree: &Tree<'_>, problems: &mut Problems<'_>) -> Option<Verify> {
    let mut r = Reader { table: &tree.table("verify"), problems };
    let require_signature = r.boolean("require_signature");
    Some(Verify { require_signature: require_signature? })
}

/// An argv may be empty, but its program may not.
pub(super) fn no_empty_program(r: &mut Reader<'_, '_, '_>, key: &str, argv: Option<&[String]>) {
    if argv.and_then(<[String]>::first).is_some_and(String::is_empty) {
        r.fault(key, ValueError::new(format!("the program in `{key}` is an empty string")));
    }
}
