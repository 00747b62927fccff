//! Finds fewer operations that break the same promise, on fresh hosts.

use std::time::{Duration, Instant};

use super::sequence::{Drawn, Ended, Failure, run};
use crate::harness::Engine;

/// The remaining places, and the failure with them. Operations after the failure never count.
pub fn shrink(
    drawn: &Drawn,
    places: &[usize],
    engine: Engine,
    failure: Failure,
    limit: Duration,
) -> (Vec<usize>, Failure) {
    let begun = Instant::now();
    smaller(places, failure, |tried| {
        (begun.elapsed() < limit).then(|| {
            let Ended { failure, .. } = run(drawn, tried, engine);
            println!(
                "  {}: with {tried:?} only: {}",
                drawn.seed,
                failure.as_ref().map_or("holds".into(), Failure::kind)
            );
            failure
        })
    })
}

/// Removes halves first, then one by one from the end; `None`: no time left.
fn smaller(
    places: &[usize],
    failure: Failure,
    mut again: impl FnMut(&[usize]) -> Option<Option<Failure>>,
) -> (Vec<usize>, Failure) {
    let last = |failure: &Failure| failure.at;
    let mut left: Vec<usize> =
        places.iter().copied().filter(|place| last(&failure).is_some_and(|at| *place <= at)).collect();
    let mut failure = failure;
    let mut size = left.len() / 2;
    while size > 0 {
        // The last operation is where it was found.
        let mut end = left.len().saturating_sub(1);
        while end > 0 {
            let from = end.saturating_sub(size);
            let fewer: Vec<usize> = left[..from].iter().chain(&left[end..]).copied().collect();
            match again(&fewer) {
                None => return (left, failure),
                Some(Some(same)) if same.kind() == failure.kind() => {
                    left = fewer
                        .into_iter()
                        .filter(|place| last(&same).is_some_and(|at| *place <= at))
                        .collect();
                    failure = same;
                    end = from.min(left.len().saturating_sub(1));
                }
                Some(_) => end = from,
            }
        }
        size /= 2;
    }
    (left, failure)
}

#[test]
fn operations_without_a_part_in_the_failure_are_removed() {
    let failure =
        |at| Failure { at: Some(at), op: String::new(), broken: vec!["x".into()], log: String::new() };
    let mut runs = 0;
    let (left, _) = smaller(&(0..15).collect::<Vec<_>>(), failure(11), |places| {
        runs += 1;
        Some((places.contains(&3) && places.contains(&11)).then(|| failure(11)))
    });
    assert_eq!(left, [3, 11]);
    assert!(runs <= 12, "{runs} runs");
    // Without time only the operations after the failure are removed.
    assert_eq!(smaller(&[1, 2, 3, 9], failure(3), |_| None).0, [1, 2, 3]);
}
