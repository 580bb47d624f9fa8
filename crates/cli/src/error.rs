//! From what went wrong to what the user reads and the shell gets.

use std::io;

use runtree_core::{Error, ErrorKind};

use crate::args::Globals;
use crate::context::Context;
use crate::environment::Environment;
use crate::look::Style;
use crate::output::Output;

/// Why a command ended early.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The engine, or the command itself, refused.
    Refused(Error),
    /// Writing to stdout failed.
    Output(io::Error),
    /// A command that was run ended with this; what there was to say is said.
    Ended(u8),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

/// Prints what clap says (help and version go to stdout, mistakes to stderr) and returns its exit code. A value that one of our own
/// types refused (a REF) is our error, with its hint.
pub(crate) fn usage(error: &clap::Error, environment: Environment) -> u8 {
    use std::error::Error as _;
    use std::io::Write as _;
    if let Some(refused) = error
        .source()
        .and_then(|source| source.downcast_ref::<Error>())
    {
        let mut context = Context::new(Globals::default(), environment);
        return complain(refused, &mut context.out);
    }
    let text = error.render();
    let colored = !environment.no_color
        && if error.use_stderr() {
            environment.stderr_is_terminal
        } else {
            environment.stdout_is_terminal
        };
    let text = if colored {
        text.ansi().to_string()
    } else {
        text.to_string()
    };
    // Who closed the stream does not want the text.
    let _ = if error.use_stderr() {
        io::stderr().write_all(text.as_bytes())
    } else {
        io::stdout().write_all(text.as_bytes())
    };
    u8::try_from(error.exit_code()).unwrap_or(2)
}

/// Flushes, says what went wrong, and returns the exit code.
pub(crate) fn finish(result: Result<(), Failure>, mut out: Output) -> u8 {
    let error = match result.and_then(|()| out.flush()) {
        Ok(()) => return 0,
        // `runtree runs | head`: the reader has seen enough.
        Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => return 0,
        Err(Failure::Ended(code)) => {
            let _ = out.flush();
            return code;
        }
        Err(Failure::Output(error)) => {
            Error::unavailable("can not write to stdout").with_source(error)
        }
        Err(Failure::Refused(error)) => {
            // What was printed before the error is still data; a reader that is gone changes nothing now.
            let _ = out.flush();
            error
        }
    };
    complain(&error, &mut out)
}

fn complain(error: &Error, out: &mut Output) -> u8 {
    out.labelled(Style::Bad, "error", &error.chain());
    if let Some(hint) = error.hint().or_else(|| general_hint(error.kind())) {
        out.labelled(Style::Warn, "hint", hint);
    }
    error.kind().exit_code()
}

/// What to do next where the engine has nothing more exact to say.
fn general_hint(kind: ErrorKind) -> Option<&'static str> {
    match kind {
        ErrorKind::NotFound => Some("`runtree runs` lists the runs there are"),
        ErrorKind::Corrupt => Some("`runtree verify` says what is damaged"),
        ErrorKind::Unsupported => Some("upgrade runtree: pip install -U runtree"),
        ErrorKind::Internal => {
            Some("this is a bug in runtree; please report it with the command that shows it")
        }
        _ => None,
    }
}
