//! Where text goes: data to stdout, remarks and progress to stderr.

use std::io::{self, BufWriter, Write};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::error::Failure;
use crate::look::{Look, Style, clean};

/// What is quicker than this shows no progress.
pub(crate) const PATIENCE: Duration = Duration::from_secs(1);

/// The two streams of a command.
pub(crate) struct Output {
    data: BufWriter<Box<dyn Write>>,
    remarks: Box<dyn Write>,
    /// What stdout can show.
    pub(crate) look: Look,
    /// What stderr can show.
    pub(crate) error_look: Look,
    /// Whether data is JSON.
    pub(crate) json: bool,
    quiet: bool,
    progress: bool,
}

impl Output {
    pub(crate) fn new(
        look: Look,
        error_look: Look,
        json: bool,
        quiet: bool,
        progress: bool,
    ) -> Self {
        Self {
            data: BufWriter::new(Box::new(io::stdout())),
            remarks: Box::new(io::stderr()),
            look,
            error_look,
            json,
            quiet,
            progress: progress && !quiet,
        }
    }

    /// A line of data.
    pub(crate) fn line(&mut self, text: impl AsRef<str>) -> Result<(), Failure> {
        let text = text.as_ref();
        Ok(writeln!(self.data, "{}", text.trim_end())?)
    }

    /// Bytes of data.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        Ok(self.data.write_all(bytes)?)
    }

    /// Data as JSON.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        serde_json::to_writer_pretty(&mut self.data, value).map_err(io::Error::from)?;
        Ok(self.data.write_all(b"\n")?)
    }

    /// What is in the buffer goes out now: for commands that stay.
    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        Ok(self.data.flush()?)
    }

    /// A remark on stderr, unless `--quiet`.
    pub(crate) fn remark(&mut self, text: &str) {
        if !self.quiet {
            self.complain(text);
        }
    }

    /// A line on stderr. Who has closed stderr does not want it.
    pub(crate) fn complain(&mut self, text: &str) {
        let _ = writeln!(self.remarks, "{text}");
    }

    /// A bar for work that knows how far it is; hidden without a terminal.
    pub(crate) fn bar(&self, what: &'static str) -> ProgressBar {
        if !self.progress {
            return ProgressBar::hidden();
        }
        let style = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} {eta}")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        ProgressBar::new(0).with_style(style).with_message(what)
    }

    /// A bar for bytes under way, with their rate and the time that is left; hidden without a terminal.
    pub(crate) fn bytes_bar(&self, what: &'static str, total: u64) -> ProgressBar {
        if !self.progress {
            return ProgressBar::hidden();
        }
        let template = "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
        let style =
            ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        ProgressBar::new(total).with_style(style).with_message(what)
    }

    /// Bytes under way of which nobody knows how many there will be; hidden without a terminal.
    pub(crate) fn bytes_so_far(&self, what: &'static str) -> ProgressBar {
        if !self.progress {
            return ProgressBar::hidden();
        }
        let style = ProgressStyle::with_template("{spinner} {msg} {bytes} {bytes_per_sec}")
            .unwrap_or_else(|_| ProgressStyle::default_spinner());
        ProgressBar::no_length()
            .with_style(style)
            .with_message(what)
    }

    /// Does work that does not say how far it is; after a second a spinner tells that it goes on.
    pub(crate) fn busy<T: Send>(&self, what: &'static str, work: impl FnOnce() -> T + Send) -> T {
        if !self.progress {
            return work();
        }
        thread::scope(|scope| {
            let (done, waiting) = mpsc::channel::<()>();
            let worker = scope.spawn(move || {
                let result = work();
                drop(done);
                result
            });
            if waiting.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
                let style = ProgressStyle::with_template("{spinner} {msg} {elapsed}")
                    .unwrap_or_else(|_| ProgressStyle::default_spinner());
                let spinner = ProgressBar::new_spinner()
                    .with_style(style)
                    .with_message(what);
                spinner.enable_steady_tick(Duration::from_millis(120));
                // Disconnected is how the worker says it is done.
                let _ = waiting.recv();
                spinner.finish_and_clear();
            }
            match worker.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// `error:` or `hint:` before a text, coloured.
    pub(crate) fn labelled(&mut self, style: Style, label: &str, text: &str) {
        let label = self.error_look.paint(style, label);
        // A text may quote names from a store of others; its own line ends are ours.
        let lines: Vec<_> = text.split('\n').map(clean).collect();
        self.complain(&format!("{label}: {}", lines.join("\n")));
    }
}
