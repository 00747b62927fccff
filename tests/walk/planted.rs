//! One test for each planted bug: the walk finds it, by the promise that it breaks, and prints the shortest path there.

use crate::bugs::Bug;
use crate::search::{Kind, Scenario, walk};
use crate::site::Site;
use crate::state::Left;

pub struct Planted {
    pub bug: Bug,
    pub promise: &'static str,
    pub kind: Kind,
    pub surge: bool,
}

const fn planted(bug: Bug, promise: &'static str, kind: Kind) -> Planted {
    Planted { bug, promise, kind, surge: false }
}

pub const PLANTED: [Planted; 17] = [
    planted(Bug::StopsWithoutDraining, "an_instance_is_drained_before_it_stops", Kind::NewDigest),
    planted(Bug::CommitsBeforeTheLastIsReady, "a_commit_finds_every_instance_on_it", Kind::NewDigest),
    planted(Bug::CommitsBeforeTheStoreIsFlushed, "astra_env_names_a_release_that_is_there", Kind::NewDigest),
    planted(Bug::MigratesAgain, "a_migration_runs_once", Kind::Rollback),
    planted(Bug::NeverMigrates, "no_code_meets_an_unmigrated_database", Kind::NewDigest),
    planted(Bug::DeploysWhatIsHeld, "a_held_release_is_deployed_only_by_force", Kind::NewDigest),
    planted(Bug::LeavesTrialFiles, "nothing_of_a_trial_is_left", Kind::NewDigest),
    planted(Bug::UndoesAfterTheCommit, "after_the_commit_it_only_goes_forward", Kind::NewDigest),
    planted(Bug::ForgetsToUndo, "the_outcome_tells_the_state", Kind::NewDigest),
    planted(Bug::BlamesTheHost, "the_outcome_names_who_is_to_blame", Kind::NewDigest),
    planted(Bug::RemovesTheWayBack, "the_way_back_is_kept", Kind::NewDigest),
    planted(Bug::LeavesACutRunOpen, "a_cut_run_is_closed", Kind::NewDigest),
    planted(Bug::ForgetsTheCommitOfACutRun, "history_tells_the_truth", Kind::NewDigest),
    planted(Bug::RejoinsBeforeItIsReady, "an_instance_rejoins_only_when_it_is_ready", Kind::NewDigest),
    planted(Bug::ReturnsNothing, "nothing_of_a_trial_is_left", Kind::NewDigest),
    planted(Bug::RemovesFilesBeforeTheCommit, "a_container_finds_the_files_of_its_release", Kind::NewRole),
    Planted { surge: true, ..planted(Bug::LeavesTheSpare, "nothing_of_a_trial_is_left", Kind::NewDigest) },
];

fn finds(bug: Bug) {
    let planted = PLANTED.iter().find(|planted| planted.bug == bug).unwrap();
    let workers = u8::from(planted.kind == Kind::NewRole);
    let site = Site { workers, ..Site::new(2, planted.surge) };
    let scenario = Scenario { site, kind: planted.kind };
    let left = Left { disturbances: 1, operations: 1 };
    let walked = walk(scenario, left, bug);
    let Some(found) = walked.found else { panic!("{bug:?} was not found in {} states", walked.states) };
    println!("{bug:?} breaks {}: {}\n{}", found.broken.promise, found.broken.what, found.path);
    assert_eq!(found.broken.promise, planted.promise, "{}", found.path);
    assert!(!found.path.is_empty());
}

macro_rules! tests {
    ($($name:ident: $bug:ident,)*) => {
        $(#[test]
        fn $name() {
            finds(Bug::$bug);
        })*
    };
}

tests! {
    a_stop_without_a_drain_is_found: StopsWithoutDraining,
    a_commit_before_the_last_is_ready_is_found: CommitsBeforeTheLastIsReady,
    a_commit_before_the_store_is_flushed_is_found: CommitsBeforeTheStoreIsFlushed,
    a_second_migration_is_found: MigratesAgain,
    a_missing_migration_is_found: NeverMigrates,
    a_held_release_that_is_deployed_is_found: DeploysWhatIsHeld,
    a_trial_file_that_stays_is_found: LeavesTrialFiles,
    an_undo_after_the_commit_is_found: UndoesAfterTheCommit,
    an_undo_that_is_forgotten_is_found: ForgetsToUndo,
    a_blame_of_the_wrong_one_is_found: BlamesTheHost,
    a_way_back_that_is_removed_is_found: RemovesTheWayBack,
    a_cut_run_that_stays_open_is_found: LeavesACutRunOpen,
    a_commit_that_recover_forgets_is_found: ForgetsTheCommitOfACutRun,
    an_instance_that_rejoins_too_early_is_found: RejoinsBeforeItIsReady,
    an_instance_that_is_not_returned_is_found: ReturnsNothing,
    a_spare_that_stays_is_found: LeavesTheSpare,
    a_file_that_is_removed_too_early_is_found: RemovesFilesBeforeTheCommit,
}
