//! An upgrade of Caddy's image works like a release: Caddy starts from a trial file in /run, and caddy.env is
//! renamed once it has answered. Here are the steps before it, and the cleanup after a cut-off one.

use std::path::Path;

use super::{Inputs, files};
use crate::model::name::{CADDY_ENV, CADDY_TRIAL_ENV, CADDY_UNIT};
use crate::model::step::Step;
use crate::model::unit::LoadState;

/// Caddy's unit must be current before a trial: an older one does not read the trial file.
pub fn unit(inputs: &Inputs<'_>) -> Vec<Step> {
    files::current_unit(inputs, CADDY_UNIT)
}

/// Whether a cut-off run left a trial file.
pub fn is_left(inputs: &Inputs<'_>) -> bool {
    inputs.observed.files.contains_key(Path::new(CADDY_TRIAL_ENV))
}

/// Restarts Caddy from the image in caddy.env, and removes the trial file.
pub fn settle(inputs: &Inputs<'_>) -> Option<Step> {
    let observed = inputs.observed;
    if !is_left(inputs) {
        return None;
    }
    let Some(env) = files::seen_text(inputs, CADDY_ENV) else {
        return Some(Step::RemoveFile { path: CADDY_TRIAL_ENV.into() });
    };
    let steady = observed.units.get(CADDY_UNIT).is_some_and(|unit| unit.is_active() && !unit.job);
    let runs = observed.caddy.as_ref().and_then(|caddy| caddy.runs.as_ref());
    if steady && runs.is_some_and(|runs| runs.env == env) {
        return Some(Step::RemoveFile { path: CADDY_TRIAL_ENV.into() });
    }
    Some(Step::SwitchCaddyImage { before: env.clone(), env })
}

/// Starts a Caddy that is down, unless systemd is starting or restarting it.
pub fn start(inputs: &Inputs<'_>) -> Option<Step> {
    let unit = inputs.observed.units.get(CADDY_UNIT)?;
    let is_ours = unit.load == LoadState::Loaded && inputs.observed.files.contains_key(Path::new(CADDY_ENV));
    (unit.is_down() && is_ours && !is_left(inputs)).then(|| Step::StartUnit { unit: CADDY_UNIT.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::model::fingerprint::HostKey;
    use crate::model::history::History;
    use crate::model::observed::{CaddyRuns, CaddySeen, Engine, FileSeen, Observed};
    use crate::model::unit::{ActiveState, UnitSeen};

    fn host(trial: Option<&str>, state: &str, runs: Option<&str>) -> Observed {
        let mut observed = Observed::default();
        let file = |text: &str| FileSeen { bytes: text.into(), mode: 0o644 };
        observed.files.insert(CADDY_ENV.into(), file("old"));
        observed.files.extend(trial.map(|text| (CADDY_TRIAL_ENV.into(), file(text))));
        let unit =
            UnitSeen { load: LoadState::Loaded, active: ActiveState::parse(state), ..UnitSeen::default() };
        observed.units.insert(CADDY_UNIT.into(), unit);
        let runs = runs.map(|env| CaddyRuns { caddyfile: None, service: String::new(), env: env.into() });
        observed.caddy = runs.map(|runs| CaddySeen { version: None, runs: Some(runs) });
        observed
    }

    fn decided(observed: &Observed) -> (Option<String>, Option<String>) {
        let config =
            config::parse(&[("agent.toml".into(), "[app]\nimage = 'ghcr.io/a/b:1'".into())]).unwrap();
        let (history, key) = (History::default(), HostKey::new([7; 32]));
        let inputs = Inputs {
            config: &config,
            observed,
            history: &history,
            key: &key,
            engine: Engine::Podman,
            agent: "/usr/bin/astra-agent",
            caddy_image: None,
        };
        (settle(&inputs).map(|step| step.to_string()), start(&inputs).map(|step| step.to_string()))
    }

    #[test]
    fn a_cut_off_caddy_trial_restores_the_committed_image() {
        let remove = Some(format!("remove {CADDY_TRIAL_ENV}"));
        let restart = Some("restart Caddy from another image".to_owned());
        // Cut before the restart: the committed image is running.
        assert_eq!(decided(&host(Some("new"), "active", Some("old"))), (remove.clone(), None));
        // A stopping Caddy may still answer.
        let stopping = decided(&host(Some("new"), "deactivating", Some("old")));
        assert_eq!(stopping.0, restart);
        // The new one answers, or does not start at all.
        assert_eq!(decided(&host(Some("new"), "active", Some("new"))), (restart.clone(), None));
        assert_eq!(decided(&host(Some("new"), "activating", None)), (restart, None));
        // Cut between the rename of caddy.env and the removal of the trial file.
        assert_eq!(decided(&host(Some("old"), "active", Some("old"))), (remove, None));
    }

    #[test]
    fn a_caddy_that_is_down_is_started() {
        let start = Some("start astra-caddy.service".to_owned());
        assert_eq!(decided(&host(None, "inactive", None)), (None, start.clone()));
        assert_eq!(decided(&host(None, "failed", None)), (None, start));
        assert_eq!(decided(&host(None, "activating", None)), (None, None));
        assert_eq!(decided(&host(None, "active", Some("old"))), (None, None));
        let mut masked = host(None, "inactive", None);
        masked.units.get_mut(CADDY_UNIT).unwrap().load = LoadState::Masked;
        assert_eq!(decided(&masked), (None, None));
    }
}
