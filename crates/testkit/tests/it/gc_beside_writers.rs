use runtree_testkit::sim::{Fault, World};

/// Seeds per run of the tests; `RUNTREE_SIM_SEEDS` in `make sim` sets more.
#[expect(
    clippy::disallowed_methods,
    reason = "a test is an edge: it takes its size from the environment"
)]
fn seeds() -> u64 {
    std::env::var("RUNTREE_SIM_SEEDS").map_or(600, |text| {
        text.parse().expect("RUNTREE_SIM_SEEDS is a number")
    })
}

/// Seeds in which a rule that is left out must show: the search ends with the first loss.
const SEEDS_OF_A_FAULT: u64 = 2_000;

fn first_loss(fault: Fault) -> Option<(u64, String)> {
    let seeds = if fault == Fault::None {
        seeds()
    } else {
        SEEDS_OF_A_FAULT
    };
    (0..seeds).find_map(|seed| {
        let world = World::new(seed, fault).expect("a fresh world");
        world.run().err().map(|error| (seed, error.chain()))
    })
}

#[test]
fn no_committed_checkpoint_loses_a_chunk_whoever_interleaves_or_crashes() {
    if let Some((seed, loss)) = first_loss(Fault::None) {
        panic!("seed {seed}: {loss}");
    }
}

#[test]
fn a_writer_that_does_not_look_again_is_caught() {
    let (_, loss) =
        first_loss(Fault::NoSecondLook).expect("the simulator is blind to a missing W4");
    assert!(loss.contains("lost"), "{loss}");
}

#[test]
fn a_collector_that_lists_before_its_round_is_caught() {
    let (_, loss) =
        first_loss(Fault::ListBeforeRound).expect("the simulator is blind to G2 before G1");
    assert!(loss.contains("lost"), "{loss}");
}

#[test]
fn a_round_that_is_taken_back_is_caught() {
    let (_, loss) =
        first_loss(Fault::ForgottenRound).expect("the simulator is blind to forgotten rounds");
    assert!(loss.contains("lost"), "{loss}");
}

#[test]
fn a_collector_that_takes_pending_parts_for_garbage_is_caught() {
    let (_, loss) = first_loss(Fault::PendingIsGarbage)
        .expect("the simulator is blind to collected pending parts");
    assert!(loss.contains("lost"), "{loss}");
}

#[test]
fn a_collector_that_takes_bases_for_garbage_is_caught() {
    let (_, loss) =
        first_loss(Fault::BasesAreGarbage).expect("the simulator is blind to collected bases");
    assert!(loss.contains("lost"), "{loss}");
}

#[test]
fn an_encoder_that_deletes_without_a_round_is_caught() {
    let (_, loss) = first_loss(Fault::RawGoesAtOnce)
        .expect("the simulator is blind to raw objects that go at once");
    assert!(loss.contains("lost"), "{loss}");
}
