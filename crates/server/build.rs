//! Tells cargo to build again when the web bundle appears or changes.

fn main() {
    #[expect(
        clippy::print_stdout,
        reason = "this is how a build script speaks to cargo"
    )]
    {
        println!("cargo::rerun-if-changed=../../web/dist");
    }
}
