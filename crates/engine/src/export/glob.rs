//! Globs over dotted tensor names: `*` any characters, `?` one, `[a-c]` or `[!a]` one of a set; everything else itself.

/// Whether `name` matches `pattern`, as a whole. Linear in both but for backtracking to the last `*`.
pub fn matches(pattern: &str, name: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let name: Vec<char> = name.chars().collect();
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    loop {
        if n == name.len() && p == pattern.len() {
            return true;
        }
        let step = match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
                continue;
            }
            Some('?') if n < name.len() => Some(p + 1),
            Some('[') if n < name.len() => match class(&pattern[p..], name[n]) {
                Some((true, length)) => Some(p + length),
                Some((false, _)) => None,
                None => (name[n] == '[').then_some(p + 1),
            },
            Some(&c) if n < name.len() && c == name[n] => Some(p + 1),
            _ => None,
        };
        match (step, star) {
            (Some(next), _) => {
                p = next;
                n += 1;
            }
            // The last star takes one character more, and the rest is tried again.
            (None, Some((at, from))) if from < name.len() => {
                star = Some((at, from + 1));
                p = at + 1;
                n = from + 1;
            }
            _ => return false,
        }
    }
}

/// A `[…]` at the start of `pattern`: whether it holds `c`, and how long it is; none if it is never closed.
fn class(pattern: &[char], c: char) -> Option<(bool, usize)> {
    let negated = matches!(pattern.get(1), Some('!' | '^'));
    let first = if negated { 2 } else { 1 };
    let mut at = first;
    let mut found = false;
    loop {
        match *pattern.get(at)? {
            ']' if at > first => return Some((found != negated, at + 1)),
            low => {
                let range = pattern.get(at + 1) == Some(&'-')
                    && pattern.get(at + 2).is_some_and(|&end| end != ']');
                let high = if range { pattern[at + 2] } else { low };
                found |= (low..=high).contains(&c);
                at += if range { 3 } else { 1 };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn globs_match_as_shells_do() {
        for (pattern, name) in [
            ("*", ""),
            ("model.*", "model.layers.0.weight"),
            ("*.weight", "a.weight"),
            ("a?c", "abc"),
            ("layer[0-3]", "layer2"),
            ("layer[!0-3]", "layer7"),
            ("*a*b*", "xxaxxbxx"),
            ("[", "["),
            ("[]]", "]"),
        ] {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("", "a"),
            ("model", "models"),
            ("a?c", "ac"),
            ("layer[0-3]", "layer9"),
            ("*.bias", "a.weight"),
        ] {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
    }
}
