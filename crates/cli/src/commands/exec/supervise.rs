//! A command from its first start to its last end: its checkpoints are taken in beside it, signals are passed on, and it is started again when it fails.

use std::ffi::OsString;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use runtree_core::event::RunStatus;
use runtree_core::{Error, ErrorKind, Result};
use runtree_engine::RunWriter;
use runtree_engine::job::{Ending, Ready, Taken, Taker, Watch};
use signal_hook::consts::SIGINT;

use super::job::Job;
use super::nodes::{Ended, Group, Nodes};
use super::signals::{Signals, name_of};
use crate::context::Context;
use crate::error::Failure;
use crate::human;
use crate::look::clean;

/// How often the processes are looked at.
const TICK: Duration = Duration::from_millis(20);
/// How often the directories are.
const LOOK: Duration = Duration::from_millis(250);
/// How long a checkpoint that could not be saved waits until it is tried again.
const RETRY: Duration = Duration::from_secs(10);
/// The longest wait before a restart.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// When a command is started again, and how it is stopped.
pub(super) struct Restarts {
    pub(super) most: u32,
    /// The first wait; each is twice the one before, until the command has saved something.
    pub(super) backoff: Duration,
    pub(super) grace: Duration,
    pub(super) settle: Duration,
}

/// How one launch ended.
struct Outcome {
    ended: Ended,
    /// The signal that told exec to stop.
    stopped_by: Option<i32>,
    /// Whether checkpoints were taken in.
    has_progressed: bool,
}

/// Runs a command, and returns what to end with.
pub(super) fn run(
    job: &mut Job,
    command: &[OsString],
    restarts: &Restarts,
    signals: &Signals,
    context: &mut Context,
) -> Result<u8, Failure> {
    let watch = job.watch(restarts.settle, context)?.map(Mutex::new);
    let mut wait = restarts.backoff;
    let mut count = 0;
    loop {
        let launch = job.launch(command, count, signals, context)?;
        let is_alone = restarts.most == 0 && job.nodes() == 1;
        let has_terminal = context.environment.stdin_is_terminal;
        let group = if is_alone && has_terminal {
            Group::Foreground
        } else {
            Group::Own
        };
        signals.running();
        let started = Nodes::start(command, &launch.variables, group, has_terminal);
        let mut nodes = match started {
            Ok(nodes) => nodes,
            Err(error) => {
                if let Some(writer) = &launch.writer {
                    let _ = writer.finish(
                        Some(RunStatus::Failed),
                        Some(error.message().to_owned()),
                        None,
                    );
                }
                return Err(error.into());
            }
        };
        let outcome = attend(
            &mut nodes,
            launch.writer.as_ref(),
            watch.as_ref(),
            restarts,
            signals,
            context,
        )?;
        let ended = outcome.ended;
        let lost = launch
            .writer
            .as_ref()
            .map(|writer| finish(writer, &outcome))
            .transpose();
        // What could not be saved and is not in the run yet is said by the watch, which tries again.
        let lost = lost
            .err()
            .filter(|error| watch.is_none() || error.kind() != ErrorKind::LostData);
        if let Some(error) = &lost {
            context.out.complain(&format!("error: {}", error.chain()));
        }
        if ended.is_well() || outcome.stopped_by.is_some() || count >= restarts.most {
            if !ended.is_well() && restarts.most > 0 && outcome.stopped_by.is_none() {
                context.out.remark(&format!(
                    "the command {ended}; it was started {}.",
                    human::plural(u64::from(count) + 1, "time")
                ));
            }
            let is_missing = watch.is_some_and(|watch| say_what_is_left(&lock(&watch), context));
            let failed = lost.map_or(0, |error| error.kind().exit_code());
            let failed = if failed == 0 && is_missing {
                ErrorKind::Unavailable.exit_code()
            } else {
                failed
            };
            return Ok(if ended.is_well() {
                failed
            } else {
                ended.code()
            });
        }
        nodes.sweep();
        if let Some(watch) = &watch {
            set_aside(&mut lock(watch), context)?;
        }
        wait = if outcome.has_progressed {
            restarts.backoff
        } else {
            wait
        };
        count += 1;
        context.out.remark(&format!(
            "the command {ended}; start {count} of {} again in {:.1} s.",
            restarts.most,
            wait.as_secs_f64()
        ));
        if let Some(came) = signals.wait(wait) {
            return Ok(128_u8.saturating_add(came.signal as u8));
        }
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

fn lock(watch: &Mutex<Watch>) -> MutexGuard<'_, Watch> {
    watch.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Renames what is not whole, now that nobody writes it any more.
pub(super) fn set_aside(watch: &mut Watch, context: &mut Context) -> Result<()> {
    for (left, to) in watch.set_aside()? {
        context.out.remark(&clean(&format!(
            "{} is not whole ({}), and is {} now.",
            left.path.display(),
            left.why,
            to.display()
        )));
    }
    Ok(())
}

/// Says what the command wrote and the run has not; whether something whole is among it.
fn say_what_is_left(watch: &Watch, context: &mut Context) -> bool {
    let left = watch.left();
    for one in &left {
        context.out.complain(&clean(&format!(
            "warning: {} is not in the run: {}",
            one.path.display(),
            one.why
        )));
    }
    left.iter().any(|one| one.is_whole)
}

fn finish(writer: &RunWriter, outcome: &Outcome) -> Result<()> {
    let (status, reason) = match (outcome.stopped_by, outcome.ended) {
        (_, Ended::Code(0)) => (RunStatus::Completed, None),
        (Some(signal), _) => (RunStatus::Stopped, Some(name_of(signal))),
        (None, ended) => (RunStatus::Failed, Some(format!("the command {ended}"))),
    };
    writer.finish(Some(status), reason, None).map(drop)
}

/// Sees one launch through.
fn attend(
    nodes: &mut Nodes,
    writer: Option<&Arc<RunWriter>>,
    watch: Option<&Mutex<Watch>>,
    restarts: &Restarts,
    signals: &Signals,
    context: &mut Context,
) -> Result<Outcome> {
    let Some((writer, watch)) = writer.zip(watch) else {
        let (ended, stopped_by) = wait_for(nodes, restarts, signals, &mut |_| {}, context)?;
        return Ok(Outcome {
            ended,
            stopped_by,
            has_progressed: false,
        });
    };
    let (say, said) = channel::<String>();
    let (end, ending) = channel();
    thread::scope(|scope| {
        let name = "runtree-watch".to_owned();
        let taking = thread::Builder::new()
            .name(name)
            .spawn_scoped(scope, move || take_in(writer, watch, &ending, &say));
        let taking = taking.map_err(|error| {
            Error::unavailable("can not start a thread that watches").with_source(error)
        })?;
        let mut print = |context: &mut Context| {
            for text in said.try_iter() {
                context.out.remark(&clean(&text));
            }
        };
        let ended = wait_for(nodes, restarts, signals, &mut print, context);
        // Also behind an error: what is whole is taken in.
        let how = match &ended {
            // Who was told to stop may have stopped in the middle; who left something running has not ended.
            Ok((ended, None)) if ended.is_well() && !nodes.has_left() => Ending::Well,
            _ => Ending::Badly,
        };
        let _ = end.send(how);
        let has_progressed = taking.join().unwrap_or(false);
        print(context);
        let (ended, stopped_by) = ended?;
        Ok(Outcome {
            ended,
            stopped_by,
            has_progressed,
        })
    })
}

/// Waits until all processes have ended; tells them to, if this one is told to.
fn wait_for(
    nodes: &mut Nodes,
    restarts: &Restarts,
    signals: &Signals,
    meanwhile: &mut dyn FnMut(&mut Context),
    context: &mut Context,
) -> Result<(Ended, Option<i32>)> {
    let mut stopped_by = None;
    let mut deadline: Option<Instant> = None;
    loop {
        if let Some(came) = signals.wait(TICK) {
            // Ctrl-C has no deadline: who is at the terminal presses it again. The second one has.
            if came.signal != SIGINT || stopped_by.is_some() {
                deadline.get_or_insert_with(|| Instant::now() + restarts.grace);
            }
            stopped_by.get_or_insert(came.signal);
            nodes.pass_on(came);
        }
        meanwhile(context);
        if let Some(ended) = nodes.poll()? {
            let is_over = deadline.is_some_and(|deadline| Instant::now() >= deadline);
            if stopped_by.is_none() || is_over || !nodes.has_left() {
                return Ok((ended, stopped_by));
            }
            // It may be saving.
            deadline.get_or_insert_with(|| Instant::now() + restarts.grace);
        }
        if deadline.is_none() && nodes.has_failed() {
            nodes.terminate();
            deadline = Some(Instant::now() + restarts.grace);
        }
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            nodes.kill();
            nodes.sweep();
        }
    }
}

/// Takes in what is whole until the command has ended, and then what is left; says whether there was anything.
fn take_in(
    writer: &Arc<RunWriter>,
    watch: &Mutex<Watch>,
    ending: &Receiver<Ending>,
    say: &Sender<String>,
) -> bool {
    let mut watch = lock(watch);
    let mut taker = Taker::new(writer);
    let mut has_taken = false;
    let mut told = String::new();
    loop {
        let ended = match ending.recv_timeout(LOOK) {
            Ok(ending) => Some(ending),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(Ending::Badly),
        };
        match watch.look(Instant::now(), ended) {
            Ok(looked) => {
                for (path, error) in looked.refused {
                    // The main thread prints; it waits for this one.
                    let _ = say.send(format!(
                        "warning: {} is not taken in: {}",
                        path.display(),
                        error.chain()
                    ));
                }
                for ready in looked.ready {
                    has_taken |= take(&mut watch, &mut taker, &ready, say);
                }
            }
            // Said once, not four times a second.
            Err(error) if error.chain() != told => {
                told = error.chain();
                let _ = say.send(format!(
                    "warning: checkpoints can not be looked for: {told}"
                ));
            }
            Err(_) => {}
        }
        if ended.is_some() {
            return has_taken;
        }
    }
}

fn take(watch: &mut Watch, taker: &mut Taker, ready: &Ready, say: &Sender<String>) -> bool {
    let (text, is_taken) = match taker.take(ready) {
        Ok(Taken::Saved(info)) => {
            watch.taken(ready);
            (
                format!(
                    "{} is {} ({}).",
                    ready.name,
                    info.reference,
                    human::bytes(info.bytes)
                ),
                true,
            )
        }
        Ok(Taken::ByItself(step)) => {
            watch.taken(ready);
            (
                format!(
                    "{} was not taken in: the command saved step {step} itself.",
                    ready.name
                ),
                false,
            )
        }
        // It was being written after all; its next state is looked at again.
        Err(error) if error.kind() == ErrorKind::Conflict && !ready.is_unchanged() => (
            format!("{} was not taken in yet: {}", ready.name, error.message()),
            false,
        ),
        Err(error) => {
            // A disk or a server that refused may take it later; else it is what it is until it changes.
            if error.kind() == ErrorKind::Unavailable {
                watch.postponed(ready, Instant::now() + RETRY);
            } else {
                watch.refused(ready, error.chain());
            }
            (
                format!("warning: {} is not taken in: {}", ready.name, error.chain()),
                false,
            )
        }
    };
    // The main thread prints; it waits for this one.
    let _ = say.send(text);
    is_taken
}
