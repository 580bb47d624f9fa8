//! The step axis: one scale for a whole family, and each run's marks on it.

use std::collections::BTreeSet;

use runtree_core::Step;
use runtree_core::event::RunStatus;
use runtree_core::wire::{AttemptInfo, CheckpointInfo, CheckpointState, LineageRun, LineageTree};

use crate::look::{Look, columns};
use crate::tree::graph::Order;
use crate::tree::mark::Mark;

/// What one row draws: steps from `first` to `last`, the part from `ghost` on abandoned.
#[derive(Debug)]
pub(super) struct Track<'a> {
    first: Option<Step>,
    last: Option<Step>,
    ghost: Option<Step>,
    branches: bool,
    end: Mark,
    not_finite: Option<Step>,
    checkpoints: Vec<&'a CheckpointInfo>,
}

impl<'a> Track<'a> {
    /// The effective own part of a run.
    pub(super) fn of_run(run: &'a LineageRun) -> Self {
        let summary = &run.summary;
        let logged = run
            .attempts
            .iter()
            .filter_map(|attempt| attempt.steps.as_ref());
        let checkpoints: Vec<_> = run
            .checkpoints
            .iter()
            .filter(|info| info.effective)
            .collect();
        let saved = || checkpoints.iter().map(|info| info.step);
        let first = summary
            .fork_step
            .or_else(|| logged.map(|steps| steps.first).chain(saved()).min());
        Self {
            first,
            last: summary.last_step.max(saved().max()).max(first),
            ghost: None,
            branches: summary.fork_step.is_some(),
            end: match summary.status {
                RunStatus::Running => Mark::Running,
                RunStatus::Completed | RunStatus::Stopped => Mark::Ended,
                RunStatus::Failed | RunStatus::Lost => Mark::Died,
                RunStatus::Created => Mark::Waiting,
            },
            not_finite: summary
                .first_nonfinite
                .as_ref()
                .map(|bad| bad.step)
                .filter(|&step| Some(step) >= first),
            checkpoints,
        }
    }

    /// One launch of a run, its abandoned tail included.
    pub(super) fn of_attempt(run: &'a LineageRun, attempt: &'a AttemptInfo) -> Self {
        let base = attempt.base.as_ref().map(|base| base.step);
        let steps = attempt.steps.as_ref();
        let checkpoints: Vec<_> = run
            .checkpoints
            .iter()
            .filter(|info| info.attempt == attempt.attempt)
            .collect();
        let saved = || checkpoints.iter().map(|info| info.step);
        let logged = steps.map(|steps| steps.first);
        let first = base.or_else(|| logged.into_iter().chain(saved()).min());
        let last = steps.map(|steps| steps.last).max(saved().max()).max(first);
        Self {
            first,
            last,
            ghost: attempt.ghost_from,
            branches: base.is_some(),
            end: if attempt.ghost_from.is_some() {
                Mark::GhostEnd
            } else {
                Mark::Line
            },
            not_finite: None,
            checkpoints,
        }
    }
}

/// The scale.
#[derive(Clone, Copy, Debug)]
pub(super) struct Axis {
    first: i64,
    last: i64,
}

impl Axis {
    /// The scale of everything a family logged or saved; none if it did neither.
    pub(super) fn of(tree: &LineageTree) -> Option<Self> {
        let steps = || {
            tree.runs.iter().flat_map(|run| {
                let logged = run
                    .attempts
                    .iter()
                    .filter_map(|attempt| attempt.steps.as_ref());
                logged
                    .flat_map(|steps| [steps.first.0, steps.last.0])
                    .chain(run.checkpoints.iter().map(|info| info.step.0))
                    .chain(run.summary.fork_step.map(|step| step.0))
            })
        };
        Some(Self {
            first: steps().min()?,
            last: steps().max()?,
        })
    }

    /// The column of a step; the last column is kept for what stands behind the last step.
    fn column(self, step: Step, width: usize) -> usize {
        let span = i128::from(self.last) - i128::from(self.first);
        let offset = (i128::from(step.0) - i128::from(self.first)).clamp(0, span.max(0));
        let columns = width as i128 - 2;
        if span <= 0 || columns <= 0 {
            return 0;
        }
        // Rounded to the nearest column.
        ((offset * columns * 2 + span) / (span * 2)) as usize
    }

    /// Numbers at round steps, each beginning in its step's column.
    pub(super) fn ticks(self, width: usize) -> String {
        let label = columns(&self.first.to_string()).max(columns(&self.last.to_string())) + 3;
        let most = (width / label).max(1) as i128;
        let span = i128::from(self.last) - i128::from(self.first);
        let mut distance: i128 = 1;
        // 1, 2, 5, 10, 20, 50, …
        let mut factors = [2, 5, 10].into_iter().cycle();
        let mut power: i128 = 1;
        while span / distance > most {
            match factors.next() {
                Some(10) => {
                    power *= 10;
                    distance = power;
                }
                Some(factor) => distance = power * factor,
                None => break,
            }
        }
        let mut line = String::new();
        let mut tick = i128::from(self.first).div_euclid(distance) * distance;
        while tick <= i128::from(self.last) {
            if let Ok(step) = i64::try_from(tick)
                && step >= self.first
            {
                let column = self.column(Step(step), width);
                let text = step.to_string();
                let free = line.is_empty() || columns(&line) < column;
                if free && column + columns(&text) <= width {
                    line.push_str(&" ".repeat(column - columns(&line)));
                    line.push_str(&text);
                }
            }
            tick += distance;
        }
        line
    }

    /// A row's marks, painted.
    pub(super) fn draw(
        self,
        track: &Track<'_>,
        width: usize,
        look: Look,
        order: Order,
        used: &mut BTreeSet<Mark>,
    ) -> String {
        let marks = self.marks(track, width);
        used.extend(
            marks
                .iter()
                .copied()
                .filter(|mark| mark.meaning().is_some()),
        );
        let mut line = String::new();
        let mut rest = marks.as_slice();
        // Neighbours of one style are painted together: less to write, and easier to copy.
        while let Some(style) = rest.first().map(|mark| mark.style()) {
            let same = rest.iter().take_while(|mark| mark.style() == style).count();
            let text: String = rest[..same]
                .iter()
                .map(|&mark| match (mark, order) {
                    (Mark::Branch, Order::NewestFirst) => look.glyph('╭', ','),
                    _ => mark.glyph(look),
                })
                .collect();
            line.push_str(&if text.trim().is_empty() {
                text
            } else {
                look.paint(style, &text)
            });
            rest = &rest[same..];
        }
        line
    }

    fn marks(self, track: &Track<'_>, width: usize) -> Vec<Mark> {
        let mut marks = vec![Mark::Empty; width];
        let mut put = |column: usize, mark: Mark| {
            if let Some(place) = marks.get_mut(column) {
                *place = mark.max(*place);
            }
        };
        if let (Some(first), Some(last)) = (track.first, track.last) {
            let (from, to) = (self.column(first, width), self.column(last, width));
            let ghost = track
                .ghost
                .map_or(usize::MAX, |step| self.column(step, width));
            for column in from..=to {
                put(
                    column,
                    if column >= ghost {
                        Mark::Ghost
                    } else {
                        Mark::Line
                    },
                );
            }
            put(
                from,
                if track.branches {
                    Mark::Branch
                } else {
                    Mark::Start
                },
            );
            if track.end != Mark::Line {
                put(to + 1, track.end);
            }
        }
        for info in &track.checkpoints {
            let mark = match info.state {
                CheckpointState::Complete if info.pinned => Mark::Pinned,
                CheckpointState::Complete => Mark::Checkpoint,
                CheckpointState::Pending => Mark::Pending,
                CheckpointState::Deleted => Mark::Deleted,
                CheckpointState::Abandoned | CheckpointState::Quarantined => continue,
            };
            put(self.column(info.step, width), mark);
        }
        if let Some(step) = track.not_finite {
            put(self.column(step, width), Mark::NotFinite);
        }
        marks
    }
}
