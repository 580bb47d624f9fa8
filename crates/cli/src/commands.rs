//! The commands: one file each, from its arguments (whose docs are the manual) to its output.

use clap::Subcommand;

use crate::context::Context;
use crate::error::Failure;

mod annotate;
mod cat;
mod checkpoints;
mod clone;
mod delete;
mod diff;
mod encode;
mod exec;
mod export;
mod export_html;
mod export_metrics;
mod fork;
mod gc;
mod head;
mod import;
mod log;
mod pin;
mod project;
mod prune;
mod pull;
mod push;
mod reindex;
mod repair;
mod retention;
mod rewind;
mod runs;
mod seal;
mod serve;
mod show;
mod stats;
mod sweep;
mod tag;
mod train;
mod tree;
mod undelete;
mod unpin;
mod untag;
mod verify;
mod version;
mod watch;

pub(crate) use show::attempt_text;

macro_rules! commands {
    ($($variant:ident => $module:ident,)*) => {
        /// Every command, once.
        #[derive(Debug, Subcommand)]
        pub(crate) enum Command {
            $($variant($module::Args),)*
        }

        /// Runs a command.
        pub(crate) fn run(command: Command, context: &mut Context) -> Result<(), Failure> {
            match command {
                $(Command::$variant(args) => $module::run(args, context),)*
            }
        }
    };
}

commands! {
    Runs => runs,
    Show => show,
    Tree => tree,
    Log => log,
    Checkpoints => checkpoints,
    Diff => diff,
    Cat => cat,
    Sweep => sweep,
    Fork => fork,
    Rewind => rewind,
    Pin => pin,
    Unpin => unpin,
    Tag => tag,
    Untag => untag,
    Annotate => annotate,
    Head => head,
    Delete => delete,
    Undelete => undelete,
    Prune => prune,
    Retention => retention,
    Push => push,
    Pull => pull,
    Clone => clone,
    Export => export,
    ExportMetrics => export_metrics,
    ExportHtml => export_html,
    Import => import,
    Verify => verify,
    Repair => repair,
    Gc => gc,
    Reindex => reindex,
    Encode => encode,
    Seal => seal,
    Stats => stats,
    Exec => exec,
    Train => train,
    Watch => watch,
    Serve => serve,
    Project => project,
    Version => version,
}
