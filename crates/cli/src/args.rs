//! What can be typed. The doc comments here and in `commands` are the manual.

use clap::builder::styling::{AnsiColor, Styles};
use clap::{Args, Parser, ValueEnum};

use crate::commands::Command;

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default());

const REFERENCES: &str = "\
A REF is [STORE#][project/]run[@selector].
  run       display id (MMP-42), key, name (name~2: the next older one),
            or the first 6 or more characters of a RunId
  selector  500, latest, <=500, best:METRIC[:min|max], last-good[:METRIC],
            or a checkpoint's name or id

Exit codes: 0 done, 2 wrong command line, 3 not found, 4 conflict, 5 invalid,
6 denied, 7 unavailable, 8 corrupt, 9 unsupported.";

/// Git for training runs: fork, resume, compare and keep every checkpoint
#[derive(Debug, Parser)]
#[command(name = "runtree", version, styles = STYLES, after_help = REFERENCES, max_term_width = 100)]
#[command(disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) globals: Globals,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command takes.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Globals {
    /// Store to use: a directory or s3://bucket/prefix [default: RUNTREE_STORE, else the nearest .runtree upwards]
    #[arg(long, global = true, value_name = "STORE")]
    pub(crate) store: Option<String>,
    /// Project that bare names and numbers are looked up in [default: RUNTREE_PROJECT]
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) project: Option<String>,
    /// Print JSON to stdout
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Colour the output: auto, always or never
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    #[arg(hide_possible_values = true)]
    pub(crate) color: ColorChoice,
    /// Print no remarks and no progress
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
}

/// When output is coloured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum ColorChoice {
    /// On a terminal, unless NO_COLOR is set.
    #[default]
    Auto,
    /// Also into a pipe.
    Always,
    /// Not at all.
    Never,
}
