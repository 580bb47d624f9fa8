//! The API over real TCP, on a real store in a temporary directory.

#![expect(clippy::unwrap_used, reason = "a test that can not go on panics")]

mod access;
mod events;
mod fixture;
mod http;
mod media;
mod openapi;
mod routes;
mod ui;

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
