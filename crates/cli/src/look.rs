//! How text looks: colours, glyphs, width. Meaning survives without any of them.

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// What stdout can show.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look {
    /// Whether ANSI colours may be used.
    pub(crate) color: bool,
    /// Whether more than ASCII may be used.
    pub(crate) unicode: bool,
    /// Columns.
    pub(crate) width: usize,
}

/// A few roles rather than colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Style {
    #[default]
    Plain,
    /// What a thing is called.
    Name,
    /// Headings, remarks, legends.
    Dim,
    Good,
    Bad,
    Warn,
    /// Checkpoints.
    Mark,
}

impl Look {
    /// `text` in a style.
    pub(crate) fn paint(self, style: Style, text: &str) -> String {
        let code = match style {
            _ if !self.color => return text.to_owned(),
            Style::Plain => return text.to_owned(),
            Style::Name => "1",
            Style::Dim => "2",
            Style::Good => "32",
            Style::Bad => "31",
            Style::Warn => "33",
            Style::Mark => "36",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }

    /// One of two spellings.
    pub(crate) fn glyph(self, unicode: char, ascii: char) -> char {
        if self.unicode { unicode } else { ascii }
    }

    /// Cuts `text` to `width` columns, with a sign that it was cut.
    pub(crate) fn fit(self, text: &str, width: usize) -> String {
        if text.width() <= width {
            return text.to_owned();
        }
        let sign = self.glyph('…', '~');
        let mut fitted = String::new();
        let mut used = 0;
        for c in text.chars() {
            let columns = c.width().unwrap_or(0);
            if used + columns + 1 > width {
                break;
            }
            fitted.push(c);
            used += columns;
        }
        if width > 0 {
            fitted.push(sign);
        }
        fitted
    }
}

/// `text` without anything that could move the cursor or pose as another line: stores come from others.
pub(crate) fn clean(text: &str) -> String {
    if !text.chars().any(char::is_control) {
        return text.to_owned();
    }
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

/// Columns that `text` takes.
pub(crate) fn columns(text: &str) -> usize {
    text.width()
}

/// `text` and as many spaces as make it `width` columns wide.
pub(crate) fn pad(text: &str, width: usize) -> String {
    let mut padded = text.to_owned();
    padded.extend(std::iter::repeat_n(' ', width.saturating_sub(text.width())));
    padded
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Look = Look {
        color: false,
        unicode: true,
        width: 80,
    };

    #[test]
    fn wide_text_is_cut_by_columns_not_by_characters() {
        assert_eq!(PLAIN.fit("基线模型", 5), "基线…");
        assert_eq!(PLAIN.fit("baseline", 8), "baseline");
        assert_eq!(PLAIN.fit("baseline", 4), "bas…");
        assert_eq!(PLAIN.fit("baseline", 0), "");
        assert_eq!(pad("基线", 6), "基线  ");
    }

    #[test]
    fn control_characters_of_a_store_do_not_reach_the_terminal() {
        assert_eq!(clean("a\x1b[2Jb\nc"), "a\u{fffd}[2Jb\u{fffd}c");
    }
}
