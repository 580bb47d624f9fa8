//! `runtree fork`

use runtree_core::reference::Reference;
use runtree_core::{Error, Result};
use runtree_engine::{ForkChoice, ForkSpec, OpenMode, sync};
use serde_json::{Map, Value};

use crate::context::{Context, Session, Target};
use crate::error::Failure;
use crate::human;

/// Fork a run at a checkpoint, and print the new run's display id
///
/// No byte of the checkpoint is read or copied. The fork inherits history and config,
/// and waits for its first launch. A bare run is forked at its newest checkpoint.
/// Of a checkpoint of another store (STORE#REF) what is not here is copied first.
///
///   runtree fork MMP-42@500 --set lr=1e-6 --name cooler
///   runtree fork MMP-42@last-good --run-id cooler --set optim.lr=1e-6
///   RUNTREE_RUN_ID=cooler RUNTREE_RESUME=must python train.py
///   runtree fork 's3://bucket/prefix#project/run@<=500'
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    /// REF of a run or a checkpoint
    #[arg(value_name = "REF")]
    target: Target,
    /// Project that the fork is born in [default: its parent's]
    #[arg(long, value_name = "PROJECT")]
    into: Option<String>,
    /// Name of the fork [default: <parent>-f<k>]
    #[arg(long)]
    name: Option<String>,
    /// Config key to change; a dotted key reaches into nested config, the value is JSON or else text
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Tag of the fork
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// Notes
    #[arg(long)]
    notes: Option<String>,
    /// Own key of the fork, unique in its project: forking twice with one key gives one run
    #[arg(long, value_name = "KEY")]
    run_id: Option<String>,
    /// Start from an empty config
    #[arg(long)]
    no_inherit_config: bool,
    /// Take the parent's tags
    #[arg(long)]
    inherit_tags: bool,
}

pub(crate) fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let (session, reference) = match args.target.store() {
        Some(place) if !context.is_at_hand(place)? => bring(place, &args.target, context)?,
        _ => {
            let session = context.open(OpenMode::ReadWrite, &[&args.target])?;
            let reference = session.reference(&args.target)?;
            (session, reference)
        }
    };
    let spec = ForkSpec {
        project: session.project().map(str::to_owned),
        into: args.into,
        name: args.name,
        key: args.run_id,
        config: (!args.set.is_empty())
            .then(|| assignments(&args.set))
            .transpose()?,
        tags: args.tags,
        notes: args.notes,
        inherit_config: !args.no_inherit_config,
        inherit_tags: args.inherit_tags,
        ..ForkSpec::new(ForkChoice::Reference(reference))
    };
    let run = session.engine.fork(spec)?;
    let summary = session.engine.summary(run)?;
    if context.out.json {
        return context.out.json(&summary);
    }
    context.out.line(&summary.display_id)?;
    if let (Some(owner), Some(step)) = (&summary.owner, summary.fork_step) {
        let text = format!("{}, forked from {}@{step}.", summary.name, owner.display_id);
        context.out.remark(&crate::look::clean(&text));
    }
    Ok(())
}

/// Copies what is not at hand of a checkpoint of another store; says how it is called here.
fn bring(
    place: &str,
    target: &Target,
    context: &mut Context,
) -> Result<(Session, Reference), Failure> {
    let there = context.open_at(place, OpenMode::ReadOnly)?;
    let reference = there.reference(target)?;
    let here = context.location(None)?;
    let here = context.open_at(&here.to_string_lossy(), OpenMode::Create)?;
    let bar = context.out.bytes_so_far("copying");
    let brought = sync::bring(
        &there.engine,
        &here.engine,
        &reference,
        there.project(),
        &|report| bar.set_position(report.bytes),
    );
    bar.finish_and_clear();
    let brought = brought?;
    if brought.report.bytes > 0 {
        context.out.remark(&format!(
            "{} of {} copied from {place}.",
            human::bytes(brought.report.bytes),
            human::plural(brought.report.chunks, "chunk")
        ));
    }
    Ok((here, brought.reference))
}

/// `a.b=1` as `{"a": {"b": 1}}`, several merged.
pub(crate) fn assignments(pairs: &[String]) -> Result<Value> {
    let mut config = Map::new();
    for pair in pairs {
        let (path, text) = pair.split_once('=').ok_or_else(|| {
            Error::invalid(format!("{pair:?} is not KEY=VALUE"))
                .with_hint("for example lr=1e-6 or optim.betas=[0.9,0.95]")
        })?;
        let value = serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()));
        let mut keys = path.split('.').peekable();
        let mut level = &mut config;
        while let Some(key) = keys.next() {
            if key.is_empty() {
                return Err(Error::invalid(format!("{pair:?} has an empty key")));
            }
            if keys.peek().is_none() {
                level.insert(key.to_owned(), value);
                break;
            }
            let inner = level
                .entry(key)
                .or_insert_with(|| Value::Object(Map::new()));
            let before = human::json(inner);
            level = inner.as_object_mut().ok_or_else(|| {
                Error::invalid(format!(
                    "{pair:?} reaches into {key:?}, which was set to {before}"
                ))
            })?;
        }
    }
    Ok(Value::Object(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(pairs: &[&str]) -> Result<Value> {
        assignments(
            &pairs
                .iter()
                .map(|&pair| pair.to_owned())
                .collect::<Vec<_>>(),
        )
    }

    #[test]
    fn assignments_nest_by_dots_and_read_json_where_it_is() {
        assert_eq!(
            set(&[
                "lr=1e-6",
                "optim.name=adamw",
                "optim.betas=[0.9,0.95]",
                "note=a=b",
                "on=true"
            ])
            .unwrap(),
            serde_json::json!({"lr": 1e-6, "optim": {"name": "adamw", "betas": [0.9, 0.95]}, "note": "a=b", "on": true})
        );
    }

    #[test]
    fn what_is_no_assignment_is_refused_by_name() {
        assert!(set(&["lr"]).unwrap_err().message().contains("\"lr\""));
        assert!(set(&["=1"]).unwrap_err().message().contains("empty key"));
        assert!(
            set(&["a=1", "a.b=2"])
                .unwrap_err()
                .message()
                .contains("which was set to 1")
        );
    }
}
