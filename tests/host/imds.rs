//! A stand-in of the metadata service of EC2, as strict as IMDSv2 with a required token: a PUT with a lifetime gives
//! one, and every GET shows it. Serves 169.254.169.254:80 until it is killed; the facts are its arguments, `NAME=TEXT`.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may fail by panicking")]

#[path = "../../agent/host/http/testing.rs"]
#[allow(dead_code, reason = "tests of the agent use the rest")]
mod testing;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use testing::{Request, json};

const TOKEN: &str = "AQAEAHhpZ2hseSBzZWNyZXQ=";

fn answer(facts: &BTreeMap<String, String>, request: &Request) -> String {
    let head = request.head.to_lowercase();
    let line = request.head.lines().next().unwrap_or_default();
    let header = |name: &str| {
        let mut values = head.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        values.next().map(str::trim)
    };
    if line.starts_with("PUT /latest/api/token ") {
        let seconds =
            header("x-aws-ec2-metadata-token-ttl-seconds").and_then(|text| text.parse::<u32>().ok());
        return match seconds {
            // A request that came by way of a proxy gets no token.
            Some(1..=21600) if header("x-forwarded-for").is_none() => json(200, "", TOKEN),
            _ => json(400, "", ""),
        };
    }
    let fact = line.strip_prefix("GET /latest/meta-data/").and_then(|rest| rest.split(' ').next());
    match fact.and_then(|fact| facts.get(fact)) {
        _ if header("x-aws-ec2-metadata-token") != Some(&TOKEN.to_lowercase()) => json(401, "", ""),
        Some(text) => json(200, "", text),
        None => json(404, "", ""),
    }
}

#[tokio::main]
async fn main() {
    let arguments = std::env::args().skip(1);
    let facts =
        arguments.filter_map(|fact| fact.split_once('=').map(|(name, text)| (name.into(), text.into())));
    let facts: BTreeMap<String, String> = facts.collect();
    let at = SocketAddr::from(([169, 254, 169, 254], 80));
    let _server = testing::serve_at(at, move |request| answer(&facts, &request)).await;
    std::future::pending::<()>().await;
}
