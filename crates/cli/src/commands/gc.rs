//! `runtree gc`

use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use runtree_engine::gc::GC_SHARDS;
use runtree_engine::{GcOptions, GcProgress, GcReport, OpenMode};

use crate::context::Context;
use crate::error::Failure;
use crate::human;
use crate::output::PATIENCE;

/// Delete what nothing needs any more
///
/// A deleted checkpoint keeps its bytes while it is in the trash (of each run the two that were deleted last, in all no more than a twentieth of the free disk), and while a
/// fork, a base or a pin needs them. Everything else goes: chunks, what killed writers left, and journals that were sealed. Runs that train meanwhile lose nothing. Who deletes
/// checkpoints by `prune` needs no call of this.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Delete nothing, say what would be
    #[arg(long)]
    dry_run: bool,
    /// How long after it was written nothing is deleted: 90s, 30m, 1h, 7d
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = parse_time)]
    grace: Duration,
}

pub(crate) fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let mode = if args.dry_run {
        OpenMode::ReadOnly
    } else {
        OpenMode::ReadWrite
    };
    let session = context.open(mode, &[])?;
    let options = GcOptions {
        grace: args.grace,
        dry_run: args.dry_run,
        ..GcOptions::default()
    };
    let began = Instant::now();
    let mut bar: Option<ProgressBar> = None;
    let report = session.engine.gc(&options, &mut |progress| {
        if began.elapsed() < PATIENCE {
            return;
        }
        let bar = bar.get_or_insert_with(|| context.out.bar("collecting"));
        let (done, all) = match progress {
            GcProgress::Listed(shards) => (shards, GC_SHARDS),
            GcProgress::Deleted(objects, all) => (objects, all),
        };
        bar.set_length(all);
        bar.set_position(done);
    });
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    let report = report?;
    if context.out.json {
        return context.out.json(&report);
    }
    for line in lines(&report) {
        context.out.line(line)?;
    }
    Ok(())
}

fn lines(report: &GcReport) -> Vec<String> {
    let freed = if report.dry_run {
        "would be freed"
    } else {
        "freed"
    };
    let mut lines = vec![format!(
        "{} {freed}: {}, in {:.1} s",
        human::bytes(report.freed_bytes),
        human::plural(report.removed_objects, "object"),
        report.seconds,
    )];
    if report.gave_way {
        lines.push("another collector is at work: the rest is left to it".to_owned());
    }
    let mut also = Vec::new();
    let mut note = |count: u64, what: &str, bytes: u64| {
        if count > 0 {
            let size = if bytes > 0 {
                format!(" ({})", human::bytes(bytes))
            } else {
                String::new()
            };
            also.push(format!("{}{size}", human::plural(count, what)));
        }
    };
    note(
        report.journal_pieces,
        "sealed journal",
        report.journal_bytes,
    );
    note(
        report.leftover_files,
        "leftover file",
        report.leftover_bytes,
    );
    note(report.lapsed_leases, "lapsed lease", 0);
    if !also.is_empty() {
        lines.push(format!("also {}", also.join(", ")));
    }
    let kept = &report.kept;
    let mut why = vec![human::plural(kept.checkpoints, "checkpoint")];
    let mut note = |count: u64, what: String| {
        if count > 0 {
            why.push(what);
        }
    };
    note(
        kept.trash,
        format!("{} in the trash", human::count(kept.trash)),
    );
    let protected = human::count(kept.protected);
    note(
        kept.protected,
        format!("{protected} deleted that a fork, a base or a pin needs"),
    );
    note(
        kept.pending,
        format!("{} pending", human::plural(kept.pending, "save")),
    );
    let young = human::plural(kept.young_objects, "object");
    let bytes = human::bytes(kept.young_bytes);
    note(
        kept.young_objects,
        format!("{young} ({bytes}) too young to be judged"),
    );
    lines.push(format!(
        "kept {}: {}",
        human::plural(report.kept_objects, "object"),
        why.join(", ")
    ));
    lines
}

/// `90s`, `30m`, `1h`, `7d`; `0` is none.
fn parse_time(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no time: write 90s, 30m, 1h or 7d");
    let (digits, unit) = match text.char_indices().last() {
        Some((at, unit)) if unit.is_ascii_alphabetic() => (&text[..at], unit),
        _ => (text, 's'),
    };
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86400,
        _ => return Err(wrong()),
    };
    number
        .checked_mul(seconds)
        .map(Duration::from_secs)
        .ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_one_unit() {
        let seconds = |text| parse_time(text).map(|time| time.as_secs());
        assert_eq!(seconds("90s"), Ok(90));
        assert_eq!(seconds("30m"), Ok(1800));
        assert_eq!(seconds("1h"), Ok(3600));
        assert_eq!(seconds("7d"), Ok(604_800));
        assert_eq!(seconds("0"), Ok(0));
        for wrong in ["", "h", "1w", "-1s", "1.5h", "9999999999999999999d", "1é"] {
            assert!(parse_time(wrong).is_err(), "{wrong}");
        }
    }
}
