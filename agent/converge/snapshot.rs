//! Takes a snapshot of the host: which files, units and instances a plan may depend on.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::{Event, Reconciler, Snapshot};
use crate::host::observe::Scope;
use crate::host::sources;
use crate::model::history::History;
use crate::model::instance::{InstanceName, ServiceName};
use crate::model::name::{
    CADDY_ENV, CADDY_TRIAL_ENV, CADDY_UNIT, CRON_PREFIX, MIGRATE_UNIT, RECONCILE_UNIT, unit_file,
};
use crate::model::observed::Observed;
use crate::plan::release::{Request, asks_sources};
use crate::plan::{Inputs, accessories, files, units};

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
        let observed = self.apart(observed);
        let env = observed.files.get(Path::new(CADDY_ENV));
        let caddy_image = env.and_then(|f| crate::plan::caddy::image(&String::from_utf8_lossy(&f.bytes)));
        Ok(Snapshot { observed, history, caddy_image })
    }

    /// Asks the sources of `[env]` outside the host, if the plan of `request` needs them.
    ///
    /// # Errors
    ///
    /// A signal came meanwhile.
    pub async fn ask_for(&self, request: &Request, snapshot: &mut Snapshot) -> Result<()> {
        if asks_sources(&self.inputs(snapshot), request) {
            self.ask_sources(snapshot).await?;
        }
        Ok(())
    }

    /// Asks the sources of `[env]` outside the host.
    ///
    /// # Errors
    ///
    /// A signal came meanwhile.
    pub async fn ask_sources(&self, snapshot: &mut Snapshot) -> Result<()> {
        let remote = self.config.env.iter().filter(|(_, source)| source.is_remote());
        let names: Vec<_> = remote.map(|(key, _)| key.as_str()).collect();
        if !names.is_empty() {
            (self.watch)(&Event::Note(&format!("asking for {}", names.join(", "))));
        }
        tokio::select! {
            () = sources::ask(self.config, &self.host.imds, &mut snapshot.observed.env) => Ok(()),
            signal = self.host.signals.wait() => bail!("stopped by {signal}: no release was touched"),
        }
    }

    async fn scope(&self, images: bool) -> Result<Scope> {
        let mut nothing =
            Snapshot { observed: Observed::default(), history: History::default(), caddy_image: None };
        let name = &self.config.name;
        let mut ids: std::collections::BTreeSet<_> =
            self.config.instances().chain(self.config.spares()).collect();
        let jobs = format!("{CRON_PREFIX}*");
        let migrations = format!("{name}-*-migrate.service");
        let loaded = self.host.systemd.list(&[&format!("{name}-*@*.service"), &migrations, &jobs]).await?;
        // A unit of the operator may have such a name, too.
        let known = |id: &InstanceName| self.config.service(id.service).is_some() || self.is_ours(id.service);
        ids.extend(loaded.iter().filter_map(|unit| name.instance(unit)).filter(known));
        let drop_ins = ids.iter().map(|id| units::drop_in(self.config, *id));
        for path in drop_ins.chain([self.config.name.env_file()]) {
            if let Ok(Some(seen)) = self.host.files.read(&path) {
                nothing.observed.files.insert(path, seen);
            }
        }
        let inputs = self.inputs(&nothing);
        let wanted = ids.iter().map(|id| inputs.target_at(*id, inputs.config.port_of(*id)));
        let ports = wanted.filter(|t| inputs.target(t.id) != *t).filter_map(|t| t.upstream).collect();
        let argument = units::network_arg(name);
        let on_site_network =
            inputs.committed().is_some_and(|lines| lines.all().any(|(_, of)| of.args.contains(&argument)));
        let mut names = units::enabled(self.config);
        names.extend([CADDY_UNIT, MIGRATE_UNIT, RECONCILE_UNIT].map(str::to_owned));
        let wanted = |unit: &String| self.config.cron_jobs.iter().any(|j| *unit == j.name.service());
        names.extend(self.config.migrations().map(|(of, _)| name.migration_unit(of.name)));
        let others =
            loaded.into_iter().filter(|unit| unit.starts_with(CRON_PREFIX) || name.migration(unit).is_some());
        names.extend(others.filter(|unit| !wanted(unit)));
        names.sort();
        names.dedup();
        ids.extend(self.config.accessories.keys().map(|name| InstanceName::single(*name)));
        let instances: Vec<String> = ids.iter().map(|id| name.unit(*id)).collect();
        names.retain(|unit| !instances.contains(unit));
        let mut files: Vec<_> = files::desired(&inputs).into_keys().collect();
        files.extend([CADDY_ENV, CADDY_TRIAL_ENV].map(PathBuf::from));
        Ok(Scope {
            files,
            units: names,
            instances: ids.into_iter().map(|id| (inputs.target(id), inputs.probe(id.service))).collect(),
            ports,
            images,
            networks: self.config.uses_site_network() || on_site_network,
        })
    }

    /// Takes the accessories out of the instances. One whose name the committed release has is still a service.
    fn apart(&self, mut observed: Observed) -> Observed {
        let nothing = History::default();
        let all = std::mem::take(&mut observed.instances);
        let inputs = self.inputs_of(&observed, &nothing);
        let is_one = |id: &InstanceName| accessories::is_one(&inputs, *id);
        let (accessories, instances) = all.into_iter().partition(|(id, _)| is_one(id));
        (observed.accessories, observed.instances) = (accessories, instances);
        observed
    }

    /// Whether the agent wrote the template of a service that is not configured.
    fn is_ours(&self, service: ServiceName) -> bool {
        let seen = self.host.files.read(&unit_file(&self.config.name.template(service)));
        seen.ok().flatten().is_some_and(|file| units::is_own(&file.bytes, service))
    }

    /// The inputs of a plan, from this host and `snapshot`.
    pub fn inputs<'b>(&'b self, snapshot: &'b Snapshot) -> Inputs<'b> {
        let caddy_image = snapshot.caddy_image.as_ref();
        Inputs { caddy_image, ..self.inputs_of(&snapshot.observed, &snapshot.history) }
    }

    fn inputs_of<'b>(&'b self, observed: &'b Observed, history: &'b History) -> Inputs<'b> {
        Inputs {
            config: self.config,
            observed,
            history,
            key: &self.key,
            engine: self.engine,
            agent: &self.agent,
            caddy_image: None,
        }
    }
}
