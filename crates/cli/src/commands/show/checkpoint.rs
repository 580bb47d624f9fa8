//! `runtree show` of a checkpoint.

use runtree_core::wire::CheckpointInfo;

use super::field;
use crate::commands::checkpoints::state_text;
use crate::error::Failure;
use crate::human;
use crate::look::{Style, clean};
use crate::output::Output;

/// Prints what is in a checkpoint and who needs it.
pub(super) fn print(info: &CheckpointInfo, out: &mut Output) -> Result<(), Failure> {
    let look = out.look;
    out.line(format!(
        "{} {}",
        look.paint(Style::Name, &clean(&info.reference)),
        info.name.as_deref().map(clean).unwrap_or_default()
    ))?;
    field(out, "id", &info.id)?;
    field(
        out,
        "run",
        &format!("{} {}", info.run.display_id, clean(&info.run.name)),
    )?;
    field(
        out,
        "step",
        &format!(
            "{} (attempt {}, save {})",
            info.step,
            info.attempt,
            info.k + 1
        ),
    )?;
    field(out, "state", state_text(info))?;
    field(out, "created", &human::time(info.created))?;
    let stored = info
        .stored_bytes
        .map(|stored| format!(", {} stored", human::bytes(stored)))
        .unwrap_or_default();
    field(
        out,
        "size",
        &format!(
            "{} in {}{stored}",
            human::bytes(info.bytes),
            human::plural(info.tensors, "tensor")
        ),
    )?;
    for (name, value) in &info.metrics {
        field(
            out,
            "metric",
            &format!("{} {}", clean(name), human::value(value.0)),
        )?;
    }
    if !info.tags.is_empty() {
        field(out, "tags", &clean(&info.tags.join(", ")))?;
    }
    for part in &info.parts {
        let size = if part.present {
            human::bytes(part.bytes)
        } else {
            "missing".to_owned()
        };
        field(
            out,
            "part",
            &format!("{} rank {}: {size}", clean(&part.component), part.rank),
        )?;
    }
    for fork in &info.forks {
        field(
            out,
            "fork",
            &format!("{} {}", fork.display_id, clean(&fork.name)),
        )?;
    }
    Ok(())
}
