//! Whether the host serves its committed release, from the data of `status`. Called by wait.rs.

use std::collections::BTreeMap;

use super::seen::{Instance, Run, Status};
use super::text;
use crate::cli::history;
use crate::cli::step_line::short;
use crate::model::entry::Verb;
use crate::model::outcome::Outcome;

impl Status {
    /// Why the host does not serve the committed release: one line. `None`: it does. No install is under way,
    /// Caddy answers, and each web service has an instance of the release in rotation. A paused service needs none,
    /// but one has to serve.
    pub fn obstacle(&self) -> Option<String> {
        let obstacle = self.not_installed().or_else(|| self.no_answer())?;
        // A run would refuse it, so it may be the cause.
        let config = self.config_errors.first().map(|error| format!("; {error}"));
        Some(obstacle + &config.unwrap_or_default())
    }

    /// `installing: step 3 of 7, pull …`
    pub(super) fn installing(&self) -> Option<String> {
        let install = self.under_way.as_ref().filter(|run| run.command == Verb::Install.as_str())?;
        Some(format!("installing: {}", text::doing(install)))
    }

    fn not_installed(&self) -> Option<String> {
        let installing = self.installing();
        if self.release.is_some() {
            return installing;
        }
        let last = || match &self.last_run {
            Some(run) if run.outcome != Some(Outcome::Converged) => ended(run),
            _ => "no install is under way".to_owned(),
        };
        let lost = self.lost_release.clone();
        Some(lost.unwrap_or_else(|| format!("not installed yet: {}", installing.unwrap_or_else(last))))
    }

    fn no_answer(&self) -> Option<String> {
        if self.caddy.is_none() {
            return Some("Caddy does not answer".to_owned());
        }
        let mut services: BTreeMap<&str, Vec<&Instance>> = BTreeMap::new();
        for instance in self.instances.iter().filter(|i| i.port.is_some() && i.wanted) {
            services.entry(&instance.service).or_default().push(instance);
        }
        if services.is_empty() {
            return Some(format!("every web service is paused: {}", self.paused.join(", ")));
        }
        services.into_iter().find_map(|(service, instances)| {
            let serves = instances.iter().any(|i| i.serves() && i.current);
            let each = instances.iter().map(|i| format!("{} {}", text::named(i), text::instance(i, false)));
            (!serves).then(|| {
                format!(
                    "no instance of {service} serves the committed release: {}",
                    each.collect::<Vec<_>>().join("; ")
                )
            })
        })
    }
}

/// `install (run 1) failed: the registry does not answer`
fn ended(run: &Run) -> String {
    let outcome = run.outcome.map_or("was cut off", history::outcome_label);
    let reason = run.reason.as_ref().map(|r| format!(": {}", short(r))).unwrap_or_default();
    format!("{} (run {}) {outcome}{reason}", run.verb.as_str(), run.run)
}

#[cfg(test)]
mod tests;
