//! A random operator: a seed draws a site and operations on it, any verb, any file, any process, and after
//! each operation the promises are checked from outside. `draw` is the site, `ops` the operations, `act` does
//! them, `look` observes the host, `judge` and `whole` check the promises, `shrink` finds the operations that
//! are enough for a failure.
//!
//!     ASTRA_SEED=7 cargo test --test host operator::drawn -- --nocapture                  one sequence
//! ASTRA_SEED=7 ASTRA_OPS=3,9 cargo test --test host operator::drawn -- --nocapture    these operations of it
//!     ASTRA_OPERATOR=200 …                                                         so many, from ASTRA_SEED on

mod accessory;
mod act;
mod draw;
mod judge;
mod look;
mod ops;
mod sequence;
mod shrink;
mod tally;
mod tests;
mod whole;

use std::env;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crate::harness::Engine;
use crate::kills::{commit, results};
use crate::rows::record;
use sequence::{Drawn, Ended, Failure};
use tally::{Line, Tally};

/// Operations of a sequence, in a campaign and here.
const LENGTH: usize = 15;
const SHORT: usize = 4;

/// A campaign continues after a failure; it has succeeded when the last of this many broke no promise.
const LAST: usize = 60;

fn setting<T: std::str::FromStr>(name: &str) -> Option<T> {
    env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text}: not a number")))
}

/// The hosts' engine: ASTRA_ENGINE.
fn engine() -> Engine {
    match env::var("ASTRA_ENGINE").as_deref() {
        Err(_) | Ok("podman") => Engine::Podman,
        Ok("docker") => Engine::Docker,
        Ok(other) => panic!("ASTRA_ENGINE={other}: not podman or docker"),
    }
}

/// Prints everything needed to repeat a failure.
fn tell(drawn: &Drawn, places: &[usize], failure: &Failure, length: usize) {
    let places: Vec<String> = places.iter().map(usize::to_string).collect();
    println!(
        "\n{} broke a promise after {}:\n  {}\n\
         the same again:\n  ASTRA_ENGINE={} ASTRA_SEED={} ASTRA_LENGTH={length} ASTRA_OPS={} cargo test --test host operator::drawn -- --nocapture\n\
         by hand, on a fresh host:\n{}",
        drawn.seed,
        failure.op,
        failure.broken.join("\n  "),
        engine().client(),
        drawn.seed,
        places.join(","),
        failure.log
    );
}

/// Runs a sequence, and shrinks it if it fails.
fn sequence(seed: u64, length: usize, minutes: u64) -> Line {
    let drawn = Drawn::new(seed, length);
    println!("seed {seed}: {}", drawn.site.words());
    let all: Vec<usize> = (0..drawn.ops.len()).collect();
    let mut ended: Ended = sequence::run(&drawn, &all, engine());
    let mut shrunk = Vec::new();
    if let Some(failure) = ended.failure.take() {
        println!("  {seed}: {}: {}", failure.op, failure.broken.join("\n  "));
        let (left, failure) =
            shrink::shrink(&drawn, &all, engine(), failure, Duration::from_secs(60 * minutes));
        tell(&drawn, &left, &failure, length);
        (shrunk, ended.failure) = (left, Some(failure));
    }
    Line { commit: commit(), engine: engine().client().into(), seed, site: drawn.site.words(), ended, shrunk }
}

/// One after the other: a test has one host at a time.
fn fixed<const N: usize>(seeds: [u64; N]) {
    if env::var_os("ASTRA_SEED").is_some() {
        return;
    }
    let mut tally = Tally::default();
    seeds.into_iter().for_each(|seed| tally.add(sequence(seed, SHORT, 0)));
    let engine = engine().client();
    assert_eq!(tally.broken(engine, N), 0, "{}", tally.table(engine));
}

#[test]
fn three_short_sequences_keep_every_promise() {
    fixed([18, 57, 94]);
}

#[test]
fn three_other_short_sequences_keep_every_promise() {
    fixed([21, 97, 106]);
}

/// A reboot, a power cut and a failed upgrade of the accessory.
#[test]
fn a_short_sequence_with_an_accessory_keeps_every_promise() {
    fixed([677]);
}

/// The sequences of a seed: one, some operations of it, or with ASTRA_OPERATOR a campaign that continues
/// where it was.
#[test]
fn drawn_sequences_keep_every_promise() {
    let length = setting("ASTRA_LENGTH").unwrap_or(LENGTH);
    let minutes = setting("ASTRA_SHRINK").unwrap_or(20);
    let Some(wanted) = setting::<u64>("ASTRA_OPERATOR") else {
        let Some(seed) = setting("ASTRA_SEED") else { return };
        return alone(seed, length, minutes);
    };
    let tally = Mutex::new(Tally::kept_in(results().join("operator-sequences.jsonl")));
    let first = setting("ASTRA_SEED").unwrap_or(1);
    let next = AtomicU64::new(first);
    let hosts =
        setting("ASTRA_HOSTS").unwrap_or_else(|| std::thread::available_parallelism().map_or(1, |n| n.get()));
    let ran = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..hosts {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + wanted {
                        break;
                    }
                    if !tally.lock().unwrap().has(seed, engine().client()) {
                        let line = sequence(seed, length, minutes);
                        ran.fetch_add(1, Ordering::Relaxed);
                        tally.lock().unwrap().add(line);
                    }
                }
            });
        }
    });
    let tally = tally.into_inner().unwrap();
    let engine = engine().client();
    println!("{} sequences now", ran.into_inner());
    tally.rows(engine).iter().for_each(|row| record(row).unwrap());
    assert_eq!(tally.broken(engine, LAST), 0, "of the last {LAST} sequences some broke a promise");
}

/// One sequence, or the operations of it that ASTRA_OPS names.
fn alone(seed: u64, length: usize, minutes: u64) {
    let Ok(places) = env::var("ASTRA_OPS") else {
        let line = sequence(seed, length, minutes);
        let broken = line.ended.failure.is_some();
        Tally::default().add(line);
        assert!(!broken, "seed {seed} broke a promise");
        return;
    };
    let places: Vec<usize> =
        places.split(',').filter(|p| !p.is_empty()).map(|p| p.parse().unwrap()).collect();
    let drawn = Drawn::new(seed, length);
    println!("seed {seed}: {}", drawn.site.words());
    let ended = sequence::run(&drawn, &places, engine());
    if let Some(failure) = &ended.failure {
        tell(&drawn, &places, failure, length);
    }
    assert!(ended.failure.is_none(), "seed {seed} broke a promise");
}

/// Prints the sequence of a seed.
#[test]
fn seeds_are_printed() {
    let Some(seed) = setting("ASTRA_TELL") else { return };
    let drawn = Drawn::new(seed, setting("ASTRA_LENGTH").unwrap_or(LENGTH));
    println!("seed {seed}: {}", drawn.site.words());
    drawn.ops.iter().enumerate().for_each(|(place, op)| println!("  {place}: {op}"));
}
