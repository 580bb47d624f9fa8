//! What can be about a disk alone, and why. Every other test runs in a bucket, too: beside `scripts/with-s3`.

use std::path::Path;

use runtree_testkit::place;

const DISK_ONLY: [(&str, &str); 10] = [
    (
        "corruption::the_next_launch_notices_a_bit_that_flipped_in_silence",
        "sets a file's time back, so that no stamp shows the change; an object that is put has another tag",
    ),
    (
        "live_runs::a_disk_that_refuses_is_said_and_points_wait_for_it",
        "takes a folder's permissions away",
    ),
    (
        "live_runs::refuses_by_a_file",
        "moves the folder of a journal away beneath its open file",
    ),
    (
        "media::a_disk_that_refuses_neither_raises_nor_stalls_and_what_waits_is_stored_later",
        "puts a file in the way of a folder",
    ),
    (
        "media::what_can_not_be_stored_by_the_end_is_counted_as_lost",
        "puts a file in the way of a folder",
    ),
    (
        "media::what_does_not_fit_into_the_queue_is_dropped_and_counted",
        "puts a file in the way of a folder",
    ),
    (
        "save::a_full_disk_surfaces_in_the_result_and_at_the_end_and_the_old_checkpoint_stays",
        "fills a disk",
    ),
    (
        "whole::a_save_that_was_killed_before_its_first_part_is_no_obstacle_to_a_launch",
        "leaves an empty folder; a bucket has none",
    ),
    (
        "whole::an_unfinished_save_is_given_up_by_a_much_later_launch",
        "sets times back by more than a test can wait",
    ),
    (
        "whole::ranks_learn_at_once_that_another_can_not_write_its_part",
        "puts a file in the way of a folder",
    ),
];

#[test]
fn what_needs_a_disk_is_counted_and_says_why() {
    let suite = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it");
    let found = place::disk_only(&suite);
    let listed: Vec<&str> = DISK_ONLY.iter().map(|(test, _)| *test).collect();
    assert_eq!(found.iter().collect::<Vec<_>>(), listed);
}
