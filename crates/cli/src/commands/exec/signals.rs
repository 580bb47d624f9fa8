//! Signals that end things: counted here and passed on, instead of ending this process before what it runs.

use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use runtree_core::{Error, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::SignalsInfo;
use signal_hook::iterator::exfiltrator::WithOrigin;

/// A signal that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Came {
    /// Which.
    pub(super) signal: i32,
    /// Whether the terminal sent it, to every process in the foreground at once.
    pub(super) by_terminal: bool,
}

/// Signals from now on.
pub(super) struct Signals {
    came: Receiver<Came>,
}

impl Signals {
    /// Takes SIGINT, SIGTERM and SIGHUP until the process ends.
    pub(super) fn install() -> Result<Self> {
        let failed =
            |error: std::io::Error| Error::unavailable("can not take signals").with_source(error);
        let mut signals =
            SignalsInfo::<WithOrigin>::new([SIGINT, SIGTERM, SIGHUP]).map_err(failed)?;
        let (send, came) = channel();
        std::thread::Builder::new()
            .name("runtree-signals".to_owned())
            .spawn(move || {
                for origin in signals.forever() {
                    let one = Came {
                        signal: origin.signal,
                        by_terminal: origin.process.is_none(),
                    };
                    // Nobody listens any more once the command has ended.
                    if send.send(one).is_err() {
                        break;
                    }
                }
            })
            .map_err(failed)?;
        Ok(Self { came })
    }

    /// The next one, if it comes within a time.
    pub(super) fn wait(&self, patience: Duration) -> Option<Came> {
        self.came.recv_timeout(patience).ok()
    }
}

/// What a signal is called.
pub(super) fn name_of(signal: i32) -> String {
    signal_hook::low_level::signal_name(signal)
        .map_or_else(|| format!("signal {signal}"), str::to_owned)
}
