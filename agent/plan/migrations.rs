//! Whether a release migrates the database.

use std::time::Duration;

use crate::model::release::Release;
use crate::model::step::Step;

use super::Inputs;

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

/// The migration of `release`, if one is due: automatic only for a changed digest that was never committed
/// here, so never on a rollback.
pub fn step(inputs: &Inputs<'_>, release: &Release, wish: MigratePolicy) -> Option<Step> {
    let migrate = inputs.config.migrate.as_ref()?;
    let digest = &release.image.digest;
    let running = inputs.committed().is_some_and(|c| c.app.image.digest == *digest);
    let known = running || inputs.history.ever_committed.contains(digest);
    let due = match wish {
        MigratePolicy::Always => true,
        MigratePolicy::Never => false,
        MigratePolicy::Auto => !known,
    };
    due.then(|| Step::Migrate { release: release.number, timeout: migrate.timeout + Duration::from_secs(30) })
}
