use runtree_testkit::sim::{Fault, World};

/// Seeds per run of the tests; `RUNTREE_SIM_SEEDS` in `make sim` sets more.
#[expect(
    clippy::disallowed_methods,
    reason = "a test is an edge: it takes its size from the environment"
)]
fn seeds() -> u64 {
    std::env::var("RUNTREE_SIM_SEEDS").map_or(1_000, |text| {
        text.parse().expect("RUNTREE_SIM_SEEDS is a number")
    })
}

/// Seeds in which a rule that is left out must show: the search ends with the first loss.
const SEEDS_OF_A_FAULT: u64 = 20_000;

fn loss(seed: u64, fault: Fault) -> Option<String> {
    let world = World::new(seed, fault).expect("a fresh world");
    world.run().err().map(|error| error.chain())
}

#[test]
fn nothing_that_is_needed_is_lost_whoever_interleaves_or_is_killed() {
    for seed in 0..seeds() {
        if let Some(loss) = loss(seed, Fault::None) {
            panic!("seed {seed}: {loss}");
        }
    }
}

#[test]
fn a_seed_plays_the_same_each_time() {
    let first =
        (0..SEEDS_OF_A_FAULT).find_map(|seed| Some((seed, loss(seed, Fault::NoSecondLook)?)));
    let (seed, lost) = first.expect("a loss");
    for _ in 0..3 {
        assert_eq!(loss(seed, Fault::NoSecondLook).as_ref(), Some(&lost));
    }
}

/// What each rule is worth: without it something is lost in one of many seeds. The search begins where it was found before, so that it takes no longer than it must.
macro_rules! caught {
    ($($name:ident: $fault:ident from $first:literal,)*) => {
        $(
            #[test]
            fn $name() {
                let seeds = ($first..$first + SEEDS_OF_A_FAULT).chain(0..$first);
                let found = seeds.into_iter().find_map(|seed| Some((seed, loss(seed, Fault::$fault)?)));
                let (seed, lost) = found.expect("the simulator is blind to it");
                assert!(lost.contains("lost"), "seed {seed}: {lost}");
                println!("{:?} is caught by seed {seed}: {lost}", Fault::$fault);
            }
        )*
    };
}

caught! {
    a_writer_that_counts_on_what_a_round_condemns_is_caught: HitInRound from 0,
    names_that_return_are_caught: ReusedPutId from 0,
    chunks_that_a_journal_names_and_nobody_lists_are_caught: UnlistedFiles from 0,
    a_writer_that_does_not_look_again_is_caught: NoSecondLook from 0,
    a_writer_that_looks_again_before_it_publishes_is_caught: LookBeforePublishing from 0,
    a_fork_that_does_not_look_again_is_caught: NoSecondLookOfForks from 15_964,
    a_commit_that_replaces_what_was_decided_is_caught: UnconditionalCommit from 0,
    an_undelete_without_an_intent_is_caught: NoIntent from 166,
    a_collector_without_a_round_is_caught: NoRound from 0,
    a_collector_that_lists_before_its_round_is_caught: ListBeforeRound from 0,
    a_collector_that_lists_roots_before_its_round_is_caught: RootsBeforeRound from 0,
    a_collector_that_misses_runs_born_meanwhile_is_caught: RunsListedOnce from 497,
    a_collector_that_looks_for_intents_last_is_caught: IntentsLate from 11_398,
    a_collector_that_takes_pending_parts_for_garbage_is_caught: PendingIsGarbage from 0,
    a_collector_that_takes_bases_for_garbage_is_caught: BasesAreGarbage from 0,
    a_collector_that_empties_the_trash_is_caught: TrashIsGarbage from 0,
    a_collector_that_counts_on_what_a_round_condemns_is_caught: CondemnedCounts from 0,
    a_round_that_is_closed_before_its_objects_are_deleted_is_caught: CloseFirst from 0,
    a_round_that_is_taken_back_is_caught: ForgottenRound from 0,
    a_collector_that_gives_no_way_is_caught: NoGivingWay from 20_531,
    an_encoder_that_deletes_without_a_round_is_caught: RawGoesAtOnce from 0,
    a_directory_that_is_never_synced_is_caught: SkippedDirectorySync from 0,
    a_tombstone_that_is_gone_by_and_not_durable_is_caught: VolatileTombstones from 7_865,
    a_copy_that_does_not_look_again_is_caught: NoSecondLookOfCopies from 0,
    a_copy_that_counts_on_what_a_round_condemns_is_caught: CopyHitInRound from 0,
    an_eviction_that_looks_before_it_pins_is_caught: LookBeforePin from 5_664,
}
