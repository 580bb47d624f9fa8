//! Lines of a console: how loud they are.
//!
//! A level is recognised, never stored: what a line says of itself at its beginning, as `logging`, loguru, glog, tracing and many others write it.
//! Where it was printed says nothing: progress bars and most libraries' INFO go to stderr.

use serde::{Deserialize, Serialize};

/// How loud a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum ConsoleLevel {
    /// For who looks for a fault.
    Debug,
    /// As expected.
    Info,
    /// To be looked at.
    Warning,
    /// Wrong.
    Error,
}

impl std::str::FromStr for ConsoleLevel {
    type Err = crate::Error;

    fn from_str(text: &str) -> crate::Result<Self> {
        match text {
            "debug" => Ok(Self::Debug),
            "info" => Ok(Self::Info),
            "warning" => Ok(Self::Warning),
            "error" => Ok(Self::Error),
            _ => Err(crate::Error::invalid(format!("{text:?} is not a level"))
                .with_hint("debug, info, warning or error")),
        }
    }
}

/// A level's word stands in the first so many bytes of a line, after a time and the name of a logger.
const PREFIX_BYTES: usize = 96;

/// Levels of lines that were printed together. A line that says nothing of itself belongs to the one before if it is part of the same record:
/// it is indented, or stands in a traceback.
pub fn levels_of<'a>(lines: impl IntoIterator<Item = &'a str>) -> Vec<Option<ConsoleLevel>> {
    let mut before = None;
    let mut in_traceback = false;
    let mut levels = Vec::new();
    for line in lines {
        let is_indented = line.starts_with([' ', '\t']);
        let own = level_of(line);
        let level = if own.is_some() {
            in_traceback = line.starts_with(TRACEBACK);
            own
        } else if in_traceback {
            // Indented lines are the frames, the first that is not is the exception itself.
            in_traceback = is_indented || line.is_empty();
            Some(ConsoleLevel::Error)
        } else if is_indented {
            before
        } else {
            None
        };
        levels.push(level);
        before = level;
    }
    levels
}

const TRACEBACK: &str = "Traceback (most recent call last)";

/// The level that a line says it has.
pub fn level_of(line: &str) -> Option<ConsoleLevel> {
    if line.starts_with(TRACEBACK) || is_exception(line) {
        return Some(ConsoleLevel::Error);
    }
    if let Some(level) = glog(line) {
        return Some(level);
    }
    // Words of a level are ASCII, so bytes will do: no character is cut.
    let prefix = &line.as_bytes()[..line.len().min(PREFIX_BYTES)];
    let mut start = 0;
    for (at, byte) in prefix.iter().chain([&b' ']).enumerate() {
        if byte.is_ascii_alphabetic() {
            continue;
        }
        let (before, after) = (prefix[..start].last(), prefix.get(at));
        if let Some(level) = level_word(&prefix[start..at], before.copied(), after.copied()) {
            return Some(level);
        }
        start = at + 1;
    }
    None
}

/// A word counts if it stands apart, in capitals or between marks: `ERROR`, `[error]`, `level=error`, but not `no error` or `ERROR_RATE`.
fn level_word(word: &[u8], before: Option<u8>, after: Option<u8>) -> Option<ConsoleLevel> {
    let level = match word.to_ascii_lowercase().as_slice() {
        b"debug" | b"trace" => ConsoleLevel::Debug,
        b"info" | b"notice" | b"success" => ConsoleLevel::Info,
        b"warning" | b"warn" => ConsoleLevel::Warning,
        b"error" | b"critical" | b"fatal" | b"severe" => ConsoleLevel::Error,
        _ => return None,
    };
    let joins = |byte: Option<u8>| {
        byte.is_some_and(|byte| matches!(byte, b'_' | b'-' | b'/' | b'.' | b'0'..=b'9'))
    };
    // `2024-01-01-INFO` and `name-ERROR-text` are common; a word that is part of a longer one with `_` or a digit is not a level.
    if before.is_some_and(|byte| byte == b'_' || byte == b'/' || byte == b'.')
        || (joins(after) && after != Some(b'-'))
    {
        return None;
    }
    let is_upper = word.iter().all(u8::is_ascii_uppercase);
    let is_marked = matches!(
        (before, after),
        (Some(b'['), Some(b']')) | (Some(b'<'), Some(b'>')) | (Some(b'('), Some(b')'))
    ) || before == Some(b'=')
        || (before == Some(b'"') && after == Some(b'"'));
    (is_upper || is_marked).then_some(level)
}

/// `E0501 12:34:56.789 file.cc:12] text`, of C++ libraries.
fn glog(line: &str) -> Option<ConsoleLevel> {
    let bytes = line.as_bytes().first_chunk::<6>()?;
    if !bytes[1..5].iter().all(u8::is_ascii_digit) || bytes[5] != b' ' {
        return None;
    }
    match bytes[0] {
        b'I' => Some(ConsoleLevel::Info),
        b'W' => Some(ConsoleLevel::Warning),
        b'E' | b'F' => Some(ConsoleLevel::Error),
        _ => None,
    }
}

/// `ValueError: text`, `torch.OutOfMemoryError: text`: the last line of a traceback.
fn is_exception(line: &str) -> bool {
    let Some((name, _)) = line.split_once(':') else {
        return false;
    };
    let last = name.rsplit('.').next().unwrap_or_default();
    !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'.')
        && last.starts_with(|first: char| first.is_ascii_uppercase())
        && (last.ends_with("Error") || last.ends_with("Exception") || last == "KeyboardInterrupt")
        && last != "Error"
}
