//! The metadata service of EC2, on the port of the registry.

#[path = "../../agent/host/imds/testing.rs"]
mod testing;

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
    let (status, body) = testing::answer(&state.facts, &request.head);
    Some(http::json(status, "", &body))
}
