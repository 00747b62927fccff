//! The sources of `[env]`: random values, files, and facts of the EC2 instance. Called for a plan, and by cli/check.rs,
//! so that both agree.

use anyhow::Result;

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
            EnvSource::Literal(_) | EnvSource::Host { .. } => continue,
            EnvSource::Generate { length } => Ok(facts::random_text(*length)?),
            EnvSource::File(path) => facts::only_line(path).map_err(|error| format!("{error:#}")),
        };
        given.add(key, value);
    }
    Ok(given)
}

/// Adds the answers of services outside the host: of the instance's metadata, with one token for all facts.
pub async fn ask(config: &Config, imds: &Imds, given: &mut Given) {
    given.asked = true;
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
        return;
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
