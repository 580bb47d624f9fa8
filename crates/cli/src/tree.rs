//! Draws a family of runs: on the left the graph, as `git log --graph` draws commits; on the right every run on one step axis.
//!
//! ```text
//! digits                     0        250       500
//! ● DIG-1 digits   completed ├──◆──◆──◆──◆──◆──┤
//! ├─● DIG-2 cooler running            ╰──◆──◆─▶
//! ╰─● DIG-3 hotter failed             ╰─!───✗
//! ```
//!
//! `graph` decides rows and connectors, `axis` the `mark`s on the steps; this file puts both beside each other in the width there is.

mod axis;
mod graph;
mod mark;

use std::collections::BTreeSet;

use runtree_core::wire::{AttemptInfo, LineageRun, LineageTree};

use crate::commands::attempt_text;
use crate::human;
use crate::look::{Look, Style, clean, columns, pad};
use crate::tree::axis::{Axis, Track};
use crate::tree::mark::Mark;

pub(crate) use graph::Order;

/// Fewest columns of an axis; with less room there is none.
const MIN_AXIS: usize = 16;
/// Most columns of an axis: the eye does not follow further.
const MAX_AXIS: usize = 72;

/// A row before it is laid out.
struct Row<'a> {
    graph: String,
    id: &'a str,
    /// Gives way where room is short.
    text: String,
    /// Where the run comes from: in a deep family the connectors no longer tell, so a long name must not push it out.
    origin: String,
    status: Option<(&'static str, Style)>,
    track: Track<'a>,
}

/// The lines of a family.
pub(crate) fn render(tree: &LineageTree, look: Look, order: Order) -> Vec<String> {
    let rows = rows(tree, look, order);
    let axis = Axis::of(tree);
    let status_width = rows
        .iter()
        .filter_map(|row| row.status)
        .map(|(status, _)| columns(status))
        .max()
        .unwrap_or(0);
    let label = |row: &Row<'_>| {
        let id = if row.id.is_empty() {
            String::new()
        } else {
            format!("{} ", row.id)
        };
        format!("{}{id}{}{}", row.graph, row.text, row.origin)
    };
    let wanted = rows
        .iter()
        .map(|row| columns(&label(row)))
        .max()
        .unwrap_or(0);
    // Labels may take what an axis of half the width leaves; then the axis takes the rest.
    let room = look.width.saturating_sub(status_width + 2);
    let left = wanted.min((room * 3 / 5).max(room.saturating_sub(MAX_AXIS)));
    let axis_width = room.saturating_sub(left + 1).min(MAX_AXIS);
    let axis_width = if axis_width < MIN_AXIS || axis.is_none() {
        0
    } else {
        axis_width
    };
    let left = if axis_width == 0 {
        wanted.min(room)
    } else {
        left
    };

    let mut used = BTreeSet::new();
    let mut lines = Vec::with_capacity(rows.len() + 2);
    let title = look.fit(&clean(&tree.experiment), left);
    let mut head = look.paint(Style::Dim, &title);
    if let (Some(axis), true) = (&axis, axis_width > 0) {
        head.push_str(&pad("", left - columns(&title) + status_width + 2));
        head.push_str(&look.paint(Style::Dim, &axis.ticks(axis_width)));
    }
    lines.push(head.trim_end().to_owned());
    for row in &rows {
        let graph = look.fit(&row.graph, left);
        let id = look.fit(row.id, left.saturating_sub(columns(&graph)));
        let mut used_columns = columns(&graph) + columns(&id);
        let mut line = format!("{graph}{}", look.paint(Style::Name, &id));
        if !row.id.is_empty() && used_columns < left {
            line.push(' ');
            used_columns += 1;
        }
        let text = with_origin(row, left - used_columns, look);
        used_columns += columns(&text);
        let style = if row.id.is_empty() {
            Style::Dim
        } else {
            Style::Plain
        };
        line.push_str(&look.paint(style, &text));
        let (status, status_style) = row.status.unwrap_or(("", Style::Plain));
        line.push_str(&pad("", left - used_columns + 1));
        line.push_str(&look.paint(status_style, status));
        if let (Some(axis), true) = (&axis, axis_width > 0) {
            line.push_str(&pad("", status_width - columns(status) + 1));
            line.push_str(&axis.draw(&row.track, axis_width, look, order, &mut used));
        }
        lines.push(line.trim_end().to_owned());
    }
    if !used.is_empty() {
        lines.push(look.paint(Style::Dim, &legend(&used, look)));
    }
    lines
}

/// Fewest columns of a name that still says something.
const MIN_NAME: usize = 6;

fn with_origin(row: &Row<'_>, room: usize, look: Look) -> String {
    let name = room.saturating_sub(columns(&row.origin));
    if name >= MIN_NAME.min(columns(&row.text)) {
        return format!("{}{}", look.fit(&row.text, name), row.origin);
    }
    look.fit(&format!("{}{}", row.text, row.origin), room)
}

fn legend(used: &BTreeSet<Mark>, look: Look) -> String {
    used.iter()
        .filter_map(|mark| Some(format!("{} {}", mark.glyph(look), mark.meaning()?)))
        .collect::<Vec<_>>()
        .join("   ")
}

fn rows<'a>(tree: &'a LineageTree, look: Look, order: Order) -> Vec<Row<'a>> {
    let mut rows: Vec<Row<'a>> = Vec::new();
    for place in graph::places(tree, look) {
        let run = &tree.runs[place.run];
        rows.push(run_row(run, place.graph));
        // A launch that left nothing (a fork made before anybody ran it) explains nothing.
        let newest = run.attempts.last().map(|attempt| attempt.attempt);
        let left_something =
            |attempt: &&AttemptInfo| attempt.steps.is_some() || Some(attempt.attempt) == newest;
        let relaunched = run.attempts.iter().filter(left_something).count() > 1;
        for attempt in run
            .attempts
            .iter()
            .filter(left_something)
            .filter(|_| relaunched)
        {
            rows.push(attempt_row(run, attempt, format!("{}  ", place.below)));
        }
    }
    if order == Order::NewestFirst {
        rows.reverse();
        for row in &mut rows {
            row.graph = graph::upside_down(&row.graph);
        }
    }
    rows
}

fn run_row(run: &LineageRun, graph: String) -> Row<'_> {
    let summary = &run.summary;
    let name = clean(&summary.name);
    let origin = match (&summary.owner, summary.fork_step) {
        (Some(owner), Some(step)) => format!(" @{step} of {}", owner.display_id),
        _ => String::new(),
    };
    let status = if summary.deleted {
        ("deleted", Style::Dim)
    } else {
        (summary.status.as_str(), human::status_style(summary.status))
    };
    Row {
        graph,
        id: &summary.display_id,
        text: name,
        origin,
        status: Some(status),
        track: Track::of_run(run),
    }
}

fn attempt_row<'a>(run: &'a LineageRun, attempt: &'a AttemptInfo, graph: String) -> Row<'a> {
    Row {
        graph,
        id: "",
        text: clean(&format!("{} {}", attempt.attempt, attempt_text(attempt))),
        origin: String::new(),
        status: None,
        track: Track::of_attempt(run, attempt),
    }
}

#[cfg(test)]
mod tests;
