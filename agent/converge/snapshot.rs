//! Takes a snapshot of the host: which files, units and instances a plan may depend on.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::{Reconciler, Snapshot};
use crate::host::observe::Scope;
use crate::model::history::History;
use crate::model::name::{CADDY_ENV, CADDY_TRIAL_ENV, CADDY_UNIT, MIGRATE_UNIT, RECONCILE_UNIT};
use crate::model::observed::Observed;
use crate::plan::{Inputs, files, units};

impl Reconciler<'_> {
    /// Observes the host; also its images if a release is to be planned.
    ///
    /// # Errors
    ///
    /// The journal or a file of the agent cannot be read, or systemd does not answer.
    pub async fn snapshot(&self, images: bool) -> Result<Snapshot> {
        let history = self.journal.history()?;
        let scope = self.scope(images).await?;
        let observed = self.host.observe(self.config, &scope).await.context("looking at the host")?;
        let env = observed.files.get(Path::new(CADDY_ENV));
        let caddy_image = env.and_then(|f| crate::plan::caddy::image(&String::from_utf8_lossy(&f.bytes)));
        Ok(Snapshot { observed, history, caddy_image })
    }

    async fn scope(&self, images: bool) -> Result<Scope> {
        let mut nothing =
            Snapshot { observed: Observed::default(), history: History::default(), caddy_image: None };
        let app = &self.config.app.name;
        let mut ids: std::collections::BTreeSet<_> =
            self.config.instances().chain(self.config.spare()).collect();
        let jobs = format!("{}*", crate::model::name::CRON_PREFIX);
        let loaded = self.host.systemd.list(&[&format!("{app}-app@*.service"), &jobs]).await?;
        let number = |unit: &str| unit.rsplit_once('@')?.1.strip_suffix(".service")?.parse().ok();
        ids.extend(loaded.iter().filter_map(|u| number(u)).filter_map(crate::model::name::InstanceId::new));
        for path in ids.iter().map(|id| units::drop_in(self.config, *id)) {
            if let Ok(Some(seen)) = self.host.files.read(&path) {
                nothing.observed.files.insert(path, seen);
            }
        }
        let inputs = self.inputs(&nothing);
        let wanted = ids.iter().map(|id| inputs.target_at(*id, self.config.app.port_of(*id)));
        let ports = wanted.filter(|t| inputs.target(t.id) != *t).map(|t| t.upstream).collect();
        let mut names = units::enabled(self.config);
        names.extend([CADDY_UNIT, MIGRATE_UNIT, RECONCILE_UNIT].map(str::to_owned));
        let wanted = |unit: &String| self.config.cron_jobs.iter().any(|j| *unit == j.name.service());
        names.extend(loaded.into_iter().filter(|unit| !wanted(unit)));
        names.sort();
        names.dedup();
        names.retain(|n| !n.starts_with(&format!("{app}-app@")));
        let mut files: Vec<_> = files::desired(&inputs).into_keys().collect();
        files.extend([CADDY_ENV, CADDY_TRIAL_ENV].map(PathBuf::from));
        Ok(Scope {
            files,
            units: names,
            instances: ids.into_iter().map(|id| inputs.target(id)).collect(),
            ports,
            probe: Some(inputs.probe()),
            images,
        })
    }

    /// The inputs of a plan, from this host and `snapshot`.
    pub fn inputs<'b>(&'b self, snapshot: &'b Snapshot) -> Inputs<'b> {
        Inputs {
            config: self.config,
            observed: &snapshot.observed,
            history: &snapshot.history,
            key: &self.key,
            engine: self.engine,
            agent: &self.agent,
            caddy_image: snapshot.caddy_image.as_ref(),
        }
    }
}
