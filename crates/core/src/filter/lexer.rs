//! Text into words and signs.

use crate::error::{Error, Result};

/// A word or a sign, and where it begins (in characters, for people).
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) at: usize,
    /// Whether nothing stands between it and the token before.
    pub(super) joined: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    Open,
    Close,
    Comma,
    /// `=` and its like.
    Operator(&'static str),
    /// Without quotes.
    Word(String),
    /// With them.
    Quoted(String),
}

/// Longest first.
const OPERATORS: [&str; 9] = ["==", "!=", "<=", ">=", "!~", "=", "<", ">", "~"];

/// Characters that end a word.
fn ends_word(c: char) -> bool {
    c.is_whitespace() || matches!(c, '(' | ')' | ',' | '"' | '=' | '<' | '>' | '~')
}

pub(super) fn tokens(text: &str) -> Result<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut rest = text;
    let mut joined = false;
    while let Some(first) = rest.chars().next() {
        if first.is_whitespace() {
            rest = &rest[first.len_utf8()..];
            joined = false;
            continue;
        }
        let at = text[..text.len() - rest.len()].chars().count() + 1;
        let (kind, length) = one(rest, at)?;
        rest = &rest[length..];
        tokens.push(Token { kind, at, joined });
        joined = true;
    }
    Ok(tokens)
}

/// The token that `rest` begins with, and its bytes.
fn one(rest: &str, at: usize) -> Result<(Kind, usize)> {
    if let Some(operator) = OPERATORS
        .iter()
        .find(|operator| rest.starts_with(**operator))
    {
        let kind = if *operator == "==" { "=" } else { operator };
        return Ok((Kind::Operator(kind), operator.len()));
    }
    Ok(match rest.as_bytes()[0] {
        b'(' => (Kind::Open, 1),
        b')' => (Kind::Close, 1),
        b',' => (Kind::Comma, 1),
        b'"' => return quoted(rest, at),
        _ => {
            let end = rest
                .char_indices()
                .find(|&(index, c)| {
                    ends_word(c) || (c == '!' && rest[index + 1..].starts_with(['=', '~']))
                })
                .map_or(rest.len(), |(index, _)| index);
            (Kind::Word(rest[..end].to_owned()), end)
        }
    })
}

/// A text in quotes; a backslash takes the next character as it is.
fn quoted(rest: &str, at: usize) -> Result<(Kind, usize)> {
    let mut text = String::new();
    let mut characters = rest.char_indices().skip(1);
    while let Some((index, c)) = characters.next() {
        match c {
            '"' => return Ok((Kind::Quoted(text), index + 1)),
            '\\' => match characters.next() {
                Some((_, escaped)) => text.push(escaped),
                None => break,
            },
            c => text.push(c),
        }
    }
    Err(Error::invalid(format!(
        "the quote at character {at} of the filter is not closed"
    )))
}
