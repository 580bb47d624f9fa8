//! The `runtree` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(runtree_cli::main(std::env::args_os()))
}
