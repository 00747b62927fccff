//! Caddy: its admin socket (caddyserver.com/docs/api), and the health routes of the instances.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;

use astra_agent::model::instance::{InstanceId, InstanceName, ServiceName};

use crate::http::{self, Request, json};
use crate::state::{How, Shared, State};
use crate::units;

/// Directives that this Caddy does not know.
const UNKNOWN: [&str; 1] = ["nonsense"];

/// Caddy's message about this Caddyfile, if it is invalid.
pub fn error_in(caddyfile: &str) -> Option<String> {
    let line = caddyfile.lines().position(|line| UNKNOWN.iter().any(|word| line.contains(word)))? + 1;
    Some(format!("adapting config using caddyfile: Caddyfile:{line}: unrecognized directive: nonsense"))
}

/// Starts with this Caddyfile.
pub async fn up(shared: &Shared, caddyfile: String) {
    listen(shared, caddyfile).await;
    let (path, admin) = (shared.lock().root.join("run/astra/caddy/admin.sock"), shared.clone());
    let _ = std::fs::remove_file(&path);
    let socket = http::serve_unix_at(path, move |request| answer(&admin, &request));
    shared.lock().caddy.socket = Some(socket);
}

pub async fn down(shared: &Shared) {
    let socket = shared.lock().caddy.socket.take();
    if let Some(socket) = socket {
        socket.stop().await;
    }
    close_routes(shared).await;
    shared.lock().caddy.runs = None;
}

/// Makes `caddyfile` the config in force, with a health route for each instance in it.
async fn listen(shared: &Shared, caddyfile: String) {
    close_routes(shared).await;
    let port = shared.lock().health_port;
    let numbers: BTreeSet<_> = instances(&caddyfile).into_iter().map(|(id, _)| id.number).collect();
    for number in numbers {
        let address = SocketAddr::from((number.address(), port));
        let owner = shared.clone();
        let route = http::serve_at(address, move |request| health(&mut owner.lock(), number, &request)).await;
        shared.lock().caddy.routes.push(route);
    }
    shared.lock().caddy.runs = Some(caddyfile);
}

async fn close_routes(shared: &Shared) {
    let routes = std::mem::take(&mut shared.lock().caddy.routes);
    for route in routes {
        route.stop().await;
    }
}

/// The instances with a health route in this Caddyfile, and the address of each.
fn instances(caddyfile: &str) -> Vec<(InstanceName, String)> {
    let route = |line: &str| {
        let (_, rest) = line.trim().strip_prefix("import health_")?.split_once(" /")?;
        let (instance, address) = rest.split_once(' ')?;
        Some((instance.parse().ok()?, address.to_owned()))
    };
    caddyfile.lines().filter_map(route).collect()
}

/// The routes of the instances with one number, as caddy/Caddyfile has them.
fn health(state: &mut State, number: InstanceId, request: &Request) -> String {
    let path = request.head.split(' ').nth(1).unwrap_or_default();
    let (service, path) = match path.strip_prefix("/services/").and_then(|rest| rest.split_once('/')) {
        Some((service, _)) => (service.parse().unwrap(), &path["/services/".len() + service.len()..]),
        None => (ServiceName::app(), path),
    };
    let instance = InstanceName { service, number };
    if state.caddy.hangs {
        return "\0HOLD".to_owned();
    }
    if state.caddy.cuts > 0 {
        state.caddy.cuts -= 1;
        return String::new();
    }
    let marked = !state.caddy.blind && state.is_there(&format!("/run/astra/drain/{instance}"));
    if marked && path != "/app" {
        let works = path == "/" && state.is_there("/run/astra/drain/any");
        return json(if works { 200 } else { 503 }, "", "drained");
    }
    match units::status(state, instance) {
        Some(status) => json(status, "", "ok"),
        None => json(503, "", "no answer: connection refused"),
    }
}

fn answer(shared: &Shared, request: &Request) -> String {
    let call = request.head.split(" HTTP/").next().unwrap_or_default().to_owned();
    let mut state = shared.lock();
    if state.caddy.hangs {
        return "\0HOLD".to_owned();
    }
    match state.fault(&call) {
        Some(How::Status(status, message)) => return error(status, message),
        Some(_) => return "\0HOLD".to_owned(),
        None => {}
    }
    let running = state.caddy.runs.clone().unwrap_or_default();
    match call.as_str() {
        "POST /adapt" => match error_in(&request.body) {
            Some(message) => error(400, &message),
            None => json(200, "", &format!(r#"{{"result":{}}}"#, config(&request.body))),
        },
        "POST /load" => match error_in(&request.body) {
            Some(message) => error(400, &message),
            None => {
                state.note("load".to_owned());
                let (owner, text) = (shared.clone(), request.body.clone());
                // Caddy answers first: this connection is none of those that a load closes.
                state.caddy.runs = Some(text.clone());
                tokio::spawn(async move { listen(&owner, text).await });
                json(200, "", "")
            }
        },
        "GET /config/" => json(200, "", &config(&running)),
        "GET /reverse_proxy/upstreams" => json(200, "", &upstreams(&running)),
        "GET /metrics" => {
            // Ten visitors between two looks.
            state.caddy.answered.0 += 10;
            state.caddy.answered.1 += state.caddy.errors;
            let (all, bad) = state.caddy.answered;
            let of = |code: u16, count: u64| {
                format!(
                    "caddy_http_response_duration_seconds_count{{code=\"{code}\",handler=\"subroute\",server=\"app\"}} {count}\n"
                )
            };
            json(200, "", &(of(200, all - bad) + &of(500, bad)))
        }
        _ => json(404, "", ""),
    }
}

fn error(status: u16, message: &str) -> String {
    json(status, "", &serde_json::json!({"error": message}).to_string())
}

/// Caddy's JSON is another one for every Caddyfile.
fn config(caddyfile: &str) -> String {
    let mut sum = DefaultHasher::new();
    caddyfile.hash(&mut sum);
    serde_json::json!({"apps": {"http": sum.finish()}}).to_string()
}

/// Each instance has two addresses: for requests and for streams.
fn upstreams(caddyfile: &str) -> String {
    let all = instances(caddyfile).into_iter().flat_map(|(_, address)| {
        let (ip, port) = address.rsplit_once(':').unwrap();
        [address.to_owned(), format!("[::ffff:{ip}]:{port}")]
    });
    let all = all.map(|address| serde_json::json!({"address": address, "num_requests": 0, "fails": 0}));
    serde_json::Value::from(all.collect::<Vec<_>>()).to_string()
}
