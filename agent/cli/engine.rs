//! Which container engine this host uses, and why. Called by session.rs and mutate.rs; `status` and `plan` show it.

use std::fmt;
use std::path::Path;

use crate::config::Config;
use crate::host::engine::{DOCKER_SOCKET, PODMAN_SOCKET};
use crate::host::files::Files;
use crate::model::instance::ServiceName;
use crate::model::observed::Engine;

/// An engine, and the reason it was chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    pub engine: Engine,
    pub reason: Reason,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// `[app] engine` names it.
    Config,
    /// The instances' unit file was written for it.
    Unit(String),
    /// Its socket exists; podman's is checked first.
    Socket,
    /// No engine socket exists.
    Default,
}

impl Choice {
    /// With `auto`, a host keeps the engine that its units were written for, even while that engine is down.
    /// A host without units uses the engine whose socket exists.
    pub fn of(config: &Config, with_socket: Option<Engine>) -> Self {
        let chosen = |engine, reason| Self { engine, reason };
        if let Some(engine) = config.engine {
            return chosen(engine, Reason::Config);
        }
        if let Some(engine) = recorded(config) {
            return chosen(engine, Reason::Unit(config.name.template(ServiceName::app())));
        }
        match with_socket {
            Some(engine) => chosen(engine, Reason::Socket),
            None => chosen(Engine::Podman, Reason::Default),
        }
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.engine {
            Engine::Podman => "podman",
            Engine::Docker => "docker",
        };
        match (&self.reason, self.engine) {
            (Reason::Config, _) => write!(f, "{name} (agent.toml names it)"),
            (Reason::Unit(unit), _) => write!(f, "{name} (auto: {unit} was written for it)"),
            (Reason::Socket, Engine::Podman) => {
                write!(f, "{name} (auto: its socket {PODMAN_SOCKET} is there, and podman comes first)")
            }
            (Reason::Socket, Engine::Docker) => {
                write!(f, "{name} (auto: its socket {DOCKER_SOCKET} is there, and podman's is not)")
            }
            (Reason::Default, _) => write!(f, "{name} (auto: neither podman nor docker has a socket)"),
        }
    }
}

/// The engine from the config, or the one that the units were written for.
pub fn preferred(config: &Config) -> Option<Engine> {
    config.engine.or_else(|| recorded(config))
}

fn recorded(config: &Config) -> Option<Engine> {
    let path = crate::model::name::unit_file(&config.name.template(ServiceName::app()));
    let seen = Files::new(Path::new("/")).read(&path).ok().flatten()?;
    written_for(&String::from_utf8_lossy(&seen.bytes))
}

/// The engine whose client the unit's ExecStart= calls.
fn written_for(unit: &str) -> Option<Engine> {
    let starts = |line: &str, engine: Engine| {
        line.starts_with("ExecStart") && line.contains(&format!("={} run ", engine.client()))
    };
    [Engine::Podman, Engine::Docker].into_iter().find(|engine| unit.lines().any(|line| starts(line, *engine)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::calls;
    use crate::plan::units::render;

    fn config(engine: &str) -> Config {
        let text = format!("[app]\nimage = \"ghcr.io/a/b:c\"\nengine = \"{engine}\"\n");
        crate::config::parse(&[("agent.toml".into(), text)]).unwrap()
    }

    #[test]
    fn engine_is_read_from_the_unit() {
        let config = config("auto");
        for engine in [Engine::Podman, Engine::Docker] {
            let files = render(&config, engine, "/usr/bin/astra-agent", &calls::of_config(&config), |id| {
                config.port_of(id)
            });
            let template = &files[&crate::model::name::unit_file(&config.name.template(ServiceName::app()))];
            assert_eq!(written_for(template), Some(engine));
        }
        // The attached form, written by earlier agents.
        let attached =
            "[Service]\nExecStartPre=-/usr/bin/docker rm --force x\nExecStart=/usr/bin/docker run --rm \\\n";
        assert_eq!(written_for(attached), Some(Engine::Docker));
        assert_eq!(written_for("ExecStart=/usr/bin/true\n"), None);
    }

    #[test]
    fn auto_reports_its_choice_and_the_reason() {
        let told = |engine, socket| Choice::of(&config(engine), socket).to_string();
        assert_eq!(told("docker", Some(Engine::Podman)), "docker (agent.toml names it)");
        assert_eq!(
            told("auto", Some(Engine::Docker)),
            "docker (auto: its socket /run/docker.sock is there, and podman's is not)"
        );
        assert_eq!(
            told("auto", Some(Engine::Podman)),
            "podman (auto: its socket /run/podman/podman.sock is there, and podman comes first)"
        );
        assert_eq!(told("auto", None), "podman (auto: neither podman nor docker has a socket)");
        let unit = Choice { engine: Engine::Docker, reason: Reason::Unit("astra-app@.service".into()) };
        assert_eq!(unit.to_string(), "docker (auto: astra-app@.service was written for it)");
    }
}
