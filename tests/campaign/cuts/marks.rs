//! The choice of the flushes to cut at.

use std::collections::BTreeSet;

use crate::replay::Random;

/// Adds marks to those that were chosen earlier, until there is one for each cut. Five of six are spread over the
/// whole deploy: a random one in each of as many equal parts. The others are the last flush before the commit and
/// some after it.
pub fn choose(chosen: &mut BTreeSet<usize>, marks: &[usize], commit: usize, cuts: usize, seed: u64) {
    let mut random = Random(seed);
    let missing = cuts.saturating_sub(chosen.len());
    let late = if missing < 6 { usize::from(missing > 1) } else { missing / 6 };
    spread(chosen, marks, missing - late, &mut random);
    let next = marks.iter().skip(1).map(Some).chain([None]);
    let around = marks.iter().zip(next).filter(|(_, next)| next.is_none_or(|next| *next >= commit));
    let around: Vec<usize> = around.map(|(mark, _)| *mark).collect();
    spread(chosen, &around, late, &mut random);
}

fn spread(chosen: &mut BTreeSet<usize>, marks: &[usize], count: usize, random: &mut Random) {
    let free: Vec<usize> = marks.iter().copied().filter(|mark| !chosen.contains(mark)).collect();
    let count = count.min(free.len());
    for part in 0..count {
        let (first, end) = (free.len() * part / count, free.len() * (part + 1) / count);
        chosen.extend(free.get(first + random.below(end - first)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(cuts: usize, seed: u64) -> BTreeSet<usize> {
        let marks: Vec<usize> = (1000..1200).collect();
        let mut chosen = BTreeSet::new();
        choose(&mut chosen, &marks, 1190, cuts, seed);
        chosen
    }

    #[test]
    fn cuts_are_spread_over_the_deploy_and_some_are_late() {
        for seed in 0..100 {
            let chosen = chosen(30, seed);
            assert_eq!(chosen.len(), 30);
            assert!(chosen.iter().filter(|mark| **mark >= 1189).count() >= 5);
            // One in each of 25 parts of 8 flushes.
            assert!((0..25).all(|part| chosen.range(1000 + 8 * part..1008 + 8 * part).next().is_some()));
        }
        assert_eq!((chosen(2, 1).len(), chosen(1, 1).len()), (2, 1));
    }

    #[test]
    fn a_seed_repeats_its_choice_and_more_cuts_keep_the_earlier_ones() {
        assert_eq!(chosen(30, 5), chosen(30, 5));
        assert_ne!(chosen(30, 5), chosen(30, 6));
        let marks: Vec<usize> = (0..200).collect();
        let mut more = chosen(3, 5).iter().map(|mark| mark - 1000).collect();
        let before: BTreeSet<usize> = BTreeSet::clone(&more);
        choose(&mut more, &marks, 190, 9, 5);
        assert!(more.is_superset(&before) && more.len() == 9);
        choose(&mut more, &marks, 190, 4, 5);
        assert_eq!(more.len(), 9);
    }

    #[test]
    fn no_more_marks_are_chosen_than_there_are() {
        let mut chosen = BTreeSet::new();
        choose(&mut chosen, &[1, 2, 3], 3, 30, 1);
        assert_eq!(chosen.len(), 3);
    }
}
