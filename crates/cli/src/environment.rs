//! The one place that reads the environment: variables, terminals, the current directory.

use std::io::IsTerminal as _;
use std::path::PathBuf;

use runtree_core::{Error, Result};
use runtree_engine::Settings;

/// Columns of output that goes into a file or a pipe.
const DEFAULT_WIDTH: usize = 100;

/// What the process finds itself in.
#[derive(Clone, Debug, Default)]
pub(crate) struct Environment {
    /// `RUNTREE_STORE`.
    pub(crate) store: Option<String>,
    /// `RUNTREE_PROJECT`.
    pub(crate) project: Option<String>,
    /// `RUNTREE_TOKEN`: what `serve` asks of clients, without showing it in the list of processes.
    pub(crate) token: Option<String>,
    /// `XDG_CACHE_HOME`, else `~/.cache`.
    cache_home: Option<PathBuf>,
    /// `NO_COLOR` is set, or the terminal is dumb.
    pub(crate) no_color: bool,
    /// Whether the locale can show more than ASCII.
    pub(crate) unicode: bool,
    /// Columns of the terminal, or of whatever else stdout is.
    pub(crate) width: usize,
    /// `RUNTREE_RUN_ID`: the key of the run that a job is.
    pub(crate) run_id: Option<String>,
    /// `RUNTREE_PYTHON`: the interpreter that has the package.
    pub(crate) python: Option<String>,
    /// Whether stdin is a terminal.
    pub(crate) stdin_is_terminal: bool,
    /// Whether stdout is a terminal.
    pub(crate) stdout_is_terminal: bool,
    /// Whether stderr is a terminal.
    pub(crate) stderr_is_terminal: bool,
    /// `SSH_CONNECTION`: client address and port, server address and port.
    pub(crate) ssh_connection: Option<String>,
    /// `USER`, for the `ssh -L` line.
    pub(crate) user: Option<String>,
    /// What buckets are accessed by.
    pub(crate) settings: Settings,
    /// `RUNTREE_REMOTE`.
    pub(crate) remote: Option<String>,
    /// The current directory.
    directory: Option<PathBuf>,
}

impl Environment {
    pub(crate) fn read() -> Self {
        let stdout_is_terminal = std::io::stdout().is_terminal();
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
            .into_iter()
            .find_map(variable);
        let terminal = terminal_size::terminal_size().map(|(width, _)| usize::from(width.0));
        Self {
            store: variable("RUNTREE_STORE"),
            project: variable("RUNTREE_PROJECT"),
            token: variable("RUNTREE_TOKEN"),
            cache_home: variable("XDG_CACHE_HOME")
                .map(PathBuf::from)
                .or_else(|| variable("HOME").map(|home| PathBuf::from(home).join(".cache"))),
            no_color: variable("NO_COLOR").is_some()
                || variable("TERM").is_some_and(|terminal| terminal == "dumb"),
            unicode: locale.is_none_or(|locale| {
                let locale = locale.to_ascii_lowercase();
                locale.contains("utf-8") || locale.contains("utf8")
            }),
            width: variable("COLUMNS")
                .and_then(|columns| columns.parse().ok())
                .filter(|_| !stdout_is_terminal)
                .or_else(|| terminal.filter(|_| stdout_is_terminal))
                .unwrap_or(DEFAULT_WIDTH),
            run_id: variable("RUNTREE_RUN_ID"),
            python: variable("RUNTREE_PYTHON"),
            stdin_is_terminal: std::io::stdin().is_terminal(),
            stdout_is_terminal,
            stderr_is_terminal: std::io::stderr().is_terminal(),
            ssh_connection: variable("SSH_CONNECTION"),
            user: variable("USER"),
            settings: settings(),
            remote: variable("RUNTREE_REMOTE"),
            directory: std::env::current_dir().ok(),
        }
    }

    /// Where runtree keeps its indexes.
    pub(crate) fn cache_dir(&self) -> Result<PathBuf> {
        let home = self.cache_home.as_ref().ok_or_else(|| {
            Error::invalid(
                "there is no place for the index: neither XDG_CACHE_HOME nor HOME is set",
            )
            .with_hint("set XDG_CACHE_HOME to a folder of yours")
        })?;
        Ok(home.join("runtree"))
    }

    /// The current directory.
    pub(crate) fn directory(&self) -> Result<&std::path::Path> {
        self.directory.as_deref().ok_or_else(|| {
            Error::not_found("the current directory is gone").with_hint("cd somewhere else")
        })
    }
}

/// Every variable that says something about buckets, and where profiles lie.
fn settings() -> Settings {
    let is_one = |name: &str| {
        name == "HOME"
            || ["AWS_", "GOOGLE_", "AZURE_"]
                .iter()
                .any(|start| name.starts_with(start))
    };
    std::env::vars().filter(|(name, _)| is_one(name)).collect()
}

/// A variable that is set and not empty.
#[expect(
    clippy::disallowed_methods,
    reason = "the edge that reads the environment"
)]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
