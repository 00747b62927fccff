//! The Caddyfile on its way to Caddy, and the addresses at which containers call services. Called by files.rs, moves.rs,
//! release and accessories.rs.

use std::path::Path;

use super::{Listens, MODE, backup_file, current_units, is_as, lasting_of, listens, seen_text};
use crate::model::envfile::ManagedLines;
use crate::model::fingerprint::sha256;
use crate::model::name::{CADDY_UNIT, CADDYFILE, NAMES_UNIT};
use crate::model::step::{Content, Step};
use crate::plan::calls::{self, Called};
use crate::plan::{Inputs, caddy};

/// After the commit of `lines`: routes to web services that were not committed before.
pub fn new_routes(inputs: &Inputs<'_>, lines: &ManagedLines) -> Option<Step> {
    let (known, mut all) = (listens(inputs), lasting_of(inputs, |service| lines.is_routed(service.name)));
    // One that is surplus, and alone serves, is known to Caddy as well.
    all.extend(&known);
    // A service without a route, which others call, has been there since before its trial.
    let after = caddyfile(inputs, &all, &calls::after(inputs, Some(lines.clone())));
    (after != caddyfile(inputs, &known, &calls::called(inputs))).then(|| load(inputs, after))
}

/// The step to the Caddyfile for these ports: loaded by Caddy if it answers, else only written.
pub fn caddyfile_step(inputs: &Inputs<'_>, listens: &Listens) -> Step {
    load(inputs, caddyfile(inputs, listens, &calls::called(inputs)))
}

fn load(inputs: &Inputs<'_>, caddyfile: Vec<u8>) -> Step {
    let content = Content::Plain(caddyfile);
    match inputs.observed.caddy {
        Some(_) => {
            let in_use = inputs.observed.instances.values().any(|seen| seen.unit.is_up());
            Step::LoadCaddy { content, in_use }
        }
        None => Step::WriteFile { path: CADDYFILE.into(), mode: MODE, content },
    }
}

/// Empty if the Caddyfile is on disk, Caddy is not known to run another one, and its addresses are set.
pub(super) fn caddyfile_steps(inputs: &Inputs<'_>, listens: &Listens) -> Vec<Step> {
    let called = calls::called(inputs);
    let bytes = caddyfile(inputs, listens, &called);
    let loaded = inputs.observed.caddy.as_ref().and_then(|c| c.runs.as_ref());
    let runs = loaded.is_none_or(|runs| runs.caddyfile.as_deref() == Some(&sha256(&bytes)));
    let changes = !(runs && is_as(inputs, Path::new(CADDYFILE), &bytes));
    let mut steps = addresses(inputs, &called, changes);
    if changes {
        steps.extend(backup_file(inputs, Path::new(CADDYFILE)));
        steps.push(load(inputs, bytes));
    }
    steps
}

/// Before Caddy listens at the addresses of services, in a Caddyfile that `changes` or in that of today: sets them now,
/// and with Caddy's unit at each boot.
fn addresses(inputs: &Inputs<'_>, called: &Called, changes: bool) -> Vec<Step> {
    let are_set = calls::are_set(inputs, called);
    if called.is_empty() || (are_set && !changes) {
        return Vec::new();
    }
    let mut steps = current_units(inputs, &[NAMES_UNIT, CADDY_UNIT]);
    steps.extend((!are_set).then(|| Step::StartUnit { unit: NAMES_UNIT.to_owned() }));
    steps
}

/// Sets addresses that were lost.
pub(super) fn missing_addresses(inputs: &Inputs<'_>) -> Vec<Step> {
    addresses(inputs, &calls::called(inputs), false)
}

/// Before a container whose arguments have names of services: they lead to Caddy.
pub(in crate::plan) fn names(inputs: &Inputs<'_>) -> Vec<Step> {
    caddyfile_steps(inputs, &listens(inputs))
}

pub(super) fn caddyfile(inputs: &Inputs<'_>, listens: &Listens, called: &Called) -> Vec<u8> {
    caddy::caddyfile(inputs.config, caddy_version(inputs), listens, called).into_bytes()
}

/// That which runs, or for which the Caddyfile on disk was written.
fn caddy_version(inputs: &Inputs<'_>) -> Option<(u32, u32)> {
    let running = inputs.observed.caddy.as_ref().and_then(|c| c.version);
    let written = || caddy::written_for(&seen_text(inputs, CADDYFILE)?);
    running.or_else(written)
}
