//! The state of a host after a run.

use astra_agent::journal::Journal;
use astra_agent::model::envfile::service_keys;
use astra_agent::model::history::History;

use super::World;
use crate::state::digest;
use crate::units;

impl World {
    pub fn history(&self) -> History {
        Journal::at(self.root.join("var/lib/astra-agent/journal")).history().unwrap()
    }

    pub fn is_held(&self, name: &str) -> bool {
        self.history().held.iter().any(|held| held.release.image.digest.to_string() == digest(name))
    }

    /// Number of the release in astra.env.
    pub fn release(&self) -> u64 {
        units::lines(&self.text("/etc/astra/astra.env"))["ASTRA_RELEASE"].parse().unwrap()
    }

    pub fn pinned(&self, name: &str) -> String {
        format!("{}@{}", self.repository, digest(name))
    }

    /// All of the host belongs to the image `name`: astra.env, each instance, its readiness. A run left
    /// nothing behind.
    #[track_caller]
    pub fn serves(&self, name: &str) -> &Self {
        let (state, image) = (self.shared.lock(), self.pinned(name));
        let env = units::lines(&state.text("/etc/astra/astra.env"));
        assert_eq!(env["APP_IMAGE"], image, "astra.env");
        let config = self.parsed();
        for id in config.instances() {
            let unit = &state.units[&config.name.unit(id)];
            assert_eq!((unit.active, unit.sub), ("active", "running"), "instance {id}");
            let labels = &state.containers[&config.name.container(id)].labels;
            let [own, _, _, _, since, _] = service_keys(id.service);
            let has_own = config.service(id.service).is_some_and(|service| service.image.is_some());
            assert_eq!(
                labels["astra.image"],
                if has_own { env[&own].as_str() } else { &image },
                "instance {id}"
            );
            let since = env.get(&since).unwrap_or(&env["ASTRA_RELEASE"]);
            let runs = Some(&labels["astra.since"]).filter(|since| !since.is_empty());
            assert_eq!(runs.unwrap_or(&labels["astra.release"]), since, "instance {id}");
            if config.port_of(id).is_some() {
                assert_eq!(units::status(&state, id), Some(200), "instance {id}");
            }
        }
        let web = config.instances().filter(|id| config.port_of(*id).is_some());
        assert_eq!(state.apps.len(), web.count(), "instances");
        assert!(state.caddy.runs.is_some(), "Caddy does not run");
        drop(state);
        self.is_tidy();
        self
    }

    /// No trial file, marker, temporary file or open run is left.
    #[track_caller]
    pub fn is_tidy(&self) -> &Self {
        let names = |dir: &str| {
            let listed = std::fs::read_dir(self.root.join(dir)).into_iter().flatten();
            listed.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect::<Vec<_>>()
        };
        let left = names("run/astra").into_iter().filter(|name| name.starts_with("trial"));
        let left = left.chain(names("run/astra/drain"));
        let temporary = ["etc/astra", "run/astra", "var/lib/astra-agent"].map(names).concat();
        let left = left.chain(temporary.into_iter().filter(|name| name.starts_with('.')));
        assert_eq!(left.collect::<Vec<_>>(), [""; 0]);
        assert_eq!(self.history().open_runs().count(), 0, "open runs");
        self
    }
}
