//! Signals that end things: counted here and passed on, instead of ending this process before what it runs.

use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use runtree_core::event::RunStatus;
use runtree_core::{Error, Result};
use runtree_engine::RunWriter;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::SignalsInfo;
use signal_hook::iterator::exfiltrator::WithOrigin;

/// How long a run that never started takes at most to say goodbye.
const PATIENCE: Duration = Duration::from_secs(2);

/// A signal that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Came {
    /// Which.
    pub(super) signal: i32,
    /// Whether the terminal sent it, to every process in the foreground at once.
    pub(super) by_terminal: bool,
}

/// What a signal meets.
enum Phase {
    /// Nothing runs yet: what is loaded can be large, and who presses Ctrl-C does not want to wait for it.
    Starting(Option<Arc<RunWriter>>),
    /// The command, which is told.
    Running,
}

/// Signals from now on.
pub(super) struct Signals {
    came: Receiver<Came>,
    phase: Arc<Mutex<Phase>>,
}

impl Signals {
    /// Takes SIGINT, SIGTERM and SIGHUP until the process ends.
    pub(super) fn install() -> Result<Self> {
        let failed =
            |error: std::io::Error| Error::unavailable("can not take signals").with_source(error);
        let mut signals =
            SignalsInfo::<WithOrigin>::new([SIGINT, SIGTERM, SIGHUP]).map_err(failed)?;
        let (send, came) = channel();
        let phase = Arc::new(Mutex::new(Phase::Starting(None)));
        let met = Arc::clone(&phase);
        std::thread::Builder::new()
            .name("runtree-signals".to_owned())
            .spawn(move || {
                for origin in signals.forever() {
                    let one = Came {
                        signal: origin.signal,
                        by_terminal: origin.process.is_none(),
                    };
                    if let Phase::Starting(writer) = &*lock(&met) {
                        end_before_the_start(writer.as_deref(), one.signal);
                    }
                    // Nobody listens any more once the command has ended.
                    if send.send(one).is_err() {
                        break;
                    }
                }
            })
            .map_err(failed)?;
        Ok(Self { came, phase })
    }

    /// Nothing runs, or not yet, of this launch: a signal ends this process.
    pub(super) fn starting(&self, writer: Option<&Arc<RunWriter>>) {
        *lock(&self.phase) = Phase::Starting(writer.map(Arc::clone));
    }

    /// The command runs from here on: signals are its.
    pub(super) fn running(&self) {
        *lock(&self.phase) = Phase::Running;
    }

    /// The next one, if it comes within a time.
    pub(super) fn wait(&self, patience: Duration) -> Option<Came> {
        self.came.recv_timeout(patience).ok()
    }
}

/// Ends this process; what was being loaded is cleared away by the next one.
fn end_before_the_start(writer: Option<&RunWriter>, signal: i32) {
    if let Some(writer) = writer {
        // Its goodbye is for people; without it the run counts as lost.
        let _ = writer.finish(
            Some(RunStatus::Stopped),
            Some(name_of(signal)),
            Some(PATIENCE),
        );
    }
    std::process::exit(128 + signal);
}

fn lock(phase: &Mutex<Phase>) -> MutexGuard<'_, Phase> {
    phase.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a signal is called.
pub(super) fn name_of(signal: i32) -> String {
    signal_hook::low_level::signal_name(signal)
        .map_or_else(|| format!("signal {signal}"), str::to_owned)
}
