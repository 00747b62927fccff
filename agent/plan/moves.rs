//! Moves the instances to other ports after a change of `base_port`: a run of its own before a deploy.
//!
//! One instance after another is drained, restarted on its new port, and added to Caddy there before it gets
//! requests again: Caddy's config then always has each instance's actual port. Only `install` and `deploy`
//! move instances (docs/decisions/0012).

use super::checks;
use super::files::Listens;
use super::{Inputs, files, instances, own_files, units};
use crate::config::{Service, Strategy};
use crate::model::instance::InstanceName;
use crate::model::plan::Plan;
use crate::model::problem::Problem;
use crate::model::step::{Content, Step, Target};
use crate::model::unit::ActiveState;

/// The wanted instances of `service`, and its spare, that are not on their configured port.
fn moved(inputs: &Inputs<'_>, service: &Service) -> Vec<InstanceName> {
    let lines = inputs.committed();
    if lines.is_some_and(|lines| own_files::lacks(inputs, &lines, service.name)) {
        // The committed release could not start there: the next one moves.
        return Vec::new();
    }
    let ids = service.instances().chain(service.spare());
    ids.filter(|id| inputs.port(*id) != inputs.config.port_of(*id)).collect()
}

/// Those of all services.
fn all_moved(inputs: &Inputs<'_>) -> Vec<InstanceName> {
    inputs.config.services().flat_map(|service| moved(inputs, service)).collect()
}

/// The moves of the next `deploy`, in words.
pub fn pending(inputs: &Inputs<'_>) -> Option<String> {
    let moved = all_moved(inputs).into_iter().filter(|id| !inputs.config.is_spare(*id));
    let to = |id| Some(format!("{} to port {}", inputs.target(id), inputs.config.port_of(id)?));
    let each: Vec<_> = moved.filter_map(to).collect();
    (!each.is_empty()).then(|| format!("deploy would move {}", each.join(", ")))
}

/// Reasons not to move.
pub fn problems(inputs: &Inputs<'_>) -> Vec<Problem> {
    let holder = |port: u16| {
        let mut up = inputs.observed.instances.keys().filter(|id| up(inputs, **id));
        up.find(|id| inputs.port(**id) == Some(port)).copied()
    };
    let problem = |(id, port): (InstanceName, u16)| match holder(port) {
        // The order of the moves within a service takes care of it.
        Some(other) if other.service == id.service => None,
        Some(other) => {
            let what =
                format!("{} is to move to port {port}, where {} is", inputs.target(id), inputs.target(other));
            let fix = format!("first move {} alone: one deploy for each of the two changes", other.service);
            Some(Problem::host("port", what, fix))
        }
        None => {
            let taken = inputs.observed.busy.contains(&port);
            taken.then(|| checks::taken_port(port, "where agent.toml wants an instance"))
        }
    };
    let moves = all_moved(inputs).into_iter().filter_map(|id| Some((id, inputs.config.port_of(id)?)));
    moves.filter_map(problem).collect()
}

/// The plan for all moves; empty if there are none.
pub fn plan(inputs: &Inputs<'_>) -> Plan {
    let listens = files::lasting(inputs);
    let mut moves =
        Moves { inputs, known: listens.clone(), listens, steps: Vec::new(), warnings: Vec::new() };
    for service in inputs.config.services() {
        moves.of(service);
    }
    if moves.steps.is_empty() {
        return Plan::default();
    }
    moves.tell_caddy();
    Plan { moves: true, ..Plan::forward(moves.steps, moves.warnings) }
}

fn up(inputs: &Inputs<'_>, id: InstanceName) -> bool {
    inputs.observed.instances.get(&id).is_some_and(|seen| seen.unit.is_up())
}

/// Number of wanted instances of `service` that run.
fn runs(inputs: &Inputs<'_>, service: &Service) -> usize {
    service.instances().filter(|id| up(inputs, *id)).count()
}

struct Moves<'a> {
    inputs: &'a Inputs<'a>,
    /// The port of each instance after the steps so far, and what Caddy was told.
    listens: Listens,
    known: Listens,
    steps: Vec<Step>,
    warnings: Vec<String>,
}

impl Moves<'_> {
    /// Moves the instances of one service.
    fn of(&mut self, service: &Service) {
        let inputs = self.inputs;
        let mut order = moved(inputs, service);
        if !inputs.is_routed(service) {
            // It gets no requests yet, and its first deploy starts it on its port.
            return order.into_iter().for_each(|id| self.write(id));
        }
        let spare = service.spare();
        let restarts = order.iter().any(|id| spare != Some(*id) && up(inputs, *id));
        let borrowed = spare.filter(|_| restarts && inputs.committed().is_some());
        let added = if restarts && borrowed.is_none() { self.added(service) } else { None };
        let drains = borrowed.is_some() || added.is_some() || runs(inputs, service) > 1;
        if restarts && !drains && service.strategy == Strategy::Rolling {
            let down = if service.name.is_app() { "the site".to_owned() } else { service.name.to_string() };
            let alone =
                if service.instances == 1 { "rolling with one instance" } else { "one instance runs" };
            self.warnings.push(format!("{alone}: {down} is down while it moves"));
        }
        // An instance must not move to a port that another one still uses.
        let rises = order.iter().any(|id| inputs.config.port_of(*id) > inputs.port(*id));
        let moves = !order.is_empty();
        order.retain(|id| spare != Some(*id) && added != Some(*id));
        if rises {
            order.reverse();
        }
        if let Some(spare) = spare.filter(|_| moves) {
            if rises || borrowed.is_none() {
                self.settle(spare);
            }
            if borrowed.is_some() {
                self.mark(spare);
                self.start(spare);
            }
        }
        if let Some(added) = added {
            self.mark(added);
            self.settle(added);
            self.start(added);
        }
        for id in order {
            self.step(service, id, drains);
        }
        if let Some(spare) = borrowed {
            let instance = self.target(spare);
            self.steps.extend(inputs.drain(instance.clone()));
            self.steps.push(inputs.stop(instance));
            self.settle(spare);
        }
    }

    /// Moves one instance.
    fn step(&mut self, service: &Service, id: InstanceName, drains: bool) {
        let inputs = self.inputs;
        let runs = up(inputs, id);
        if runs && drains {
            let drain: Vec<_> = inputs.drain(inputs.target(id)).into_iter().collect();
            if service.instances().any(|other| other != id && up(inputs, other)) {
                instances::after_another(inputs, &mut self.steps, id, drain);
            } else {
                self.steps.extend(drain);
            }
        }
        self.settle(id);
        if runs {
            self.start(id);
        }
    }

    /// A stopped instance to start first, for one that moves and is the only one that runs: `instances` was
    /// raised with the port. Not one that failed: waiting for it would block the deploy that may fix it.
    fn added(&self, service: &Service) -> Option<InstanceName> {
        let inputs = self.inputs;
        let state = |id| inputs.observed.instances.get(&id).map(|seen| &seen.unit.active);
        let failed = |id| state(id) == Some(&ActiveState::Failed);
        let port = |id| inputs.config.port_of(id);
        let held = |id| service.instances().any(|other| up(inputs, other) && inputs.port(other) == port(id));
        let alone = runs(inputs, service) == 1 && inputs.committed().is_some();
        service.instances().find(|id| alone && !up(inputs, *id) && !failed(*id) && !held(*id))
    }

    fn target(&self, id: InstanceName) -> Target {
        let port = self.listens.get(&id).copied();
        self.inputs.target_at(id, port.or_else(|| self.inputs.config.port_of(id)))
    }

    /// A stopped instance: only the marker is set, to keep requests away until it is ready.
    fn mark(&mut self, id: InstanceName) {
        self.steps.extend(self.inputs.set_aside(id));
    }

    /// Sets the configured port for the instance's next start.
    fn settle(&mut self, id: InstanceName) {
        let Some(port) = self.inputs.config.port_of(id) else { return };
        if self.listens.insert(id, port) != Some(port) {
            self.write(id);
        }
    }

    fn write(&mut self, id: InstanceName) {
        let Some(port) = self.inputs.config.port_of(id) else { return };
        let path = units::drop_in(self.inputs.config, id);
        let content = Content::Plain(units::instance(id, port).into_bytes());
        self.steps.push(Step::WriteFile { path, mode: files::MODE, content });
        self.steps.push(Step::DaemonReload);
    }

    /// Starts the committed release there; Caddy is told once it is ready.
    fn start(&mut self, id: InstanceName) {
        let instance = self.target(id);
        self.steps.push(self.inputs.restore(instance.clone()));
        self.steps.push(self.inputs.await_ready(instance.clone()));
        self.tell_caddy();
        self.steps.extend(self.inputs.undrain(instance));
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
