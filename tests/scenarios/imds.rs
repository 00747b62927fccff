//! The metadata service of EC2 and the services of AWS, on the port of the registry.

#[path = "../../agent/host/aws/testing.rs"]
pub mod aws;
#[path = "../../agent/host/imds/testing.rs"]
mod testing;

use crate::http::{self, Request};
use crate::state::{How, State};

/// `None`: the request is not for it.
pub fn answer(state: &mut State, request: &Request) -> Option<String> {
    let mut call = request.head.split(" HTTP/").next().unwrap_or_default().to_owned();
    let is_aws = call == "POST /";
    if is_aws {
        let target = request.head.lines().find_map(|line| line.strip_prefix("x-amz-target: "));
        call = target.unwrap_or_default().to_owned();
    }
    if !is_aws && !call.contains(" /latest/") {
        return None;
    }
    state.calls.push(call.clone());
    match state.fault(&call) {
        Some(How::Status(status, _)) => return Some(http::json(status, "", "")),
        Some(_) => return Some("\0HOLD".to_owned()),
        None => {}
    }
    let (status, body) = match is_aws {
        true => aws::answer(&state.vault, &request.head, &request.body),
        false => testing::answer(&state.facts, &request.head),
    };
    Some(http::json(status, "", &body))
}
