//! `runtree watch`

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use runtree_core::event::RunStatus;
use runtree_core::wire::{CheckpointInfo, CheckpointState};
use runtree_core::{Error, Result, RunId, Step};
use runtree_engine::job::metrics_in_line;
use runtree_engine::{CheckpointScope, OpenMode, Purpose};

use crate::context::{Context, Session, Target};
use crate::error::Failure;
use crate::look::clean;

/// Run a command for each new checkpoint of a run, until the run has ended
///
/// In the command's arguments {path} is a read-only copy of the checkpoint as files,
/// {ref} its REF, {step} its step, {id} its id; RUNTREE_PATH, RUNTREE_REF and RUNTREE_STEP
/// say the same. A line of its output that is a JSON object gives the checkpoint the
/// numbers in it as metrics, by which `best:METRIC` and retention rank it.
///
///   runtree watch MMP-42 -- python eval.py {path}
///   runtree watch MMP-42 --all -- sh -c 'echo "{\"eval/loss\": 0.5}"'
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    /// REF of a run
    #[arg(value_name = "RUN")]
    target: Target,
    /// Only checkpoints beyond this step [default: beyond the newest there is]
    #[arg(long, value_name = "STEP", conflicts_with = "all")]
    after: Option<i64>,
    /// Also those that are there already
    #[arg(long)]
    all: bool,
    /// How often to look
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0, value_parser = super::exec::seconds)]
    interval: f64,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<OsString>,
}

pub(crate) fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let session = context.open(OpenMode::ReadWrite, &[&args.target])?;
    let run = session.run(&args.target, Purpose::Read)?;
    let mut seen: BTreeSet<String> = BTreeSet::new();
    let is_wanted =
        |info: &CheckpointInfo| args.all || args.after.is_some_and(|after| info.step > Step(after));
    for info in complete(&session, run)? {
        if !is_wanted(&info) {
            seen.insert(info.id);
        }
    }
    let interval = Duration::from_secs_f64(args.interval.max(0.01));
    // Nobody sends: waiting for it is a sleep.
    let (_keep, never): (_, Receiver<()>) = channel();
    let mut failed = 0;
    loop {
        // Asked first: what is saved between the two questions is seen by the second.
        let status = session.engine.summary(run)?.status;
        let new: Vec<CheckpointInfo> = complete(&session, run)?
            .into_iter()
            .filter(|info| seen.insert(info.id.clone()))
            .collect();
        let is_over = new.is_empty() && !matches!(status, RunStatus::Running | RunStatus::Created);
        for info in new
            .iter()
            .filter(|info| args.after.is_none_or(|after| info.step > Step(after)))
        {
            match evaluate(&args.command, info, &session, context)? {
                0 => {}
                code => {
                    failed = code;
                    context.out.complain(&clean(&format!(
                        "the command ended with {code} for {}.",
                        info.reference
                    )));
                }
            }
        }
        if is_over {
            return if failed == 0 {
                Ok(())
            } else {
                Err(Failure::Ended(failed))
            };
        }
        let _ = never.recv_timeout(interval);
    }
}

/// What the run itself saved, whole, oldest first.
fn complete(session: &Session, run: RunId) -> Result<Vec<CheckpointInfo>> {
    let scope = CheckpointScope {
        inherited: false,
        ..CheckpointScope::default()
    };
    let mut all = session.engine.checkpoints(run, scope)?;
    all.retain(|info| info.state == CheckpointState::Complete);
    Ok(all)
}

/// Runs the command for one checkpoint, gives that the metrics it prints, and returns its exit code.
fn evaluate(
    command: &[OsString],
    info: &CheckpointInfo,
    session: &Session,
    context: &mut Context,
) -> Result<u8, Failure> {
    let name = info.checkpoint_name()?;
    let path = match session.engine.materialize(name) {
        Ok(path) => path,
        // Retention was faster.
        Err(error) if error.kind() == runtree_core::ErrorKind::NotFound => {
            context.out.remark(&clean(&format!(
                "{} was deleted before it was looked at.",
                info.reference
            )));
            return Ok(0);
        }
        Err(error) => return Err(error.into()),
    };
    let path = path.display().to_string();
    let step = info.step.to_string();
    let given = [
        ("{path}", path.as_str()),
        ("{ref}", &info.reference),
        ("{step}", &step),
        ("{id}", &info.id),
    ];
    let filled = |word: &OsString| {
        word.to_str().map_or_else(
            || word.clone(),
            |word| {
                given
                    .iter()
                    .fold(word.to_owned(), |word, (what, value)| {
                        word.replace(what, value)
                    })
                    .into()
            },
        )
    };
    let words: Vec<OsString> = command.iter().map(filled).collect();
    let failed = |error: std::io::Error| {
        Error::not_found(format!("can not run {}", words[0].display()))
            .with_source(error)
            .with_hint("check its name, and PATH")
    };
    let mut child = Command::new(&words[0])
        .args(&words[1..])
        .envs([
            ("RUNTREE_PATH", &path),
            ("RUNTREE_REF", &info.reference),
            ("RUNTREE_STEP", &step),
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let mut metrics = BTreeMap::new();
    if let Some(output) = child.stdout.take() {
        let mut lines = BufReader::new(output);
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line)? > 0 {
            metrics.extend(metrics_in_line(&line));
            context.out.bytes(&line)?;
            context.out.flush()?;
            line.clear();
        }
    }
    let status = child.wait()?;
    if !metrics.is_empty() && status.success() {
        let count = metrics.len() as u64;
        session
            .engine
            .annotate_checkpoint(name, metrics, Vec::new(), Vec::new())?;
        context.out.remark(&clean(&format!(
            "{} has {}.",
            info.reference,
            crate::human::plural(count, "new metric")
        )));
    }
    let by_signal = status
        .signal()
        .map(|signal| 128_u8.saturating_add(signal as u8));
    Ok(by_signal.unwrap_or_else(|| status.code().unwrap_or(1) as u8))
}
