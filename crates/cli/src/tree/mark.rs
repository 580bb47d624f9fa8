//! What may stand at a step of the axis, and how it looks.

use crate::look::{Look, Style};

/// What may stand at a step. Where several fall into one column, the last of this order is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Mark {
    Empty,
    Ghost,
    Line,
    Start,
    Branch,
    Deleted,
    Pending,
    Checkpoint,
    Pinned,
    NotFinite,
    GhostEnd,
    Running,
    Ended,
    Died,
    Waiting,
}

impl Mark {
    pub(super) fn glyph(self, look: Look) -> char {
        let (unicode, ascii) = match self {
            Self::Empty => (' ', ' '),
            Self::Ghost => ('╌', '.'),
            Self::Line => ('─', '-'),
            Self::Start => ('├', '|'),
            Self::Branch => ('╰', '`'),
            Self::Deleted => ('◇', 'o'),
            Self::Pending => ('◌', '?'),
            Self::Checkpoint => ('◆', '#'),
            Self::Pinned => ('◈', '@'),
            Self::NotFinite => ('!', '!'),
            Self::GhostEnd | Self::Died => ('✗', 'x'),
            Self::Running => ('▶', '>'),
            Self::Ended => ('┤', '|'),
            Self::Waiting => ('○', '_'),
        };
        look.glyph(unicode, ascii)
    }

    /// What the legend says of it; `None` if it explains itself.
    pub(super) fn meaning(self) -> Option<&'static str> {
        Some(match self {
            Self::Ghost => "abandoned",
            Self::Deleted => "deleted",
            Self::Pending => "not complete",
            Self::Checkpoint => "checkpoint",
            Self::Pinned => "pinned",
            Self::NotFinite => "not finite",
            Self::Running => "running",
            Self::Died => "died",
            Self::Waiting => "not started",
            Self::Empty
            | Self::Line
            | Self::Start
            | Self::Branch
            | Self::GhostEnd
            | Self::Ended => return None,
        })
    }

    pub(super) fn style(self) -> Style {
        match self {
            Self::Checkpoint | Self::Pinned => Style::Mark,
            Self::NotFinite | Self::Died => Style::Bad,
            Self::Running => Style::Good,
            Self::Ghost | Self::GhostEnd | Self::Deleted | Self::Pending | Self::Waiting => {
                Style::Dim
            }
            Self::Empty | Self::Line | Self::Start | Self::Branch | Self::Ended => Style::Plain,
        }
    }
}
