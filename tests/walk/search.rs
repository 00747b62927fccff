//! The search, breadth first: the first path to a broken promise is a shortest one.

use std::collections::{HashSet, VecDeque};
use std::fmt::Write;

use crate::agent::{Ask, Process};
use crate::bugs::Bug;
use crate::moves::{Move, Operation, fates, operate, perform, rests, undisturbed};
use crate::promises::Broken;
use crate::site::Site;
use crate::state::{Left, State};

/// Where a walk begins, and with what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scenario {
    pub site: Site,
    pub kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    FirstInstall,
    NewDigest,
    NewConfig,
    /// For the worker alone.
    NewRole,
    Rollback,
    HeldAgain,
}

pub const KINDS: [Kind; 5] =
    [Kind::FirstInstall, Kind::NewDigest, Kind::NewConfig, Kind::Rollback, Kind::HeldAgain];

/// Each of one to three instances, with both strategies; and two sites with a worker beside the app.
pub fn scenarios() -> Vec<Scenario> {
    let sites = [1, 2, 3].into_iter().flat_map(|n| [false, true].map(|surge| Site::new(n, surge)));
    let of = |site| KINDS.map(|kind| Scenario { site, kind });
    let workers = [1, 2].map(|workers| Site { workers, ..Site::new(2, workers == 2) });
    let both = workers
        .into_iter()
        .flat_map(|site| of(site).into_iter().chain([Scenario { site, kind: Kind::NewRole }]));
    sites.flat_map(of).chain(both).collect()
}

impl Scenario {
    /// The host before the first move, and that move.
    pub fn begin(self, left: Left) -> (State, Operation) {
        let mut state = State::new(self.site, Left::default());
        let mut run = |operation| {
            operate(&mut state, operation, Bug::None).unwrap();
            undisturbed(&mut state, Bug::None).unwrap();
        };
        let deploy = Ask::Deploy { force: false };
        if self.kind != Kind::FirstInstall {
            run(Operation::Ask(Ask::Install));
        }
        let first = match self.kind {
            Kind::FirstInstall => Operation::Ask(Ask::Install),
            Kind::NewDigest => Operation::Tag(2, deploy),
            Kind::NewConfig => Operation::Environment(2, deploy),
            Kind::NewRole => Operation::Role(2, deploy),
            Kind::Rollback => {
                run(Operation::Tag(2, deploy));
                Operation::Ask(Ask::Rollback { force: false })
            }
            Kind::HeldAgain => {
                run(Operation::Tag(2, deploy));
                run(Operation::Ask(Ask::Rollback { force: false }));
                Operation::Ask(Ask::Deploy { force: true })
            }
        };
        state.left = left;
        (state, first)
    }
}

/// The operations between two runs.
fn between(state: &State) -> Vec<Operation> {
    let deploy = Ask::Deploy { force: false };
    let mut operations = vec![
        Operation::Ask(Ask::Reconcile),
        Operation::Ask(Ask::Recover),
        Operation::Ask(deploy),
        Operation::Ask(Ask::Rollback { force: false }),
        Operation::Tag(3, deploy),
        Operation::Grow(1, deploy),
        Operation::Grow(1, Ask::Reconcile),
    ];
    if state.site.workers > 0 {
        operations.extend([
            Operation::Role(3, deploy),
            Operation::Workers(0, deploy),
            Operation::Workers(0, Ask::Reconcile),
        ]);
    }
    if state.site.instances > 1 {
        operations.extend([Operation::Grow(-1, deploy), Operation::Grow(-1, Ask::Reconcile)]);
    }
    operations
}

struct Node {
    parent: u32,
    by: Move,
}

#[derive(Debug)]
pub struct Found {
    pub broken: Broken,
    /// The moves, each with what was done.
    pub path: String,
}

#[derive(Debug, Default)]
pub struct Walked {
    pub states: usize,
    pub rests: usize,
    pub found: Option<Box<Found>>,
}

/// Every state that `scenario` leads to, until a promise is broken.
pub fn walk(scenario: Scenario, left: Left, bug: Bug) -> Walked {
    let (root, first) = scenario.begin(left);
    let mut walk =
        Walk { nodes: Vec::new(), seen: HashSet::new(), rested: HashSet::new(), queue: VecDeque::new(), bug };
    let mut broken = walk.enter(&root, u32::MAX, Move::Operation(first));
    while let (Ok(()), Some((at, state))) = (&broken, walk.queue.pop_front()) {
        broken = walk.expand(&state, at);
    }
    let found = broken.err().map(|broken| {
        let path = walk.path(root);
        Box::new(Found { broken, path })
    });
    Walked { states: walk.seen.len(), rests: walk.rested.len(), found }
}

struct Walk {
    nodes: Vec<Node>,
    seen: HashSet<u64>,
    /// States between two runs from which the host has been seen to come to rest.
    rested: HashSet<u64>,
    queue: VecDeque<(u32, State)>,
    bug: Bug,
}

impl Walk {
    /// Make the move, and keep the state when it is a new one. The last node is where a promise was broken.
    fn enter(&mut self, from: &State, parent: u32, by: Move) -> Result<(), Broken> {
        let at = u32::try_from(self.nodes.len()).unwrap();
        self.nodes.push(Node { parent, by });
        let mut state = from.clone();
        take(&mut state, by, self.bug)?;
        if state.process.is_none() {
            rests(&state, self.bug, &mut self.rested)?;
        }
        if self.seen.insert(state.key()) {
            self.queue.push_back((at, state));
        } else {
            self.nodes.pop();
        }
        Ok(())
    }

    fn expand(&mut self, state: &State, at: u32) -> Result<(), Broken> {
        if state.process.is_some() {
            for (nth, fate) in fates(state).into_iter().enumerate() {
                let mut from = state.clone();
                from.left.disturbances -= u8::from(nth > 0);
                self.enter(&from, at, Move::Step(fate))?;
            }
        } else if state.left.operations > 0 {
            let mut from = state.clone();
            from.left.operations -= 1;
            for operation in between(&from) {
                self.enter(&from, at, Move::Operation(operation))?;
            }
        }
        Ok(())
    }

    /// The moves to the last node.
    fn path(&self, mut state: State) -> String {
        let mut moves = Vec::new();
        let mut at = self.nodes.last();
        while let Some(node) = at {
            moves.push(node.by);
            at = self.nodes.get(node.parent as usize);
        }
        let mut text = String::new();
        for by in moves.into_iter().rev() {
            tell(&mut text, &state, by);
            if take(&mut state, by, self.bug).is_err() {
                return text;
            }
        }
        text.push_str("  then recover, some time, and the timer\n");
        text
    }
}

/// A line for a move from `state`.
pub fn tell(text: &mut String, state: &State, by: Move) {
    let pending = state.process.as_ref().and_then(|p: &Process| p.pending.as_ref());
    let undoing = pending.is_some_and(|p| p.undoing);
    match (by, pending) {
        (Move::Step(fate), Some(pending)) => {
            let way = if undoing { "back: " } else { "" };
            writeln!(text, "    {way}{}: {fate:?}", pending.step).unwrap();
        }
        _ => writeln!(text, "  {by}").unwrap(),
    }
}

pub fn take(state: &mut State, by: Move, bug: Bug) -> Result<(), Broken> {
    match by {
        Move::Step(fate) => perform(state, fate, bug),
        Move::Operation(operation) => operate(state, operation, bug),
    }
}
