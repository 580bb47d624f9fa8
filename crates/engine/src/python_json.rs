//! JSON as Python writes it: with NaN and the infinities, which no JSON has. A loss that was NaN must not make a file unreadable.

use serde_json::Value;

/// What stands for Python's words until a line is parsed: a text that nobody logs.
const MARK: char = '\u{1}';
const WORDS: [(&str, f64); 3] = [
    ("NaN", f64::NAN),
    ("-Infinity", f64::NEG_INFINITY),
    ("Infinity", f64::INFINITY),
];

/// What a text says; none if it is no JSON, but for these words. They are numbers to [`number`].
pub(crate) fn parse(text: &str) -> Option<Value> {
    // Almost no text has them.
    let plain = serde_json::from_str(text).ok();
    plain.or_else(|| serde_json::from_str(&mark_words(text)).ok())
}

/// A number, also one that is not finite.
pub(crate) fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => {
            let word = text.strip_prefix(MARK)?;
            let known = WORDS.iter().find(|(name, _)| *name == word);
            known.map(|(_, value)| *value)
        }
        _ => None,
    }
}

/// The line with Python's words for what is not finite as marked texts.
fn mark_words(line: &str) -> String {
    let mut marked = String::with_capacity(line.len());
    let mut rest = line;
    let (mut in_text, mut escaped) = (false, false);
    while let Some(next) = rest.chars().next() {
        let word = WORDS.iter().find(|(word, _)| rest.starts_with(word));
        if let (false, Some((word, _))) = (in_text, word) {
            marked.push_str("\"\\u0001");
            marked.push_str(word);
            marked.push('"');
            rest = &rest[word.len()..];
            continue;
        }
        if next == '"' && !escaped {
            in_text = !in_text;
        }
        escaped = in_text && next == '\\' && !escaped;
        marked.push(next);
        rest = &rest[next.len_utf8()..];
    }
    marked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_python_are_numbers_and_texts_are_left_alone() {
        let value = parse(r#"{"a": NaN, "b": [-Infinity, Infinity], "c": "NaN", "d": 1}"#).unwrap();
        assert!(number(&value["a"]).unwrap().is_nan());
        assert_eq!(number(&value["b"][0]), Some(f64::NEG_INFINITY));
        assert_eq!(
            (number(&value["c"]), number(&value["d"])),
            (None, Some(1.0))
        );
        assert_eq!(parse(r#"{"a": NaN"#), None);
        assert_eq!(parse("NaNa"), None);
    }
}
