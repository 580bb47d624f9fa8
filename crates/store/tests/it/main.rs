//! What a store promises, on real files and in memory.
#![expect(clippy::unwrap_used, reason = "a test that can not go on has failed")]

mod broken_bodies;
mod buckets;
mod chunks;
mod commits;
mod conformance;
mod copying;
mod encoded;
mod file_lists;
mod golden;
mod journals;
mod layout;
mod local;
mod names;
mod pacing;
mod redundant;
mod segments;
mod settings;
mod stores;
mod support;

/// A test file that is not named above would never run.
#[test]
fn no_test_file_is_forgotten() {
    let here = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it");
    let main = std::fs::read_to_string(here.join("main.rs")).unwrap();
    for entry in std::fs::read_dir(here).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let module = name.trim_end_matches(".rs");
        assert!(
            module == "main" || main.contains(&format!("mod {module};")),
            "{name} is not part of the test binary"
        );
    }
}
