//! Tells cargo to build again when the web bundle appears or changes.

fn main() {
    println!("cargo::rerun-if-changed=../../web/dist");
}
