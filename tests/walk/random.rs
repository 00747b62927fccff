//! Long sequences of random operations over the abstract host, each disturbed now and then. The same seed draws the same
//! sequence again.

use std::fmt::Write;
use std::time::Instant;

use crate::agent::Ask;
use crate::bugs::Bug;
use crate::draw::Draw;
use crate::moves::{Move, Operation, fates, rests};
use crate::promises::Broken;
use crate::search::{take, tell};
use crate::site::Site;
use crate::state::{Left, State};

/// Operations of one host; then another one is drawn.
const LENGTH: usize = 40;
/// In all, without `ASTRA_WALK_OPS`.
const OPERATIONS: usize = 8_000;
/// Another image never has a smaller number; few, so that they come back.
const IMAGES: usize = 6;

fn site(draw: &mut Draw) -> Site {
    let instances = draw.pick(&[1, 2, 2, 3]);
    let (surge, auto) = (draw.one_in(2), draw.one_in(3));
    Site { auto, ..Site::new(instances, surge) }
}

fn ask(draw: &mut Draw) -> Ask {
    let force = draw.one_in(4);
    draw.pick(&[
        Ask::Deploy { force },
        Ask::Deploy { force },
        Ask::Deploy { force },
        Ask::Rollback { force },
        Ask::Rollback { force },
        Ask::Reconcile,
        Ask::Reconcile,
        Ask::Recover,
        Ask::Install,
    ])
}

fn operation(draw: &mut Draw, site: Site) -> Operation {
    let ask = ask(draw);
    let by = if site.instances == 1 || (site.instances < 3 && draw.one_in(2)) { 1 } else { -1 };
    let env = 1 + u8::try_from(draw.below(3)).unwrap();
    let tag = 1 + u8::try_from(draw.below(IMAGES)).unwrap();
    let instance = 1 + u8::try_from(draw.below(site.instances.into())).unwrap();
    let (role, workers) = (1 + u8::try_from(draw.below(3)).unwrap(), u8::try_from(draw.below(3)).unwrap());
    match draw.below(14) {
        0..=2 => Operation::Tag(tag, ask),
        3..=6 => Operation::Ask(ask),
        7 => Operation::Grow(by, ask),
        8 => Operation::Environment(env, ask),
        9 => Operation::Reboot,
        10 => Operation::Crash(instance),
        11 => Operation::Role(role, ask),
        12 => Operation::Workers(workers, ask),
        _ => Operation::Time,
    }
}

/// One host and what befell it, in words; the number of steps taken.
fn sequence(seed: u64, told: &mut String) -> Result<usize, Broken> {
    let mut draw = Draw::new(seed);
    let mut state = State::new(site(&mut draw), Left { disturbances: 1, operations: 1 });
    writeln!(told, "{:?}", state.site).unwrap();
    let mut steps = 0;
    let mut rare = 20;
    for nth in 0..LENGTH {
        let first = Operation::Ask(Ask::Install);
        let operation = if nth == 0 { first } else { operation(&mut draw, state.site) };
        step(&mut state, Move::Operation(operation), told)?;
        while state.process.is_some() {
            let fates = fates(&state);
            let fate = if draw.one_in(rare) { draw.pick(&fates) } else { fates[0] };
            step(&mut state, Move::Step(fate), told)?;
            steps += 1;
        }
        if draw.one_in(3) {
            rests(&state, Bug::None, &mut Default::default())?;
        }
        rare = draw.pick(&[5, 20, 20, 60]);
    }
    Ok(steps)
}

fn step(state: &mut State, by: Move, told: &mut String) -> Result<(), Broken> {
    // StepNote beforehand: a broken promise leaves no state that could say what was done.
    tell(told, state, by);
    take(state, by, Bug::None)
}

#[test]
fn random_operations_keep_every_promise() {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let _turn = crate::TURN.lock();
    let begun = Instant::now();
    let first = number("ASTRA_SEED").unwrap_or(1);
    let wanted = number("ASTRA_WALK_OPS").map_or(OPERATIONS, |ops| usize::try_from(ops).unwrap());
    let hosts = u64::try_from(wanted.div_ceil(LENGTH)).unwrap();
    let half = |start: u64| {
        let mut steps = 0;
        for seed in (first + start..first + hosts).step_by(2) {
            let mut told = String::new();
            match sequence(seed, &mut told) {
                Ok(taken) => steps += taken,
                Err(broken) => panic!(
                    "{} is broken: {}\nASTRA_SEED={seed} ASTRA_WALK_OPS=1 cargo test --test walk random\n{told}",
                    broken.promise, broken.what
                ),
            }
        }
        steps
    };
    let steps: usize = std::thread::scope(|scope| {
        let threads = [0, 1].map(|start| scope.spawn(move || half(start)));
        threads.map(|thread| thread.join().unwrap_or_else(|why| std::panic::resume_unwind(why))).iter().sum()
    });
    let operations = hosts * LENGTH as u64;
    println!(
        "seeds {first} to {}: {operations} operations, {steps} steps, {:.1} s",
        first + hosts - 1,
        begun.elapsed().as_secs_f64()
    );
}

#[test]
fn a_seed_draws_the_same_sequence_again() {
    for seed in 1..10 {
        let [one, two] = [(); 2].map(|()| {
            let mut told = String::new();
            let _ = sequence(seed, &mut told);
            told
        });
        assert_eq!(one, two);
    }
}
