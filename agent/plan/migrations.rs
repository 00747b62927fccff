//! Whether a release migrates the database.

use std::time::Duration;

use crate::model::release::Release;
use crate::model::step::Step;

use super::Inputs;

/// What the command line says of migrations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wish {
    /// Migrate a digest that is new to this host.
    #[default]
    Auto,
    /// `--migrate`
    Always,
    /// `--no-migrate`
    Never,
}

/// The migration of `release`, if there is one to run: only a digest that changes and was never committed
/// here migrates by itself, so a way back never does.
pub fn step(inputs: &Inputs<'_>, release: &Release, wish: Wish) -> Option<Step> {
    let migrate = inputs.config.migrate.as_ref()?;
    let digest = &release.image.digest;
    let running = inputs.committed().is_some_and(|c| c.image.digest == *digest);
    let known = running || inputs.history.ever_committed.contains(digest);
    let due = match wish {
        Wish::Always => true,
        Wish::Never => false,
        Wish::Auto => !known,
    };
    due.then(|| Step::Migrate { release: release.number, timeout: migrate.timeout + Duration::from_secs(30) })
}
