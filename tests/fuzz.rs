//! Runs the bodies of the fuzz targets (tests/fuzz/bodies.rs) with a small mutator, because cargo-fuzz needs a
//! nightly compiler. FUZZ_SECONDS per target (20), FUZZ_SEED to repeat a run; a failure prints its input.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail by panicking"
)]

#[path = "fuzz/bodies.rs"]
mod bodies;
#[path = "campaign/rows.rs"]
#[allow(dead_code, reason = "the host tests record the other rows")]
mod rows;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant, SystemTime};

use bodies::{TARGETS, Target};

/// Larger inputs only slow the test down: the parsers have their own limits.
const LONGEST: usize = 8 << 10;
/// The limit for one input, even on a busy machine.
const SLOW: Duration = Duration::from_secs(5);
/// Number of mutants to keep for further mutation.
const POOL: usize = 256;

/// xorshift64*: the same seed, the same inputs.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(end.max(1)).unwrap()).unwrap()
    }
}

fn mutate(input: &mut Vec<u8>, target: &Target, pool: &[Vec<u8>], random: &mut Random) {
    for _ in 0..=random.below(4) {
        let at = random.below(input.len() + 1);
        let end = (at + random.below(16)).min(input.len());
        match random.below(9) {
            0 if at < input.len() => input[at] ^= 1 << random.below(8),
            1 if at < input.len() => input[at] = u8::try_from(random.below(256)).unwrap(),
            2 => drop(input.drain(at..end)),
            3 => input.truncate(at),
            4 => {
                let piece = input[at..end].to_vec();
                let to = random.below(input.len() + 1);
                input.splice(to..to, piece);
            }
            5 => {
                let other = &pool[random.below(pool.len())];
                let from = random.below(other.len() + 1);
                let piece = other[from..(from + random.below(64)).min(other.len())].to_vec();
                input.splice(at..end, piece);
            }
            6 => {
                let byte = u8::try_from(random.below(256)).unwrap();
                input.splice(at..at, std::iter::repeat_n(byte, 1 + random.below(40)));
            }
            _ => {
                let word = target.words[random.below(target.words.len())];
                input.splice(at..at, word.bytes());
            }
        }
    }
    input.truncate(LONGEST);
}

fn number(name: &str, absent: u64) -> u64 {
    std::env::var(name).ok().map_or(absent, |text| text.parse().unwrap())
}

fn fuzz(name: &str) {
    let target = TARGETS.iter().find(|t| t.name == name).unwrap();
    let seed = number("FUZZ_SEED", SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64).max(1);
    let until = Instant::now() + Duration::from_secs(number("FUZZ_SECONDS", 20));
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut pool: Vec<Vec<u8>> = target.corpus.iter().map(|text| text.as_bytes().to_vec()).collect();
    pool.push(Vec::new());
    let mut tried = 0u64;
    let mut input = Vec::new();
    for whole in pool.clone() {
        (target.body)(&whole);
    }
    while Instant::now() < until {
        input.clone_from(&pool[random.below(pool.len())]);
        mutate(&mut input, target, &pool, &mut random);
        let attempt = || {
            let begun = Instant::now();
            let done = catch_unwind(AssertUnwindSafe(|| (target.body)(&input)));
            (done, begun.elapsed())
        };
        let (done, mut took) = attempt();
        // On a busy machine a process may wait for seconds, so only an input that is slow three times counts
        // as slow.
        for _ in 0..3 {
            if took >= SLOW {
                took = took.min(attempt().1);
            }
        }
        assert!(
            done.is_ok() && took < SLOW,
            "{name}: {} with FUZZ_SEED={seed} after {tried} inputs: {:?}",
            if done.is_ok() { format!("{took:?}") } else { "a panic".to_owned() },
            String::from_utf8_lossy(&input)
        );
        tried += 1;
        // Mutants of mutants drift away, so the corpus itself is always kept.
        if random.below(64) == 0 {
            if pool.len() < POOL {
                pool.push(input.clone());
            } else {
                let at = target.corpus.len() + random.below(POOL - target.corpus.len());
                pool[at].clone_from(&input);
            }
        }
    }
    rows::record(&rows::Row::Fuzz { target: name.into(), inputs: tried, seed }).unwrap();
}

macro_rules! targets {
    ($($name:ident),*) => {
        $(#[test]
        fn $name() {
            fuzz(stringify!($name));
        })*

        #[test]
        fn every_target_is_a_test() {
            let tests = [$(stringify!($name)),*];
            assert_eq!(TARGETS.iter().map(|t| t.name).collect::<Vec<_>>(), tests);
        }
    };
}

targets!(env_file, image, digest, cron, config, journal, registry, caddy, policy, token);
