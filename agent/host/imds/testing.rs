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
    if header("x-aws-ec2-metadata-token") != Some(TOKEN) {
        return nothing(401);
    }
    let path = line.strip_prefix("GET /").and_then(|rest| rest.split(' ').next()).and_then(name);
    match path.and_then(|name| facts.get(&name).cloned().or_else(|| listing(facts, &name))) {
        Some(text) => (200, text),
        None => nothing(404),
    }
}

/// The fact of a path, below the latest version or a dated one: `public-ipv4` of `latest/meta-data/public-ipv4`,
/// `/user-data` of `2021-03-23/user-data`.
fn name(path: &str) -> Option<String> {
    let (version, rest) = path.split_once('/')?;
    let is_date = version.len() == 10 && version.chars().all(|c| c.is_ascii_digit() || c == '-');
    let name = || rest.strip_prefix("meta-data/").map_or_else(|| format!("/{rest}"), str::to_owned);
    (version == "latest" || is_date).then(name)
}

/// The names below a category; those that are categories themselves end with `/`.
fn listing(facts: &BTreeMap<String, String>, name: &str) -> Option<String> {
    let below = if name.is_empty() { String::new() } else { format!("{}/", name.trim_end_matches('/')) };
    let names = facts.keys().filter_map(|fact| {
        let rest = fact.strip_prefix(&below).filter(|rest| !rest.starts_with('/'))?;
        Some(rest.split_inclusive('/').next().unwrap_or(rest))
    });
    let names: Vec<&str> = names.collect::<std::collections::BTreeSet<_>>().into_iter().collect();
    (!names.is_empty()).then(|| names.join("\n"))
}
