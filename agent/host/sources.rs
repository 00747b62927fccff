//! The sources of `[env]`: random values, files, facts of the EC2 instance, secrets and parameters of AWS. Called for a
//! plan, and by cli/check.rs, so that both agree.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use futures_util::future::join_all;
use serde_json::Value;

use super::aws::{AwsClient, Item};
use super::facts;
use super::imds::Imds;
use crate::config::{Config, EnvSource};
use crate::model::envfile::check_value;
use crate::model::observed::Given;

/// Reads every source of `[env]` on this host. A generated value is used only if none is kept yet. A source without a
/// value is no error here: only a deploy needs it, and refuses.
///
/// # Errors
///
/// The kernel gives no random bytes.
pub fn local(config: &Config) -> Result<Given> {
    let mut given = Given::default();
    for (key, source) in &config.env {
        let value = match source {
            EnvSource::Generate { length } => Ok(facts::random_text(*length)?),
            EnvSource::File(path) => facts::only_line(path).map_err(|error| format!("{error:#}")),
            EnvSource::Literal(_)
            | EnvSource::Host { .. }
            | EnvSource::Secret { .. }
            | EnvSource::Parameter(_) => continue,
        };
        given.add(key, value);
    }
    Ok(given)
}

/// Adds the answers of services outside the host: the instance's metadata, and AWS.
pub async fn ask(config: &Config, imds: &Imds, given: &mut Given) {
    given.asked = true;
    let known = ask_instance(config, imds, given).await;
    ask_aws(config, known.map(|()| imds), given).await;
}

/// All facts with one token. An error keeps the same service from being waited for twice.
async fn ask_instance(config: &Config, imds: &Imds, given: &mut Given) -> Result<(), String> {
    let wanted = || {
        config.env.iter().filter_map(|(key, source)| match source {
            EnvSource::Host { facts, also } => Some((key, facts, also)),
            _ => None,
        })
    };
    let mut names: Vec<&str> = wanted().flat_map(|(_, facts, _)| facts).map(String::as_str).collect();
    names.sort_unstable();
    names.dedup();
    if names.is_empty() {
        return Ok(());
    }
    let found = imds.facts(&names).await.map_err(|error| error.to_string());
    for (key, facts, also) in wanted() {
        let value = found.as_ref().map_err(Clone::clone).and_then(|found| {
            let of = |fact: &String| found.get(names.binary_search(&fact.as_str()).ok()?).cloned().flatten();
            let has: Vec<String> = facts.iter().filter_map(of).collect();
            if has.len() < facts.len() {
                let lacks: Vec<_> =
                    facts.iter().filter(|fact| of(fact).is_none()).map(String::as_str).collect();
                given.lacks.insert(key.clone(), format!("this instance has no {}", lacks.join(" and no ")));
            }
            joined(has, also, given.lacks.get(key))
        });
        given.add(key, value);
    }
    found.map(drop)
}

/// Each secret and parameter once, all at the same time: one that is silent keeps no other waiting.
async fn ask_aws(config: &Config, imds: Result<&Imds, String>, given: &mut Given) {
    let wanted = || config.env.iter().filter_map(|(name, source)| Some((name, item(source)?)));
    let items: BTreeSet<_> = wanted().map(|(_, (item, _))| item).collect();
    if items.is_empty() {
        return;
    }
    let client = match imds {
        Ok(imds) => AwsClient::connect(&config.aws, imds).await.map_err(|error| error.to_string()),
        Err(why) => Err(why),
    };
    let texts: BTreeMap<_, Result<String, String>> = match &client {
        Ok(client) => {
            let ask = async |item| (item, client.text(item).await.map_err(|error| error.to_string()));
            join_all(items.into_iter().map(ask)).await.into_iter().collect()
        }
        Err(why) => items.into_iter().map(|item| (item, Err(why.clone()))).collect(),
    };
    for (name, (item, key)) in wanted() {
        let Some(text) = texts.get(&item) else { continue };
        given.add(name, text.clone().and_then(|text| value_of(item, key, &text)));
    }
}

fn item(source: &EnvSource) -> Option<(Item<'_>, Option<&str>)> {
    match source {
        EnvSource::Secret { id, key } => Some((Item::Secret(id), key.as_deref())),
        EnvSource::Parameter(name) => Some((Item::Parameter(name), None)),
        _ => None,
    }
}

/// The value of a variable in the text of a secret or parameter. An error shows nothing of it.
fn value_of(item: Item<'_>, key: Option<&str>, text: &str) -> Result<String, String> {
    let value = match key {
        None => text.to_owned(),
        Some(key) => {
            let object: Option<serde_json::Map<String, Value>> = serde_json::from_str(text).ok();
            let object =
                object.ok_or_else(|| format!("{item} is no JSON object, so it has no key `{key}`"))?;
            match object.get(key) {
                Some(Value::String(text)) => text.clone(),
                // Others may lose digits.
                Some(Value::Number(number)) if number.is_i64() || number.is_u64() => number.to_string(),
                Some(Value::Bool(is)) => is.to_string(),
                Some(_) => return Err(format!("`{key}` of {item} is neither a text nor a whole number")),
                None => return Err(format!("{item} has no key `{key}`")),
            }
        }
    };
    if value.is_empty() {
        return Err(match key {
            Some(key) => format!("`{key}` of {item} is empty"),
            None => format!("{item} is empty"),
        });
    }
    check_value(&value).map(|()| value).map_err(|error| format!("{item}: {error}"))
}

/// The value of a variable, and else why it has none.
fn joined(facts: Vec<String>, also: &[String], lacks: Option<&String>) -> Result<String, String> {
    let is_list = facts.len() + also.len() > 1;
    if is_list && facts.iter().any(|fact| fact.contains(',')) {
        return Err("a fact of this instance has a comma, which begins the next one of the list: give that fact a variable of its own".to_owned());
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in facts.iter().chain(also).map(String::as_str) {
        if !parts.contains(&part) {
            parts.push(part);
        }
    }
    let value = parts.join(",");
    match lacks {
        Some(lacks) if value.is_empty() => Err(lacks.clone()),
        _ => check_value(&value).map(|()| value).map_err(|error| format!("a fact of this instance: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(facts: &[&str], also: &[&str]) -> Result<String, String> {
        let texts = |of: &[&str]| of.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        joined(texts(facts), &texts(also), Some(&"it has none".to_owned()))
    }

    #[test]
    fn facts_and_texts_become_one_value() {
        assert_eq!(of(&["a", "b", "a"], &["b", "c"]).unwrap(), "a,b,c");
        assert_eq!(of(&[], &["c"]).unwrap(), "c");
        assert_eq!(of(&[], &[]).unwrap_err(), "it has none");
        // A tag may have any text.
        assert_eq!(of(&["a,b"], &[]).unwrap(), "a,b");
        assert!(of(&["a,b"], &["c"]).unwrap_err().contains("comma"));
        for text in ["x\\y", "'xy'", "xy "] {
            let error = of(&[text], &[]).unwrap_err();
            assert!(error.starts_with("a fact of this instance: ") && !error.contains(text), "{error}");
        }
    }
}
