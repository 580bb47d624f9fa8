//! `runtree version`

use crate::context::Context;
use crate::error::Failure;

/// Print the version
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(_: Args, context: &mut Context) -> Result<(), Failure> {
    let version = env!("CARGO_PKG_VERSION");
    if context.out.json {
        return context.out.json(&serde_json::json!({ "version": version }));
    }
    context.out.line(format!("runtree {version}"))
}
