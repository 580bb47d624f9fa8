//! Names that somebody may have meant.

/// Most names that are offered.
const OFFERED: usize = 3;

/// Those of `names` that are near to `name`, nearest first: the same but for case or what stands before the last `/`, one inside the other, or a few letters apart
/// (Damerau-Levenshtein with adjacent transpositions, at most a third of the letters).
pub(crate) fn near_names(name: &str, names: &[String]) -> Vec<String> {
    let lower = name.to_lowercase();
    let mut near: Vec<(usize, &String)> = names
        .iter()
        .filter_map(|other| Some((distance_class(&lower, &other.to_lowercase())?, other)))
        .collect();
    near.sort();
    near.truncate(OFFERED);
    near.into_iter().map(|(_, name)| name.clone()).collect()
}

fn distance_class(a: &str, b: &str) -> Option<usize> {
    let last = |name: &str| name.rsplit('/').next().unwrap_or_default().to_owned();
    if a == b {
        return Some(0);
    }
    if last(a) == last(b) {
        return Some(1);
    }
    let apart = distance(a, b);
    let allowed = a.chars().count().max(b.chars().count()) / 3;
    if apart <= allowed {
        return Some(apart);
    }
    let inside = a.len() >= 3 && b.contains(a) || b.len() >= 3 && a.contains(b);
    inside.then_some(allowed + 1)
}

/// Edits (insert, delete, replace, swap of neighbours) from one text to the other.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut next = vec![i];
        for j in 1..=b.len() {
            let replace = row[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = replace.min(row[j] + 1).min(next[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(before[j - 2] + 1);
            }
            next.push(least);
        }
        before = std::mem::replace(&mut row, next);
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_that_was_meant_comes_first() {
        let names = ["train/loss", "val/loss", "val/reward", "lr"].map(str::to_owned);
        assert_eq!(near_names("val/rewrad", &names), ["val/reward"]);
        assert_eq!(near_names("reward", &names), ["val/reward"]);
        assert_eq!(near_names("Val/Loss", &names)[0], "val/loss");
        assert_eq!(near_names("eval/loss", &names), ["train/loss", "val/loss"]);
        assert!(near_names("accuracy", &names).is_empty());
        assert_eq!(distance("ab", "ba"), 1);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
