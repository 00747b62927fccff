//! The metadata service of EC2, version 2: a GET needs the token of a PUT. On the port of the registry.

use crate::http::{self, Request};
use crate::state::{How, State};

/// `None`: the request is not for it.
pub fn answer(state: &mut State, request: &Request) -> Option<String> {
    let call = request.head.split(" HTTP/").next().unwrap_or_default().to_owned();
    if !call.contains(" /latest/") {
        return None;
    }
    state.calls.push(call.clone());
    match state.fault(&call) {
        Some(How::Status(status, _)) => return Some(http::json(status, "", "")),
        Some(_) => return Some("\0HOLD".to_owned()),
        None => {}
    }
    let head = request.head.to_lowercase();
    let has_token = head.contains("x-aws-ec2-metadata-token: a-token");
    let fact = call.strip_prefix("GET /latest/meta-data/").and_then(|fact| state.facts.get(fact));
    Some(match fact {
        _ if call == "PUT /latest/api/token" => http::json(200, "", "a-token"),
        _ if !has_token => http::json(401, "", ""),
        Some(text) => http::json(200, "", text),
        None => http::json(404, "", ""),
    })
}
