//! The site of most tests: two instances of the test app behind Caddy, with helper functions.

use std::fs::File;

use serde_json::Value;

use crate::harness::{Engine, Host, Output};
use crate::report::Report;

pub const CONFIG: &str = include_str!("agent.toml");
pub const CONFIG_FILE: &str = "/etc/astra/agent.toml";
pub const ENV_FILE: &str = "/etc/astra/astra.env";
pub const PASSWORD: &str = "canary-db-pw-7f3a";
pub const UNITS: [&str; 3] = ["astra-app@1", "astra-app@2", "astra-caddy"];

/// A host with `config`, ready for `install`.
pub fn fresh_with(name: &str, config: &str) -> Host {
    fresh_on(Engine::Podman, name, config)
}

/// The same with another engine. docker has no name of its own for the host.
pub fn fresh_on(engine: Engine, name: &str, config: &str) -> Host {
    let host = Host::boot_with(name, engine);
    let name = "\"host.containers.internal\" = \"host-gateway\"";
    let config = match engine {
        Engine::Podman => config.to_owned(),
        Engine::Docker if config.contains("add_hosts = {") => {
            config.replacen("add_hosts = {", &format!("add_hosts = {{ {name},"), 1)
        }
        Engine::Docker => config.replacen("[app]", &format!("[app]\nadd_hosts = {{ {name} }}"), 1),
    };
    host.write(CONFIG_FILE, &config);
    host.sh_with("astra-agent env set DATABASE_PASSWORD", PASSWORD).ok();
    host
}

/// A host that serves v1.
pub fn installed(name: &str) -> Host {
    installed_with(name, CONFIG)
}

pub fn installed_with(name: &str, config: &str) -> Host {
    installed_on(Engine::Podman, name, config)
}

pub fn installed_on(engine: Engine, name: &str, config: &str) -> Host {
    let host = fresh_on(engine, name, config);
    host.agent(["install"]).ok();
    host
}

/// Held while traffic is measured: two such tests at the same time, in any terminal, would affect each other.
pub fn turn() -> File {
    let path = std::env::temp_dir().join("astra-host-load");
    let turn = File::options().create(true).append(true).open(path).unwrap();
    turn.lock().unwrap();
    turn
}

/// The standard config with replacements: `("soak = \"1s\"", "soak = \"0s\"")`.
pub fn config_with<const N: usize>(changes: [(&str, &str); N]) -> String {
    changes.iter().fold(CONFIG.to_owned(), |config, (old, new)| {
        assert!(config.contains(old), "no {old} in the standard config");
        config.replace(old, new)
    })
}

impl Host {
    /// Pushes a version under the tracked tag, and deploys.
    pub fn deploy(&self, version: &str) -> Output {
        self.tag("latest", version);
        self.agent(["deploy"])
    }

    /// APP_IMAGE when a version is committed.
    pub fn image(&self, version: &str) -> String {
        format!("127.0.0.1:5000/astra@{}", self.digest(version))
    }

    /// A variable of astra.env.
    pub fn env(&self, key: &str) -> String {
        let file = self.read(ENV_FILE);
        let value = file.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        value.unwrap_or_else(|| panic!("no {key} in {file}")).to_owned()
    }

    pub fn status(&self) -> Value {
        serde_json::from_str(&self.agent(["status", "--json"]).stdout).unwrap()
    }

    /// The runs, newest first.
    pub fn history(&self) -> Vec<Value> {
        let answer: Value = serde_json::from_str(&self.agent(["history", "--json"]).ok().stdout).unwrap();
        answer["runs"].as_array().unwrap().clone()
    }

    /// The version that each instance answers with.
    pub fn versions<const N: usize>(&self, instances: [u16; N]) -> [String; N] {
        instances.map(|i| {
            let answer = self.sh(&format!("curl -sSf -m 5 localhost:800{i}/")).ok();
            answer.stdout.split(' ').next().unwrap_or_default().to_owned()
        })
    }

    /// A new id means a new start.
    pub fn invocations(&self) -> String {
        let units = UNITS.join(" ");
        self.sh(&format!("systemctl show -p Id,InvocationID,NRestarts {units}")).ok().stdout
    }

    /// Every file that the agent may write: mode, owner, time of change, content. Except its journal, its
    /// lock, and its cache of the containers.
    pub fn files(&self) -> String {
        let places = "/etc/astra /etc/systemd/system /etc/tmpfiles.d /run/astra";
        let find = format!("find {places} -type f ! -name run.lock ! -name seen.json -print0 | sort -z");
        let each = "xargs -0 -r sh -c 'stat -c \"%a %U %y %n\" \"$@\"; sha256sum \"$@\"' sh";
        self.sh(&format!("{find} | {each}; find {places} -type l -printf '%p %l\\n' | sort")).ok().stdout
    }

    /// No leftovers of a run, done or undone.
    #[track_caller]
    pub fn assert_tidy(&self) {
        let traces = "find /run/astra -name 'trial*' -o -path '*/drain/*'; \
                      find /etc/astra /run/astra /etc/systemd/system /var/lib/astra-agent -name '.*' -o -name '*.tmp'";
        assert_eq!(self.sh(traces).ok().stdout, "", "traces of a run");
        let (client, state) = (self.engine.client(), self.engine.state());
        let list = format!("{client} ps -a --format '{{{{.Names}}}} {state}' | sort");
        let containers = self.sh(&list).ok().stdout;
        assert!(containers.lines().all(|c| c.ends_with(" running")), "{containers}");
        let status = self.status();
        let count = |list: &str| status[list].as_array().map_or(0, Vec::len);
        let wanted = count("instances") + count("accessories") + 1;
        assert_eq!(containers.lines().count(), wanted, "{containers}");
    }
}

impl Report {
    /// Every kind of request was sent, and none was lost.
    #[track_caller]
    pub fn assert_lossless(&self) {
        assert_eq!((self.failed, self.websockets.failed), (0, 0), "{self:#?}");
        assert!(self.kinds.values().all(|kind| kind.total > 0), "{self:#?}");
        let Self { total, failed, seconds, rate, .. } = self;
        println!("{total} requests, {failed} failed, {seconds:.1} s, {rate:.0}/s");
    }
}
