//! The sources of `[env]` on this host: random values and files. Called by observe.rs for a plan, and by
//! cli/check.rs, so that both agree.

use std::collections::BTreeMap;

use anyhow::Result;

use super::facts;
use crate::config::{Config, EnvSource};
use crate::model::name::EnvKey;
use crate::model::secret::Secret;

/// The values of the sources, and the errors of those without one.
pub type Answers = (BTreeMap<EnvKey, Secret>, BTreeMap<EnvKey, String>);

/// Reads every source of `[env]`. A generated value is used only if none is kept yet. An unreadable file is
/// no error here: only a deploy needs it, and refuses.
///
/// # Errors
///
/// The kernel gives no random bytes.
pub fn env_values(config: &Config) -> Result<Answers> {
    let (mut values, mut unread) = Answers::default();
    for (key, source) in &config.env {
        let value = match source {
            EnvSource::Literal(_) => continue,
            EnvSource::Generate { length } => Ok(facts::random_text(*length)?),
            EnvSource::File(path) => facts::only_line(path),
        };
        match value {
            Ok(value) => _ = values.insert(key.clone(), Secret::new(value)),
            Err(error) => _ = unread.insert(key.clone(), format!("{error:#}")),
        }
    }
    Ok((values, unread))
}
