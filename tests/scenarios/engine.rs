//! podman's service on its socket: the part of the REST API that the agent uses.

use serde_json::{Value, json};

use crate::http::{self, Request};
use crate::state::{How, Shared, State};

pub fn serve(shared: &Shared) -> http::UnixServer {
    let (path, owner) = (shared.lock().root.join("run/podman/podman.sock"), shared.clone());
    http::serve_unix_at(path, move |request| answer(&mut owner.lock(), &request))
}

fn answer(state: &mut State, request: &Request) -> String {
    let call = request.head.split(" HTTP/").next().unwrap_or_default();
    let (method, target) = call.split_once(' ').unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    match state.fault(call) {
        Some(How::Status(status, message)) => return says(status, message),
        Some(How::HangsUp) => return String::new(),
        Some(How::Says(message)) => return http::json(200, "", &json!({"error": message}).to_string()),
        Some(_) => return "\0HOLD".to_owned(),
        None => {}
    }
    match (method, path) {
        ("GET", "/_ping") => http::json(200, "Server: Libpod/5.4.2 (linux)\r\n", "OK"),
        ("GET", "/info") => ok(&json!({"DockerRootDir": "/var/lib/containers/storage"})),
        ("GET", "/v4.0.0/libpod/containers/json") => ok(&containers(state)),
        ("GET", "/containers/json") => ok(&json!([])),
        ("GET", "/networks") => ok(&state.networks.iter().map(|name| json!({"Name": name})).collect()),
        ("POST", "/networks/create") => {
            let asked: Value = serde_json::from_str(&request.body).unwrap();
            let name = asked["Name"].as_str().unwrap().to_owned();
            state.note(format!("create network {name}"));
            state.networks.insert(name);
            ok(&json!({"Id": "1", "Warning": ""}))
        }
        ("GET", "/images/json") => ok(&state.local.iter().map(|image| listed(image)).collect()),
        ("POST", "/images/create") => {
            let image = pulled(query);
            state.note(format!("pull {image}"));
            if !state.images.contains_key(image.split('@').nth(1).unwrap_or_default()) {
                return says(404, "manifest unknown");
            }
            state.local.insert(image);
            ok(&json!({"status": "Pull complete", "id": "layer"}))
        }
        _ => by_name(state, method, path),
    }
}

/// `/images/NAME/json`, `/images/NAME`, `/containers/NAME`.
fn by_name(state: &mut State, method: &str, path: &str) -> String {
    let Some((kind, name)) = path.trim_start_matches('/').split_once('/') else {
        return says(404, "no such call");
    };
    let inspected = name.strip_suffix("/json");
    match (method, kind, inspected) {
        ("GET", "images", Some(name)) if state.local.contains(name) => {
            ok(&json!({"Id": name, "RepoDigests": [name]}))
        }
        ("DELETE", "images", _) => {
            state.note(format!("remove {name}"));
            match state.local.remove(name) {
                true => ok(&json!([])),
                false => says(404, "no such image"),
            }
        }
        ("DELETE", "containers", _) => {
            state.note(format!("remove container {name}"));
            state.containers.remove(name);
            ok(&json!({}))
        }
        _ => says(404, "no such object"),
    }
}

fn containers(state: &State) -> Value {
    let all = state.containers.iter();
    all.map(|(name, seen)| json!({"Id": name, "Names": [name], "State": seen.state, "Labels": seen.labels}))
        .collect()
}

fn listed(image: &str) -> Value {
    json!({
        "Id": image, "RepoDigests": [image], "ParentId": "", "RepoTags": null, "Created": 5, "Size": 1,
        "SharedSize": 0, "Containers": 0, "Labels": null
    })
}

/// `fromImage=127.0.0.1%3A5000%2Fshop&tag=sha256%3A…`
fn pulled(query: &str) -> String {
    let query = query.replace("%3A", ":").replace("%2F", "/");
    let value = |key: &str| {
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(name, _)| *name == key).map(|(_, value)| value.to_owned()).unwrap_or_default()
    };
    format!("{}@{}", value("fromImage"), value("tag"))
}

fn ok(body: &Value) -> String {
    http::json(200, "", &body.to_string())
}

fn says(status: u16, message: &str) -> String {
    http::json(status, "", &json!({"message": message, "cause": message}).to_string())
}
