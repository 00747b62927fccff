//! `scale`, `pause` and `resume`: a fragment of the config with other numbers of instances. Called by mutate.rs, with
//! the lock.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
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

/// Writes the fragment, and returns the config with it. The former fragment stays if that config is not valid.
pub fn apply(config: &Config, files: &Files, change: &Change) -> Result<Config, Refused> {
    let before = files.read(Path::new(SCALE_FILE))?.map(|seen| seen.bytes);
    let numbers = changed(config, numbers(before.as_deref().unwrap_or_default()), change)?;
    write(files, fragment(&numbers).map(String::into_bytes).as_deref())?;
    config::load(Path::new("/")).map_err(|errors| match write(files, before.as_deref()) {
        Ok(()) => session::wrong_config(errors),
        Err(error) => error.into(),
    })
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
    let named = |name: ServiceName| match config.services().any(|service| service.name == name) {
        true => Ok(name),
        false => Err(unknown(config, name)),
    };
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

fn unknown(config: &Config, name: ServiceName) -> Refused {
    let all: Vec<_> = config.services().map(|service| service.name.to_string()).collect();
    let fix = match config.service(name) {
        Some(_) => {
            "an accessory is one container; `systemctl stop` stops it until the next reconcile".to_owned()
        }
        None => format!("agent.toml has: {}", all.join(", ")),
    };
    Problem::config("service", format!("`{name}` is no service of the release"), fix).into()
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
