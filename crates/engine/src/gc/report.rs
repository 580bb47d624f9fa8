//! What a collection did.

/// What a collection did, or would do.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct GcReport {
    /// Chunk objects that were removed.
    pub removed_objects: u64,
    /// Their bytes.
    pub freed_bytes: u64,
}
