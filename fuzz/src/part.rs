//! Part manifests: whatever parses must pass its own check and come back from its canonical bytes.

use runtree_core::manifest::Record as _;
use runtree_store::parse_part_manifest;

/// Part manifests: whatever parses must pass its own check and come back from its canonical bytes.
pub fn part(bytes: &[u8]) {
    if let Ok(manifest) = parse_part_manifest(bytes, "fuzzed") {
        manifest
            .check()
            .expect("what the parser lets through is sound");
        let again =
            parse_part_manifest(&manifest.to_bytes(), "fuzzed").expect("canonical bytes parse");
        assert_eq!(again.to_bytes(), manifest.to_bytes());
    }
}
