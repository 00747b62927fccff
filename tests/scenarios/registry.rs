//! A registry on a loopback port: `HEAD /v2/NAME/manifests/TAG`.

use std::net::SocketAddr;

use crate::http::{self, Request, Server};
use crate::imds;
use crate::state::{How, Shared, State};

pub async fn serve(shared: &Shared, address: SocketAddr) -> Server {
    let owner = shared.clone();
    http::serve_at(address, move |request| answer(&mut owner.lock(), &request)).await
}

fn answer(state: &mut State, request: &Request) -> String {
    if let Some(answer) = imds::answer(state, request) {
        return answer;
    }
    let call = request.head.split(" HTTP/").next().unwrap_or_default();
    match state.fault(call) {
        Some(How::Status(status, _)) => return http::json(status, "", ""),
        Some(_) => return "\0HOLD".to_owned(),
        None => {}
    }
    let tag = call.strip_prefix("HEAD /v2/").unwrap_or_default().replace("/manifests/", ":");
    match state.tags.get(&tag) {
        Some(digest) => http::json(200, &format!("Docker-Content-Digest: {digest}\r\n"), ""),
        None => http::json(404, "", ""),
    }
}
