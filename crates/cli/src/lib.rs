//! The `runtree` command.
//!
//! [`main`] goes from raw arguments (`args`) to resolved ones (`context`: environment, terminal, store, project) to work: one file
//! per command under `commands`, each a few engine calls and a rendering. Data goes to stdout, the rest to stderr (`output`);
//! errors become a message, a hint and an exit code in one place (`error`). Nothing is decided here that the engine could decide,
//! and the environment is read nowhere else than in `environment`.

mod args;
mod commands;
mod context;
mod environment;
mod error;
mod human;
mod look;
mod output;
mod rules;
mod table;
mod transfer;
mod tree;
mod trouble;

use std::ffi::OsString;

use clap::Parser as _;

use crate::args::Cli;
use crate::context::Context;
use crate::environment::Environment;

/// Runs the command that `args` (the program's name first) ask for, and returns the exit code.
///
/// 0: done, or the reader of stdout went away. 2: the command line is wrong. Others: one per kind of error
/// ([`runtree_core::ErrorKind::exit_code`]). An embedding interpreter should give SIGINT its default action before, so that Ctrl-C ends the
/// process as it ends every other command (130 in a shell).
pub fn main(args: impl IntoIterator<Item = OsString>) -> u8 {
    let environment = Environment::read();
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => return error::usage(&error, environment),
    };
    let mut context = Context::new(cli.globals, environment);
    let result = commands::run(cli.command, &mut context);
    error::finish(result, context.out)
}
