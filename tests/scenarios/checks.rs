//! The state of a host after a run.

use astra_agent::journal::Journal;
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

    fn pinned(&self, name: &str) -> String {
        format!("{}@{}", self.repository, digest(name))
    }

    /// All of the host belongs to the image `name`: astra.env, each instance, its readiness. A run left
    /// nothing behind.
    #[track_caller]
    pub fn serves(&self, name: &str) -> &Self {
        let (state, image) = (self.shared.lock(), self.pinned(name));
        let env = units::lines(&state.text("/etc/astra/astra.env"));
        assert_eq!(env["APP_IMAGE"], image, "astra.env");
        for instance in 1..=self.instances {
            let unit = &state.units[&format!("astra-app@{instance}.service")];
            assert_eq!((unit.active, unit.sub), ("active", "running"), "instance {instance}");
            let labels = &state.containers[&format!("astra-app-{instance}")].labels;
            assert_eq!(labels["astra.image"], image, "instance {instance}");
            assert_eq!(labels["astra.release"], env["ASTRA_RELEASE"], "instance {instance}");
            assert_eq!(units::status(&state, instance), Some(200), "instance {instance}");
        }
        assert_eq!(state.apps.len(), usize::from(self.instances), "instances");
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
