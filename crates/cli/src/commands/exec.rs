//! `runtree exec`

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use runtree_core::reference::Reference;
use runtree_core::{Error, Result};
use runtree_engine::job::Wanted;

use self::job::{Job, Loading};
use self::signals::Signals;
use self::supervise::Restarts;
use crate::context::Context;
use crate::error::Failure;

mod job;
mod naming;
mod nodes;
mod processes;
mod signals;
mod supervise;
mod variables;

/// Run a command: checkpoints are put on disk before it starts, those it writes are taken in
///
/// What ends with 0 or more than 0, exec ends with; with 128 + n what signal n ended.
///
/// --load REF puts a checkpoint below --into and names that in BT_LOAD_CHECKPOINT_DIR and
/// RUNTREE_LOAD_DIR. A bare run means its newest checkpoint, PROJECT/ the newest of the
/// project's most recent run that has one, and RUN@checkpoint-20 the one of step 20.
///
/// --checkpoints DIR is watched: checkpoint-N, step_N and NNNN of any trainer are saved in
/// a run when they are whole, while the command goes on. That run's key is --run-id. With
/// the same key again, or after a restart, the newest good checkpoint is loaded first.
///
///   runtree exec --load MMP-42@500 -- python eval.py
///   runtree exec --load gpt/ --checkpoints out --run-id job-7 --restarts 3 -- python train.py
///   runtree exec --checkpoints out --nodes 2 -- torchrun --nnodes 2 train.py
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    /// Checkpoints to load: REF[,REF...], again or with commas
    #[arg(long, value_name = "REF", value_delimiter = ',')]
    load: Vec<Wanted>,
    /// Directory that they are put into [default: one of the job's own in the cache]
    #[arg(long, value_name = "DIR")]
    into: Option<PathBuf>,
    /// Directory that the command writes checkpoints into; its path is in BT_CHECKPOINT_DIR
    #[arg(long, value_name = "DIR")]
    checkpoints: Option<PathBuf>,
    /// How often the command is started again when it fails
    #[arg(long, value_name = "N", default_value_t = 0)]
    restarts: u32,
    /// How many processes of the command stand for nodes: BT_NODE_RANK, BT_GROUP_SIZE; each has DIR/rank-N
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    nodes: u32,
    /// Key of the run, unique in its project [default: RUNTREE_RUN_ID, else one is made]
    #[arg(long, value_name = "KEY")]
    run_id: Option<String>,
    /// Name of the run
    #[arg(long)]
    name: Option<String>,
    /// Config of the run: a dotted key reaches into nested config, the value is JSON or else text
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Make the run a fork of the loaded checkpoint: its curves go on from there
    #[arg(long)]
    fork: bool,
    /// How long to wait before the first restart; twice as long before each one more that saved nothing, at most a minute
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0, value_parser = seconds)]
    backoff: f64,
    /// How long the command has to end after SIGTERM, before it is killed
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0, value_parser = seconds)]
    grace: f64,
    /// How long nothing may have changed in a checkpoint
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0, value_parser = seconds)]
    settle: f64,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<std::ffi::OsString>,
}

/// Some time, at most a day.
pub(super) fn seconds(text: &str) -> std::result::Result<f64, String> {
    let seconds = text
        .parse::<f64>()
        .ok()
        .filter(|seconds| (0.0..=86_400.0).contains(seconds));
    seconds.ok_or_else(|| "a number of seconds, from 0 to 86400".to_owned())
}

pub(crate) fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    // Before anything is started: what comes meanwhile is not lost.
    let signals = Signals::install()?;
    let key = args.run_id.or_else(|| context.environment.run_id.clone());
    if let Some(key) = &key {
        check_key(key)?;
    }
    let has_run = args.checkpoints.is_some() || key.is_some() || args.name.is_some();
    if !has_run && (args.fork || !args.set.is_empty()) {
        return Err(
            Error::invalid("--fork and --set are of a run, and this command has none")
                .with_hint("give --checkpoints DIR, or --run-id KEY")
                .into(),
        );
    }
    if args.load.is_empty() && args.into.is_some() && !has_run {
        return Err(
            Error::invalid("--into without --load: there is nothing to put there")
                .with_hint("runtree exec --load REF --into DIR -- CMD")
                .into(),
        );
    }
    let loading = Loading {
        wanted: args.load,
        into: args.into.map(absolute).transpose()?,
        nodes: args.nodes as usize,
    };
    let mut job = if has_run {
        let config = (!args.set.is_empty())
            .then(|| super::fork::assignments(&args.set))
            .transpose()?;
        let identity = job::Identity {
            key,
            name: args.name,
            config,
            fork: args.fork,
        };
        let checkpoints = args.checkpoints.map(absolute).transpose()?;
        Job::with_run(context, loading, identity, checkpoints)?
    } else {
        Job::without_run(context, loading)?
    };
    let restarts = Restarts {
        most: args.restarts,
        backoff: Duration::from_secs_f64(args.backoff),
        grace: Duration::from_secs_f64(args.grace),
        settle: Duration::from_secs_f64(args.settle),
    };
    match supervise::run(&mut job, &args.command, &restarts, &signals, context)? {
        0 => Ok(()),
        code => Err(Failure::Ended(code)),
    }
}

/// A job is named by its key, in `--load` too.
fn check_key(key: &str) -> Result<()> {
    let names_itself = key.parse::<Reference>().is_ok_and(|reference| {
        reference.run == key && reference.project.is_none() && reference.selector.is_none()
    });
    if names_itself && !key.contains(',') {
        return Ok(());
    }
    Err(
        Error::invalid(format!("run key {key:?} means something else in a REF"))
            .with_hint("a job's key has none of / # @ , and does not end in ~ and a number"),
    )
}

fn absolute(path: PathBuf) -> Result<PathBuf> {
    std::path::absolute(&path).map_err(|error| {
        Error::invalid(format!("{} is no path", path.display())).with_source(error)
    })
}

/// Variables that a command is started with.
type Variables = BTreeMap<String, String>;
