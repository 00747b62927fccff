//! Whether a release migrates databases.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::config::Service;
use crate::model::envfile::ManagedLines;
use crate::model::step::Step;

use super::Inputs;
use super::release::Request;

/// The migration option of the command line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MigratePolicy {
    /// Migrate a digest that is new to this host.
    #[default]
    Auto,
    /// `--migrate`
    Always,
    /// `--no-migrate`
    Never,
}

/// The migrations that are due for `lines`: that of the app first, then those of services with an image of their own.
pub fn steps(inputs: &Inputs<'_>, request: &Request, lines: &ManagedLines) -> Vec<Step> {
    let name = &inputs.config.name;
    // One whose table is gone may still run, too.
    let mut all: BTreeSet<String> =
        inputs.config.migrations().map(|(of, _)| name.migration_unit(of.name)).collect();
    all.extend(inputs.observed.units.keys().filter(|unit| name.migration(unit).is_some()).cloned());
    let due = inputs.config.migrations().filter(|(of, _)| is_due(inputs, request, lines, of));
    let longest = inputs.config.migrations().map(|(_, migrate)| migrate.timeout).max();
    let step = |(of, migrate): (&Service, &crate::config::Migrate)| Step::Migrate {
        service: of.name,
        unit: name.migration_unit(of.name),
        others: all.iter().filter(|unit| **unit != name.migration_unit(of.name)).cloned().collect(),
        release: lines.release,
        timeout: migrate.timeout + Duration::from_secs(30),
        longest: longest.unwrap_or_default() + Duration::from_secs(30),
    };
    due.map(step).collect()
}

/// By itself only for a changed digest that was never committed for this service here, and never by a rollback: the image
/// that it goes back to may be that of the app, from before the service had its own.
fn is_due(inputs: &Inputs<'_>, request: &Request, lines: &ManagedLines, of: &Service) -> bool {
    let Some(new) = lines.of(of.name).map(|of| &of.image.digest) else { return false };
    let runs = || inputs.committed().is_some_and(|c| c.of(of.name).is_some_and(|c| c.image.digest == *new));
    match request.migrate {
        MigratePolicy::Always => request.only.includes(of),
        MigratePolicy::Never => false,
        MigratePolicy::Auto => !request.lenient && !runs() && !inputs.history.knows_for(of.name, new),
    }
}
