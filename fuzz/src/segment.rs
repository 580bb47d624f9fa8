//! Segments of sealed points: whatever opens is read to its end, in order, within its limits.

use runtree_metrics::Segment;

/// Segments of sealed points: whatever opens is read to its end, in order, within its limits.
pub fn segment(bytes: &[u8]) {
    let Ok(segment) = Segment::open(bytes.to_vec()) else {
        return;
    };
    let head = segment.head();
    for (ordinal, payload) in segment.events().unwrap_or_default() {
        assert!((head.from..head.to).contains(&ordinal), "an event outside");
        std::hint::black_box(payload);
    }
    for group in 0..segment.groups() {
        for series in segment.read_group(group).unwrap_or_default() {
            let steps = series.points.steps();
            assert!(steps.is_sorted_by(|a, b| a < b), "a step twice");
            let inside = |ordinal: &u64| (head.from..head.to).contains(ordinal);
            assert!(series.ordinals.iter().all(inside), "a point outside");
        }
    }
}
