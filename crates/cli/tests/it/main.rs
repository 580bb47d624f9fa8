//! The built binary on real stores: exit codes, streams, text.

#![expect(clippy::unwrap_used, reason = "a test that can not go on panics")]

mod exec;
mod fixture;
mod help;
mod json;
mod layouts;
mod look;
mod streams;
mod write;

/// A file that no `mod` names is a test that nobody runs.
#[test]
fn no_file_of_this_folder_is_forgotten() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it");
    let main = std::fs::read_to_string(folder.join("main.rs")).unwrap();
    for entry in std::fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if let Some(module) = name.strip_suffix(".rs").filter(|&module| module != "main") {
            assert!(main.contains(&format!("mod {module};")), "{name}");
        }
    }
}
