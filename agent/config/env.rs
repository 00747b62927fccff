//! `[env]`: the source of each variable of the application. Errors here never show a value. Called by
//! load.rs.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;

use toml::de::{DeTable, DeValue};

use super::EnvSource;
use super::error::{Problems, Show, Span, ValueError};
use super::read::Reader;
use super::site::region;
use super::tree::{Node, Tree, describe};
use super::value;
use crate::model::envfile::{MANAGED_KEYS, check_value, is_reserved};
use crate::model::instance::ServiceName;
use crate::model::name::EnvKey;
use crate::model::secret::Secret;

const SOURCES: [&str; 5] = ["generate", "file", "host", "secret", "parameter"];
/// Stands beside `host`.
const ALSO: &str = "also";
/// Stands beside `secret`.
const KEY: &str = "key";
/// Each source that may have another key beside it.
const BESIDE: [(&str, &str); 2] = [("host", ALSO), ("secret", KEY)];
/// The longest name or ARN of a secret or parameter: an ARN of a parameter of 1011 characters (AWS limits).
const LONGEST_ID: usize = 2048;

/// The source of each variable, and its location.
type Env = (BTreeMap<EnvKey, EnvSource>, BTreeMap<EnvKey, String>);

pub(super) fn env(tree: &Tree<'_>, problems: &mut Problems<'_>) -> Env {
    let (mut env, mut places) = Env::default();
    for node in tree.table("env").nodes.values() {
        let name = node.name.parse::<EnvKey>();
        let source = source(node, problems);
        match name {
            Err(error) => problems.add(&node.key, Show::UpToMark, error),
            Ok(_) if is_reserved(node.name) => {
                let message = format!("`{}` is the agent's own and cannot be set", node.name);
                let fault = ValueError::new(message).help("give the variable another name");
                problems.add(&node.key, Show::UpToMark, fault);
            }
            Ok(name) => {
                places.insert(name.clone(), problems.locate(&node.key));
                env.extend(source.map(|source| (name, source)));
            }
        }
    }
    (env, places)
}

fn source(node: &Node<'_>, problems: &mut Problems<'_>) -> Option<EnvSource> {
    let fault = match node.value {
        DeValue::String(text) => match check_value(text) {
            // The line also holds the name and `=`.
            Ok(()) if node.name.len() + 1 + text.len() > 32 << 10 => {
                ValueError::new(format!("the value of `{}` is longer than 32 KiB", node.name))
            }
            Ok(()) => return Some(EnvSource::Literal(Secret::new(text.as_ref()))),
            Err(error) => {
                let fault =
                    ValueError::new(format!("the value of `{}` cannot be written: {error}", node.name));
                let fault = match text.starts_with(['\'', '"']) {
                    true => fault.help("leave the inner quotes out, unless they belong to the value"),
                    false => fault,
                };
                fault.help("such a value can be a file instead: mount it (`volumes`), and set its path here")
            }
        },
        DeValue::Table(table) => return table_source(node, table, problems),
        DeValue::Array(_) => ValueError::new(format!(
            "`{}` must be a string or one of {}",
            node.name,
            SOURCES.map(|source| format!("`{{ {source} = … }}`")).join(", ")
        )),
        other => ValueError::new(format!("`{}` must be a string, found {}", node.name, describe(other)))
            .help("put the value in quotes"),
    };
    problems.add(&node.span, node.show(), fault);
    None
}

fn table_source<'a>(
    node: &Node<'a>,
    table: &'a DeTable<'a>,
    problems: &mut Problems<'_>,
) -> Option<EnvSource> {
    let mut add = |bytes, fault| problems.add(&Span { file: node.span.file, bytes }, node.show(), fault);
    let beside = |key: &str| BESIDE.iter().any(|(of, beside)| *beside == key && table.contains_key(*of));
    let known = |key: &str| SOURCES.contains(&key) || beside(key);
    let is_whole = table.keys().all(|key| known(key.get_ref()));
    for key in table.keys().filter(|k| !known(k.get_ref())) {
        add(key.span(), unknown_key(node.name, key.get_ref(), table));
    }
    let mut sources = table.iter().filter(|(k, _)| SOURCES.contains(&k.get_ref().as_ref()));
    let (Some((key, value)), None) = (sources.next(), sources.next()) else {
        if is_whole {
            let message = format!("`{}` must have exactly one of: {}", node.name, SOURCES.join(", "));
            add(node.span.bytes.clone(), ValueError::new(message));
        }
        return None;
    };
    let source = match (key.get_ref().as_ref(), value.get_ref()) {
        ("host", facts) => match (host_facts(facts), also(table)) {
            (Ok(facts), Ok(also)) => Ok(EnvSource::Host { facts, also }),
            (Err(fault), _) => Err((value.span(), fault)),
            (_, Err(at_its_place)) => Err(at_its_place),
        },
        ("secret", id) => match (aws_id("secret", id), secret_key(table)) {
            (Ok(id), Ok(key)) => Ok(EnvSource::Secret { id, key }),
            (Err(fault), _) => Err((value.span(), fault)),
            (_, Err(at_its_place)) => Err(at_its_place),
        },
        ("parameter", id) => {
            aws_id("parameter", id).map(EnvSource::Parameter).map_err(|fault| (value.span(), fault))
        }
        (name, other) => local_source(name, other).map_err(|fault| (value.span(), fault)),
    };
    match source {
        Ok(source) => Some(source).filter(|_| is_whole),
        Err((span, fault)) => {
            add(span, fault);
            None
        }
    }
}

/// `generate` or `file`.
fn local_source(name: &str, value: &DeValue<'_>) -> Result<EnvSource, ValueError> {
    match (name, value) {
        ("generate", DeValue::Integer(number)) => {
            let length = usize::from_str_radix(number.as_str(), number.radix()).ok();
            let length = length.filter(|n| (8..=1024).contains(n));
            let length =
                length.ok_or_else(|| ValueError::new("`generate` must be a length from 8 to 1024"))?;
            Ok(EnvSource::Generate { length })
        }
        ("file", DeValue::String(path)) => Ok(EnvSource::File(PathBuf::from(value::absolute(path)?))),
        ("generate", other) => {
            Err(ValueError::new(format!("`generate` must be an integer, found {}", describe(other))))
        }
        (_, other) => Err(ValueError::new(format!("`file` must be a string, found {}", describe(other)))),
    }
}

fn unknown_key(of: &str, key: &str, table: &DeTable<'_>) -> ValueError {
    if let Some((source, _)) = BESIDE.iter().find(|(_, beside)| *beside == key) {
        return ValueError::new(format!("`{key}` stands beside `{source}` alone, in `{of}`"));
    }
    match BESIDE.iter().find(|(source, _)| table.contains_key(*source)) {
        Some((source, beside)) => {
            let message = format!("unknown key `{key}` beside `{source}` for `{of}`");
            ValueError::unknown(message, key, "keys", &[beside])
        }
        None => ValueError::unknown(format!("unknown source `{key}` for `{of}`"), key, "sources", &SOURCES),
    }
}

/// Categories of the instance metadata of EC2 that have one value.
/// Source: EC2 User Guide, "Instance metadata categories".
const FACTS: [&str; 12] = [
    "ami-id",
    "instance-id",
    "instance-type",
    "ipv6",
    "local-hostname",
    "local-ipv4",
    "mac",
    "placement/availability-zone",
    "placement/availability-zone-id",
    "placement/region",
    "public-hostname",
    "public-ipv4",
];
/// Below it is each tag of the instance, if its metadata may have them.
const TAGS: &str = "tags/instance/";

/// `host = FACT or [FACTS]`.
fn host_facts(value: &DeValue<'_>) -> Result<Vec<String>, ValueError> {
    let facts = texts("host", value)?;
    let tag = |fact: &str| {
        let name = fact.strip_prefix(TAGS).unwrap_or_default();
        // A path would lead elsewhere.
        !["", ".", "..", "_index"].contains(&name)
            && name.chars().all(|c| c.is_ascii_alphanumeric() || "+-=.,_:@".contains(c))
    };
    if let Some(unknown) = facts.iter().find(|fact| !FACTS.contains(&fact.as_str()) && !tag(fact)) {
        let message = format!("unknown fact of an EC2 instance `{}`", value::clip(unknown));
        let known: Vec<&str> = FACTS.into_iter().chain(["tags/instance/NAME"]).collect();
        return Err(ValueError::unknown(message, unknown, "facts", &known));
    }
    match facts.is_empty() {
        true => {
            Err(ValueError::new("`host` needs a fact of the EC2 instance").help("e.g. [\"public-ipv4\"]"))
        }
        false => Ok(facts),
    }
}

/// `also = TEXT or [TEXTS]`: parts of a value, which no error shows. An error comes with its place.
fn also(table: &DeTable<'_>) -> Result<Vec<String>, (Range<usize>, ValueError)> {
    let Some(value) = table.get(ALSO) else { return Ok(Vec::new()) };
    let at = |fault| (value.span(), fault);
    let texts = texts(ALSO, value.get_ref()).map_err(at)?;
    for (index, text) in texts.iter().enumerate() {
        let what = match check_value(text) {
            _ if text.is_empty() => "it is empty".to_owned(),
            _ if text.contains(',') => "it has a comma, which begins the next text of the value".to_owned(),
            Err(error) => error.to_string(),
            Ok(()) => continue,
        };
        let message = format!("text {} of `{ALSO}` cannot be written: {what}", index + 1);
        return Err(at(ValueError::new(message)));
    }
    Ok(texts)
}

/// The name or the ARN of a secret or parameter. An error does not show it: it may be the value itself.
fn aws_id(what: &str, value: &DeValue<'_>) -> Result<String, ValueError> {
    let DeValue::String(text) = value else {
        return Err(ValueError::new(format!("`{what}` must be a string, found {}", describe(value))));
    };
    // Source: Secrets Manager CreateSecret (Name), Systems Manager PutParameter (Name), "Referencing ARNs".
    let is_part = |c: char| c.is_ascii_alphanumeric() || "/_+=.@:-".contains(c);
    let mut parts = text.split(':');
    if parts.next() == Some("arn") {
        // arn:PARTITION:SERVICE:REGION:ACCOUNT:…: the region becomes part of a host name.
        let service = if what == "secret" { "secretsmanager" } else { "ssm" };
        let is_whole = parts.nth(1) == Some(service) && parts.next().is_some_and(|part| region(part).is_ok());
        if !is_whole || parts.count() < 2 {
            return Err(ValueError::new(format!("this is not the ARN of a {what}"))
                .help(format!("e.g. \"arn:aws:{service}:eu-central-1:123456789012:…\"")));
        }
    }
    match (1..=LONGEST_ID).contains(&text.len()) && text.chars().all(is_part) {
        true => Ok(text.to_string()),
        false => Err(ValueError::new(format!("this is neither the name nor the ARN of a {what}"))
            .help("names have letters, digits and /_+=.@- alone")),
    }
}

/// `key = NAME`, of a value in a JSON object. An error comes with its place.
fn secret_key(table: &DeTable<'_>) -> Result<Option<String>, (Range<usize>, ValueError)> {
    let Some(value) = table.get(KEY) else { return Ok(None) };
    match value.get_ref() {
        DeValue::String(text) if !text.is_empty() => Ok(Some(text.to_string())),
        DeValue::String(_) => Err((value.span(), ValueError::new("`key` is empty"))),
        other => {
            Err((value.span(), ValueError::new(format!("`key` must be a string, found {}", describe(other)))))
        }
    }
}

/// One text or a list of them.
fn texts(key: &str, value: &DeValue<'_>) -> Result<Vec<String>, ValueError> {
    let wrong = |other: &DeValue<'_>| {
        ValueError::new(format!("`{key}` must be a string or a list of strings, found {}", describe(other)))
    };
    match value {
        DeValue::String(text) => Ok(vec![text.to_string()]),
        DeValue::Array(items) => {
            let text = |item: &DeValue<'_>| match item {
                DeValue::String(text) => Ok(text.to_string()),
                other => Err(wrong(other)),
            };
            items.iter().map(|item| text(item.get_ref())).collect()
        }
        other => Err(wrong(other)),
    }
}

/// `inherit_env`, `env` and `secrets`.
pub(super) type Environment = (bool, BTreeMap<EnvKey, String>, BTreeMap<EnvKey, EnvKey>);

/// The app has `[env]` alone. `on_host`: each instance gets its own address.
pub(super) fn environment(
    r: &mut Reader<'_, '_, '_>,
    name: ServiceName,
    on_host: bool,
    required: Option<&[EnvKey]>,
) -> Option<Environment> {
    if name.is_app() {
        return Some((true, BTreeMap::new(), BTreeMap::new()));
    }
    let env = public_env(r);
    let secrets = secret_env(r, env.as_ref());
    let own = |key: &&EnvKey| on_host && ["PORT", "HOST"].contains(&key.as_str());
    let of_env = env.iter().flat_map(BTreeMap::keys).find(own).map(|key| ("env", key));
    let of_secrets = secrets.iter().flat_map(BTreeMap::keys).find(own).map(|key| ("secrets", key));
    if let Some((table, own)) = of_env.or(of_secrets) {
        let fault = ValueError::new(format!("with network = \"host\" each instance gets its own {own}"));
        r.fault(table, fault.help("leave it out"));
    }
    let inherit_env = r.boolean("inherit_env");
    never_set(r, inherit_env, required);
    Some((inherit_env?, env?, secrets?))
}

/// `secrets`, none of them also in `env`.
fn secret_env(
    r: &mut Reader<'_, '_, '_>,
    env: Option<&BTreeMap<EnvKey, String>>,
) -> Option<BTreeMap<EnvKey, EnvKey>> {
    let secrets = r.optional("secrets", secrets).map(Option::unwrap_or_default)?;
    if let Some(name) = secrets.keys().find(|name| env.is_some_and(|env| env.contains_key(*name))) {
        r.fault("secrets", ValueError::new(format!("`{name}` is in `env` and in `secrets`")));
        return None;
    }
    Some(secrets)
}

/// A service without the environment of the application has a variable by `env` or `secrets` alone.
fn never_set(r: &mut Reader<'_, '_, '_>, inherit_env: Option<bool>, required: Option<&[EnvKey]>) {
    if inherit_env == Some(false) && required.is_some_and(|names| !names.is_empty()) {
        let fault = ValueError::new(
            "`required_env` is of the application's environment, which `inherit_env = false` excludes",
        );
        r.fault("required_env", fault.help("leave it out: each of `secrets` must have a value"));
    }
}

/// `env` of a job or a service, added to `[env]`. These variables are part of a command line, which every user of
/// the host may read.
pub(super) fn public_env(r: &mut Reader<'_, '_, '_>) -> Option<BTreeMap<EnvKey, String>> {
    if r.node("env").is_none() {
        return Some(BTreeMap::new());
    }
    let entries = r.entries("env")?;
    let mut env = BTreeMap::new();
    for node in &entries {
        let show = Show::OnlyKey(node.name);
        let key = match node.name.parse::<EnvKey>() {
            Ok(key) if !MANAGED_KEYS.contains(&key.as_str()) => key,
            Ok(key) => {
                let message = format!("`{key}` is the agent's own and cannot be set");
                r.problems.add(&node.key, Show::UpToMark, ValueError::new(message));
                continue;
            }
            Err(error) => {
                r.problems.add(&node.key, Show::UpToMark, error);
                continue;
            }
        };
        let DeValue::String(text) = node.value else {
            let message = format!("`{key}` must be a string, found {}", describe(node.value));
            let fault = ValueError::new(message).help("a secret belongs under [env], which it gets as well");
            r.problems.add(&node.span, show, fault);
            continue;
        };
        match check_value(text) {
            Ok(()) => _ = env.insert(key, text.to_string()),
            Err(error) => {
                let message = format!("the value of `{key}` cannot be written: {error}");
                r.problems.add(&node.span, show, ValueError::new(message));
            }
        }
    }
    (env.len() == entries.len()).then_some(env)
}

/// `secrets` of a service: `{ POSTGRES_PASSWORD = "DATABASE_PASSWORD" }`
fn secrets(r: &mut Reader<'_, '_, '_>, key: &str) -> Option<BTreeMap<EnvKey, EnvKey>> {
    let entries = r.entries(key)?;
    let mut secrets = BTreeMap::new();
    for node in &entries {
        let of = match node.value {
            DeValue::String(text) => text.parse::<EnvKey>().map_err(|_| {
                // The text may be the secret itself: it is not shown.
                ValueError::new(format!("`{}` must be the name of a variable", node.name))
                    .help("the value itself belongs under [env], or to `astra-agent env set`")
            }),
            other => {
                Err(ValueError::new(format!("`{}` must be a string, found {}", node.name, describe(other))))
            }
        };
        match (node.name.parse::<EnvKey>(), of) {
            (Ok(name), _) if is_reserved(name.as_str()) => {
                let fault = ValueError::new(format!("`{name}` is the agent's own and cannot be set"));
                r.problems.add(&node.key, Show::UpToMark, fault);
            }
            (Ok(name), Ok(of)) => _ = secrets.insert(name, of),
            (Err(error), _) => r.problems.add(&node.key, Show::UpToMark, error),
            (_, Err(fault)) => r.problems.add(&node.span, Show::OnlyKey(node.name), fault),
        }
    }
    (secrets.len() == entries.len()).then_some(secrets)
}
