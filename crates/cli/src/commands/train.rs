//! `runtree train`

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use runtree_core::Error;
use runtree_engine::Place;

use crate::context::Context;
use crate::error::Failure;

/// Run a configuration of truss_train as a job of this machine
///
/// The file is executed as it is, by Python, whether truss_train is installed or not.
/// Its workspace is copied, its checkpoints are loaded, and its start commands run one
/// after the other: with the variables that Baseten documents, and what they save is
/// taken in. Image and compute are recorded.
///
///   runtree train config.py --dry-run
///   runtree train config.py --restarts 3
///   runtree train config.py --help          every option
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment, disable_help_flag = true)]
pub(crate) struct Args {
    /// The Python file with one TrainingProject, and options
    #[arg(
        value_name = "CONFIG.PY",
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    arguments: Vec<OsString>,
}

pub(crate) fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let python = context.environment.python.clone();
    let store = context.location(None)?;
    // The job runs in a copy of its folder.
    let store = if Place::is_address(&store) {
        store
    } else {
        std::path::absolute(&store).unwrap_or(store)
    };
    let mut command = Command::new(python.as_deref().unwrap_or("python3"));
    command
        .args(["-m", "runtree.compat.truss_train"])
        .args(args.arguments)
        .env("RUNTREE_STORE", store);
    if context.out.json {
        command.arg("--json");
    }
    // Returns only if Python can not take over.
    let error = command.exec();
    Err(
        Error::not_found("there is no Python to execute the configuration with")
            .with_source(error)
            .with_hint("pip install runtree brings both; or name one in RUNTREE_PYTHON")
            .into(),
    )
}
