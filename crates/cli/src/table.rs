//! Tables for terminals: columns as wide as needed, the flexible ones cut until the whole fits.

use crate::error::Failure;
use crate::look::{Look, Style, clean, columns, pad};
use crate::output::Output;

/// Fewest columns a flexible column is cut to.
const MIN_FLEXIBLE: usize = 8;
/// Between two columns.
const GAP: usize = 2;

/// A cell.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cell {
    text: String,
    style: Style,
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self {
            text: clean(&text),
            style: Style::Plain,
        }
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl Cell {
    pub(crate) fn styled(text: impl Into<String>, style: Style) -> Self {
        Self {
            text: clean(&text.into()),
            style,
        }
    }
}

/// How a column stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
    /// Left, and cut first where there is no room.
    Flexible,
}

/// A table.
#[derive(Debug, Default)]
pub(crate) struct Table {
    heads: Vec<(String, Align)>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    pub(crate) fn new(heads: impl IntoIterator<Item = (impl Into<String>, Align)>) -> Self {
        Self {
            heads: heads
                .into_iter()
                .map(|(head, align)| (clean(&head.into()), align))
                .collect(),
            rows: Vec::new(),
        }
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// The lines, headings first.
    pub(crate) fn lines(&self, look: Look) -> Vec<String> {
        let widths = self.widths(look.width);
        let head = self
            .heads
            .iter()
            .map(|(head, _)| Cell::styled(head.clone(), Style::Dim));
        std::iter::once(head.collect::<Vec<_>>())
            .chain(self.rows.iter().cloned())
            .map(|cells| self.line(&cells, &widths, look))
            .collect()
    }

    /// Prints the table.
    pub(crate) fn print(&self, out: &mut Output) -> Result<(), Failure> {
        self.lines(out.look)
            .iter()
            .try_for_each(|line| out.line(line))
    }

    fn line(&self, cells: &[Cell], widths: &[usize], look: Look) -> String {
        let mut line = String::new();
        for (index, ((_, align), &width)) in self.heads.iter().zip(widths).enumerate() {
            let cell = cells.get(index).cloned().unwrap_or_default();
            let text = look.fit(&cell.text, width);
            let space = width.saturating_sub(columns(&text));
            let painted = look.paint(cell.style, &text);
            if index > 0 {
                line.push_str(&pad("", GAP));
            }
            if *align == Align::Right {
                line.push_str(&pad("", space));
                line.push_str(&painted);
            } else {
                line.push_str(&painted);
                line.push_str(&pad("", space));
            }
        }
        line.trim_end().to_owned()
    }

    fn widths(&self, available: usize) -> Vec<usize> {
        let mut widths: Vec<usize> = self.heads.iter().map(|(head, _)| columns(head)).collect();
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(columns(&cell.text));
            }
        }
        let total =
            |widths: &[usize]| widths.iter().sum::<usize>() + GAP * widths.len().saturating_sub(1);
        while total(&widths) > available {
            // The widest flexible column gives way first, so that all stay readable.
            let widest = (0..widths.len())
                .filter(|&index| {
                    self.heads[index].1 == Align::Flexible && widths[index] > MIN_FLEXIBLE
                })
                .max_by_key(|&index| widths[index]);
            match widest {
                Some(index) => widths[index] -= 1,
                None => break,
            }
        }
        widths
    }
}
