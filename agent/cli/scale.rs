//! `scale`, `pause` and `resume`: a fragment of the config with other numbers of instances. Called by mutate.rs, with
//! the lock.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::session;
use crate::config::{self, Config};
use crate::converge::Refused;
use crate::host::files::Files;
use crate::model::instance::ServiceName;
use crate::model::name::SCALE_FILE;
use crate::model::problem::Problem;

/// `worker=3`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wish {
    service: ServiceName,
    instances: u16,
}

impl FromStr for Wish {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (service, number) = text.split_once('=').ok_or("write SERVICE=NUMBER, e.g. worker=3")?;
        let service = service.parse().map_err(|error| format!("{error}"))?;
        let instances = number.parse().ok().filter(|n| *n <= 254);
        Ok(Self { service, instances: instances.ok_or("the number of instances is from 0 to 254")? })
    }
}

/// A change of the numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// These services run so many instances.
    To(Vec<Wish>),
    /// These services have none; no name: all.
    Pause(Vec<ServiceName>),
    /// The numbers of agent.toml count again; no name: for all.
    Resume(Vec<ServiceName>),
}

type Numbers = BTreeMap<ServiceName, u16>;

/// The config without the fragment: with it, it may not be valid.
pub fn base() -> Result<Config, Refused> {
    config::parse(&base_texts()?).map_err(session::wrong_config)
}

fn base_texts() -> Result<Vec<(PathBuf, String)>, Refused> {
    let mut texts = config::texts(Path::new("/")).map_err(session::wrong_config)?;
    texts.retain(|(path, _)| path != Path::new(SCALE_FILE));
    Ok(texts)
}

/// A change that is in force, and what it replaced.
pub struct Applied {
    /// The config with it.
    pub config: Config,
    before: Option<Vec<u8>>,
}

impl Applied {
    /// Takes the change back.
    pub fn revert(&self, files: &Files) -> anyhow::Result<()> {
        write(files, self.before.as_deref())
    }
}

/// Writes the fragment, if the config with it is valid.
pub fn apply(files: &Files, change: &Change) -> Result<Applied, Refused> {
    let before = files.read(Path::new(SCALE_FILE))?.map(|seen| seen.bytes);
    let mut texts = base_texts()?;
    let base = config::parse(&texts).map_err(session::wrong_config)?;
    let numbers = changed(&base, numbers(before.as_deref().unwrap_or_default()), change)?;
    let fragment = fragment(&numbers);
    texts.extend(fragment.clone().map(|text| (PathBuf::from(SCALE_FILE), text)));
    texts.get_mut(1..).into_iter().for_each(|fragments| fragments.sort());
    let config = config::parse(&texts).map_err(session::wrong_config)?;
    let ignored = |(name, number): &(&ServiceName, &u16)| {
        config.service(**name).is_some_and(|service| service.instances != **number)
    };
    if let Some((name, _)) = numbers.iter().find(ignored) {
        let what = format!("another file of agent.d, behind {SCALE_FILE}, sets `instances` of {name}");
        return Err(Problem::config("scale", what, "change it there, or rename that file").into());
    }
    write(files, fragment.map(String::into_bytes).as_deref())?;
    Ok(Applied { config, before })
}

fn write(files: &Files, bytes: Option<&[u8]>) -> anyhow::Result<()> {
    let path = Path::new(SCALE_FILE);
    match bytes {
        Some(bytes) => {
            if let Some(dir) = path.parent() {
                files.make_dir(dir, 0o700)?;
            }
            files.write_atomic(path, bytes, 0o600)
        }
        None => {
            files.remove(path)?;
            Ok(())
        }
    }
}

/// The numbers in a fragment; a line that is none is left out.
fn numbers(fragment: &[u8]) -> Numbers {
    let text = String::from_utf8_lossy(fragment);
    let Ok(table) = text.parse::<toml::Table>() else { return Numbers::new() };
    let number = |table: &toml::Value| u16::try_from(table.get("instances")?.as_integer()?).ok();
    let others = table.get("services").and_then(toml::Value::as_table).into_iter().flatten();
    let others = others.filter_map(|(name, table)| Some((name.parse().ok()?, number(table)?)));
    let app = table.get("app").and_then(number).map(|number| (ServiceName::app(), number));
    others.chain(app).collect()
}

fn changed(config: &Config, mut numbers: Numbers, change: &Change) -> Result<Numbers, Refused> {
    // A service that left agent.toml is no longer scaled: its table alone would be a service.
    numbers.retain(|name, _| config.services().any(|service| service.name == *name));
    let named = |name: ServiceName| config.service_of_release(name).map(|service| service.name);
    match change {
        Change::To(wishes) => {
            for wish in wishes {
                numbers.insert(named(wish.service)?, wish.instances);
            }
        }
        Change::Pause(names) if names.is_empty() => {
            numbers.extend(config.services().map(|service| (service.name, 0)));
        }
        Change::Pause(names) => {
            for name in names {
                numbers.insert(named(*name)?, 0);
            }
        }
        Change::Resume(names) if names.is_empty() => numbers.clear(),
        Change::Resume(names) => {
            for name in names {
                numbers.remove(&named(*name)?);
            }
        }
    }
    Ok(numbers)
}

/// `None`: no fragment is needed.
fn fragment(numbers: &Numbers) -> Option<String> {
    let mut text =
        "# Written by `astra-agent scale` and `pause`; `astra-agent resume` removes it.\n".to_owned();
    for (name, number) in numbers {
        let table = if name.is_app() { "app".to_owned() } else { format!("services.{name}") };
        let _ = write!(text, "\n[{table}]\ninstances = {number}\n");
    }
    (!numbers.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        let text = "[app]\nimage = 'ghcr.io/a/b:1'\n[services.worker]\ncommand = ['work']\n";
        config::parse(&[("agent.toml".into(), text.into())]).unwrap()
    }

    fn names(names: &[&str]) -> Vec<ServiceName> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    #[test]
    fn a_fragment_is_read_as_it_was_written() {
        let config = config();
        let paused = changed(&config, Numbers::new(), &Change::Pause(Vec::new())).unwrap();
        assert_eq!(paused.len(), 2);
        let text = fragment(&paused).unwrap();
        assert_eq!(numbers(text.as_bytes()), paused);
        let both = [
            ("a".into(), "[app]\nimage = 'ghcr.io/a/b:1'\n[services.worker]\ncommand = ['work']\n".into()),
            ("z".into(), text),
        ];
        assert_eq!(config::parse(&both).unwrap().instances().count(), 0);
        let some = changed(&config, paused, &Change::Resume(names(&["app"]))).unwrap();
        assert_eq!(some.keys().map(ToString::to_string).collect::<Vec<_>>(), ["worker"]);
        let more = changed(&config, some, &Change::To(vec!["worker=3".parse().unwrap()])).unwrap();
        assert_eq!(more.values().copied().collect::<Vec<_>>(), [3]);
        assert_eq!(fragment(&changed(&config, more, &Change::Resume(Vec::new())).unwrap()), None);
    }

    #[test]
    fn a_name_or_number_that_cannot_be_is_refused() {
        let refused = changed(&config(), Numbers::new(), &Change::Pause(names(&["mail"]))).unwrap_err();
        assert!(refused.to_string().contains("agent.toml has: app, worker"), "{refused}");
        for bad in ["worker", "worker=", "worker=255", "Worker=1", "=2"] {
            assert!(bad.parse::<Wish>().is_err(), "{bad}");
        }
        let gone = Numbers::from([("gone".parse().unwrap(), 2)]);
        assert_eq!(changed(&config(), gone, &Change::Resume(names(&["app"]))).unwrap(), Numbers::new());
    }
}
