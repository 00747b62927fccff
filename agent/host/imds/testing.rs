//! The answers of the metadata service, as strict as IMDSv2 with a required token. tests/scenarios.rs and the program
//! tests/host/imds.rs use it, too.

use std::collections::BTreeMap;

/// The token of every answer.
pub const TOKEN: &str = "AQAEAHhpZ2hseSBzZWNyZXQ=";

/// Status and body for a request with this head. `facts`: their texts by category.
pub fn answer(facts: &BTreeMap<String, String>, head: &str) -> (u16, String) {
    let nothing = |status| (status, String::new());
    let line = head.lines().next().unwrap_or_default();
    let header = |name: &str| {
        let is_it = |line: &&str| line.split(':').next().is_some_and(|is| is.eq_ignore_ascii_case(name));
        head.lines().skip(1).find(is_it).and_then(|line| line.split_once(": ")).map(|(_, value)| value.trim())
    };
    if line.starts_with("PUT /latest/api/token ") {
        let seconds =
            header("x-aws-ec2-metadata-token-ttl-seconds").and_then(|text| text.parse::<u32>().ok());
        return match seconds {
            // A request that came by way of a proxy gets no token.
            Some(1..=21600) if header("x-forwarded-for").is_none() => (200, TOKEN.to_owned()),
            _ => nothing(400),
        };
    }
    let fact = line.strip_prefix("GET /latest/meta-data/").and_then(|rest| rest.split(' ').next());
    match fact.and_then(|fact| facts.get(fact)) {
        _ if header("x-aws-ec2-metadata-token") != Some(TOKEN) => nothing(401),
        Some(text) => (200, text.clone()),
        None => nothing(404),
    }
}
