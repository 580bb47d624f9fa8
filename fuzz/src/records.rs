//! Every other JSON record, and journal events.

use runtree_core::event::Event;
use runtree_core::manifest::{
    AttemptRecord, CommitRecord, PartConfirmation, PinRecord, Record, RoundRecord, RunRecord,
    StoreRecord, TombstoneRecord,
};

fn round_trip<T: Record>(bytes: &[u8]) {
    if let Ok(record) = T::load(bytes, "fuzzed") {
        let canonical = record.to_bytes();
        assert_eq!(
            T::load(&canonical, "fuzzed")
                .expect("canonical bytes parse")
                .to_bytes(),
            canonical
        );
    }
}

/// Every other JSON record, and journal events.
pub fn records(bytes: &[u8]) {
    round_trip::<StoreRecord>(bytes);
    round_trip::<RunRecord>(bytes);
    round_trip::<AttemptRecord>(bytes);
    round_trip::<CommitRecord>(bytes);
    round_trip::<PartConfirmation>(bytes);
    round_trip::<TombstoneRecord>(bytes);
    round_trip::<PinRecord>(bytes);
    round_trip::<RoundRecord>(bytes);
    drop(serde_json::from_slice::<Event>(bytes));
}
