//! Moves the instances to other ports after a change of `[app] base_port`: a run of its own before a deploy.
//!
//! One instance after another is drained, restarted on its new port, and added to Caddy there before it gets
//! requests again: Caddy's config then always has each instance's actual port. Only `install` and `deploy`
//! move instances (docs/decisions/0012).

use std::collections::BTreeMap;

use super::checks;
use super::{Inputs, files, instances, units};
use crate::config::Strategy;
use crate::model::name::InstanceId;
use crate::model::plan::Plan;
use crate::model::problem::Problem;
use crate::model::step::{Content, Step, Target};

/// The wanted instances, and the spare, that are not on their configured port.
fn moved(inputs: &Inputs<'_>) -> Vec<InstanceId> {
    let app = &inputs.config.app;
    let ids = inputs.config.instances().chain(inputs.config.spare());
    ids.filter(|id| inputs.port(*id) != app.port_of(*id)).collect()
}

/// The moves of the next `deploy`, in words.
pub fn pending(inputs: &Inputs<'_>) -> Option<String> {
    let wanted = |id: &InstanceId| inputs.config.spare() != Some(*id);
    let moved: Vec<_> = moved(inputs).into_iter().filter(wanted).collect();
    let each: Vec<_> = moved
        .iter()
        .map(|id| format!("{} to port {}", inputs.target(*id), inputs.config.app.port_of(*id)))
        .collect();
    (!each.is_empty()).then(|| format!("deploy would move {}", each.join(", ")))
}

/// Reasons not to move.
pub fn problems(inputs: &Inputs<'_>) -> Vec<Problem> {
    let own =
        |port: u16| inputs.observed.instances.keys().any(|id| up(inputs, *id) && inputs.port(*id) == port);
    let ports = moved(inputs).into_iter().map(|id| inputs.config.app.port_of(id));
    let busy = ports.filter(|port| inputs.observed.busy.contains(port) && !own(*port));
    busy.map(|port| checks::taken_port(port, "where agent.toml wants an instance")).collect()
}

/// The plan for all moves; empty if there are none.
pub fn plan(inputs: &Inputs<'_>) -> Plan {
    let moved = moved(inputs);
    if moved.is_empty() {
        return Plan::default();
    }
    let config = inputs.config;
    let runs = |id: &&InstanceId| config.spare() != Some(**id) && up(inputs, **id);
    let restarts = moved.iter().any(|id| runs(&id));
    let borrowed = config.spare().filter(|_| restarts && inputs.committed().is_some());
    let drains = config.app.instances > 1 || borrowed.is_some();
    let mut warnings = Vec::new();
    if restarts && !drains && config.deploy.strategy == Strategy::Rolling {
        warnings.push("rolling with one instance: the site is down while it moves".to_owned());
    }
    // An instance must not move to a port that another one still uses.
    let rises = moved.iter().any(|id| config.app.port_of(*id) > inputs.port(*id));
    let mut order = moved;
    order.retain(|id| config.spare() != Some(*id));
    if rises {
        order.reverse();
    }
    let listens = files::lasting(inputs);
    let mut moves = Moves { inputs, known: listens.clone(), listens, steps: Vec::new() };
    if let Some(spare) = config.spare() {
        if rises || borrowed.is_none() {
            moves.settle(spare);
        }
        if borrowed.is_some() {
            moves.mark(spare);
            moves.start(spare);
        }
    }
    for id in order {
        let from = inputs.target(id);
        let runs = up(inputs, id);
        if runs && drains {
            let drain = vec![inputs.drain(from)];
            // A stopped instance is not started here: waiting for it would block the deploy that may fix it.
            if config.instances().any(|other| other != id && up(inputs, other)) {
                instances::after_another(inputs, &mut moves.steps, id, drain);
            } else {
                moves.steps.extend(drain);
            }
        }
        moves.settle(id);
        if runs {
            moves.start(id);
        }
    }
    if let Some(spare) = borrowed {
        let instance = moves.target(spare);
        moves.drain(instance.clone());
        moves.steps.push(Step::StopInstance { instance, stop: inputs.config.app.stop_timeout });
        moves.settle(spare);
    }
    moves.tell_caddy();
    Plan { moves: true, ..Plan::forward(moves.steps, warnings) }
}

fn up(inputs: &Inputs<'_>, id: InstanceId) -> bool {
    inputs.observed.instances.get(&id).is_some_and(|seen| seen.unit.is_up())
}

struct Moves<'a> {
    inputs: &'a Inputs<'a>,
    /// The port of each instance after the steps so far, and what Caddy was told.
    listens: BTreeMap<InstanceId, u16>,
    known: BTreeMap<InstanceId, u16>,
    steps: Vec<Step>,
}

impl Moves<'_> {
    fn target(&self, id: InstanceId) -> Target {
        let port = self.listens.get(&id).copied();
        self.inputs.target_at(id, port.unwrap_or_else(|| self.inputs.config.app.port_of(id)))
    }

    fn drain(&mut self, instance: Target) {
        self.steps.push(self.inputs.drain(instance));
    }

    /// A stopped instance: only the marker is set, to keep requests away until it is ready.
    fn mark(&mut self, id: InstanceId) {
        self.steps.extend(self.inputs.set_aside(id));
    }

    /// Sets the configured port for the instance's next start.
    fn settle(&mut self, id: InstanceId) {
        let port = self.inputs.config.app.port_of(id);
        if self.listens.insert(id, port) == Some(port) {
            return;
        }
        let path = units::drop_in(self.inputs.config, id);
        let content = Content::Plain(units::instance(id, port).into_bytes());
        self.steps.push(Step::WriteFile { path, mode: files::MODE, content });
        self.steps.push(Step::DaemonReload);
    }

    /// Starts the committed release there; Caddy is told once it is ready.
    fn start(&mut self, id: InstanceId) {
        let (config, instance, probe) = (self.inputs.config, self.target(id), self.inputs.probe());
        let (stop, timeout) = (config.app.stop_timeout, probe.timeout);
        self.steps.push(Step::RestoreCommitted { instance: instance.clone(), stop, timeout });
        self.steps.push(Step::AwaitReady { instance: instance.clone(), probe });
        self.tell_caddy();
        self.steps.push(self.inputs.undrain(instance));
    }

    fn tell_caddy(&mut self) {
        if self.known != self.listens {
            self.steps.push(files::caddyfile_step(self.inputs, &self.listens));
            self.known = self.listens.clone();
        }
    }
}

#[cfg(test)]
mod tests;
