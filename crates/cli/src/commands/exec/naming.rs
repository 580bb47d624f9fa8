//! What a job is called, and what it names: keys, projects, stores, checkpoints.

use std::ffi::OsString;
use std::path::Path;

use runtree_core::manifest::CheckpointName;
use runtree_core::{Error, Result};
use runtree_engine::job::Wanted;
use runtree_engine::{Engine, Place};

use crate::context::Context;

/// Letters of a key that is made: none that is taken for another.
const KEY_LETTERS: &[u8] = b"abcdefghjkmnpqrstvwxyz0123456789";
/// Words in names of arguments whose values are nobody's business.
const SECRET: [&str; 5] = ["token", "secret", "password", "api-key", "api_key"];

/// The one store that all REFs name.
pub(super) fn store_of(wanted: &[Wanted]) -> Result<Option<&str>> {
    let named = |wanted: &'_ Wanted| match wanted {
        Wanted::Reference(reference) => reference.store.clone(),
        Wanted::Id(_) | Wanted::Project(_) => None,
    };
    let Some(first) = wanted.first() else {
        return Ok(None);
    };
    if let Some(other) = wanted.iter().find(|other| named(other) != named(first)) {
        let text = |wanted: &Wanted| {
            named(wanted).map_or_else(
                || "the store at hand".to_owned(),
                |store| format!("{store:?}"),
            )
        };
        return Err(Error::unsupported(format!(
            "--load names {} and {}, and one command loads from one",
            text(first),
            text(other)
        ))
        .with_hint("runtree pull what is elsewhere first"));
    }
    Ok(match first {
        Wanted::Reference(reference) => reference.store.as_deref(),
        Wanted::Id(_) | Wanted::Project(_) => None,
    })
}

pub(super) fn resolve(
    engine: &Engine,
    wanted: &[Wanted],
    project: Option<&str>,
) -> Result<Vec<CheckpointName>> {
    wanted
        .iter()
        .map(|one| engine.resolve_wanted(one, project))
        .collect()
}

/// The project of a new run: as is said, else that of what it loads, else the name of the working directory.
pub(super) fn project_of(
    context: &Context,
    source: &Engine,
    loaded: &[CheckpointName],
) -> Result<String> {
    if let Some(project) = context.project() {
        return Ok(project.to_owned());
    }
    if let Some(first) = loaded.first() {
        return Ok(source.summary(first.run)?.project);
    }
    let directory = context.environment.directory()?;
    let name = directory
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    let plain = |c: char| {
        if c.is_control() || matches!(c, '/' | '#' | '@') {
            '-'
        } else {
            c
        }
    };
    let name: String = name.chars().map(plain).collect();
    Ok(if name.is_empty() {
        "default".to_owned()
    } else {
        name
    })
}

/// A store's place as every working directory understands it.
pub(super) fn absolute(location: String) -> String {
    if Place::is_address(Path::new(&location)) {
        return location;
    }
    std::path::absolute(&location).map_or(location, |path| path.display().to_string())
}

/// Seven letters that no other run has: 32^7 of them.
pub(super) fn made_key() -> String {
    let mut random = rand::random::<u64>();
    let mut letter = || {
        let at = (random % KEY_LETTERS.len() as u64) as usize;
        random /= KEY_LETTERS.len() as u64;
        char::from(KEY_LETTERS[at])
    };
    (0..7).map(|_| letter()).collect()
}

/// A command as people see it in the run, without what is secret in it.
pub(super) fn shown(command: &[OsString]) -> String {
    let mut hides_next = false;
    let mut words = Vec::new();
    for word in command {
        let word = word.to_string_lossy();
        let lower = word.to_ascii_lowercase();
        let is_secret = SECRET.iter().any(|name| lower.contains(name));
        let hidden = match word.split_once('=') {
            _ if hides_next => "[redacted]".to_owned(),
            Some((name, _)) if is_secret => format!("{name}=[redacted]"),
            _ => word.clone().into_owned(),
        };
        hides_next = is_secret && lower.starts_with('-') && !word.contains('=');
        words.push(hidden);
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_of_a_command_are_not_shown() {
        let words = [
            "train.py",
            "--hf-token",
            "abc",
            "API_KEY=x",
            "--lr=1",
            "--token=y",
        ]
        .map(OsString::from);
        assert_eq!(
            shown(&words),
            "train.py --hf-token [redacted] API_KEY=[redacted] --lr=1 --token=[redacted]"
        );
    }

    #[test]
    fn a_made_key_has_seven_letters() {
        let key = made_key();
        assert!(
            key.len() == 7 && key.bytes().all(|letter| KEY_LETTERS.contains(&letter)),
            "{key}"
        );
    }
}
