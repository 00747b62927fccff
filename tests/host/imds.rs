//! A stand-in of the metadata service of EC2: serves 169.254.169.254:80, or `--at=ADDRESS`, until it is killed. The facts
//! are its other arguments, `NAME=TEXT`; `/user-data` and `/dynamic/…` are those outside of `meta-data`.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may fail by panicking")]

#[path = "../../agent/host/imds/testing.rs"]
mod imds;
#[path = "../../agent/host/http/testing.rs"]
#[allow(dead_code, reason = "tests of the agent use the rest")]
mod testing;

use std::collections::BTreeMap;
use std::net::SocketAddr;

#[tokio::main]
async fn main() {
    let arguments = std::env::args().skip(1);
    let facts =
        arguments.filter_map(|fact| fact.split_once('=').map(|(name, text)| (name.into(), text.into())));
    let mut facts: BTreeMap<String, String> = facts.collect();
    let at = facts.remove("--at").map(|at| at.parse().unwrap());
    let at = at.unwrap_or_else(|| SocketAddr::from(([169, 254, 169, 254], 80)));
    let answer = move |request: testing::Request| {
        let (status, body) = imds::answer(&facts, &request.head);
        testing::json(status, "", &body)
    };
    let _server = testing::serve_at(at, answer).await;
    std::future::pending::<()>().await;
}
