//! Rooms whose process is gone.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{Error, ErrorKind, Result};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use memmap2::Mmap;

use crate::home::{home, shelf};
use crate::room::{is_memory, is_own, notes};
use crate::turn::{Turn, open, try_lock};

/// Most bytes of a note.
const MAX_NOTE_BYTES: u64 = 1 << 30;

/// What was found. As long as it lives nobody else sweeps the shelf.
#[derive(Debug)]
pub struct Sweep {
    /// The rooms of processes that are gone.
    pub rooms: Vec<Abandoned>,
    _turn: Turn,
}

/// A room whose process is gone.
#[derive(Debug)]
pub struct Abandoned {
    path: PathBuf,
    /// The lock that its process had.
    _owner: File,
}

/// Finds what processes of this user that are gone left on a shelf below `base`. Waits for whoever does the same.
///
/// # Errors
/// What the system says.
pub fn sweep(base: &Path, on: &str) -> Result<Sweep> {
    let shelf = shelf(base, on)?;
    let turn = Turn::take(&shelf)?;
    Ok(Sweep {
        rooms: abandoned(&shelf)?,
        _turn: turn,
    })
}

/// Gives the memory of processes that are gone back to the system, on every shelf: what no note is about, and what notes are about that were written before
/// `before`. Waits for nobody.
///
/// # Errors
/// What the system says.
pub fn tidy(base: &Path, before: SystemTime) -> Result<()> {
    for entry in fs::read_dir(home(base)?)? {
        let shelf = entry?.path();
        // Whoever has the turn tidies, too.
        let Ok(Some(_turn)) = Turn::try_take(&shelf) else {
            continue;
        };
        for room in abandoned(&shelf)? {
            // What can not be read in one room says nothing of the others.
            let _ = room.tidy(before);
        }
    }
    Ok(())
}

fn abandoned(shelf: &Path) -> Result<Vec<Abandoned>> {
    let mut rooms = Vec::new();
    for entry in fs::read_dir(shelf)? {
        let path = entry?.path();
        let hidden = path
            .file_name()
            .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if hidden || is_own(&path) || !path.is_dir() {
            continue;
        }
        // What can not be opened is no room, or is being left by its process right now.
        let Ok(owner) = open(&path.join("owner")) else {
            continue;
        };
        if try_lock(&owner)? {
            rooms.push(Abandoned {
                path,
                _owner: owner,
            });
        }
    }
    rooms.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(rooms)
}

impl Abandoned {
    /// The names of its notes.
    ///
    /// # Errors
    /// What the system says.
    pub fn notes(&self) -> Result<Vec<String>> {
        notes(&self.path)
    }

    /// What a note says.
    ///
    /// # Errors
    /// `InvalidData` if it is larger than notes are, or none; what the system says.
    pub fn read_note(&self, name: &str) -> Result<Vec<u8>> {
        self.read(name).map(|(_, text)| text)
    }

    /// The memory that a note is about, and what it says.
    fn read(&self, name: &str) -> Result<(Vec<String>, Vec<u8>)> {
        let invalid = |why: &str| Error::new(ErrorKind::InvalidData, why.to_owned());
        let path = self.path.join(name);
        if fs::symlink_metadata(&path)?.len() > MAX_NOTE_BYTES {
            return Err(invalid("the note is too large"));
        }
        let mut bytes = fs::read(path)?;
        let end = bytes.iter().position(|&byte| byte == b'\n');
        let end = end.ok_or_else(|| invalid("the note has no first line"))?;
        let text = bytes.split_off(end + 1);
        let names = String::from_utf8_lossy(&bytes);
        let names = names.split_whitespace().map(str::to_owned).collect();
        Ok((names, text))
    }

    /// When a note was written, by this machine's clock.
    ///
    /// # Errors
    /// What the system says.
    pub fn written(&self, name: &str) -> Result<SystemTime> {
        fs::symlink_metadata(self.path.join(name))?.modified()
    }

    /// Memory of the room, as its process left it.
    ///
    /// # Errors
    /// `InvalidInput` if no memory is called that; what the system says.
    #[expect(unsafe_code, reason = "a file is mapped")]
    pub fn memory(&self, name: &str) -> Result<AbandonedMemory> {
        if !is_memory(name) {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                "memory has no such name",
            ));
        }
        let file = File::open(self.path.join(name))?;
        // SAFETY: the process that could write to it is gone (this one has its lock), nothing of ours makes it shorter, and the directory is this user's alone. A
        // forked child of the dead process has the mapping, too, but nothing that writes to it: the threads that did were not forked.
        let map = unsafe { Mmap::map(&file)? };
        Ok(AbandonedMemory(map))
    }

    /// Takes a note away.
    ///
    /// # Errors
    /// What the system says.
    pub fn remove_note(&self, name: &str) -> Result<()> {
        fs::remove_file(self.path.join(name))
    }

    /// Takes away what no note is about, notes that were written before `before`, and the room if nothing is left. What is mapped stays so until it is dropped.
    ///
    /// # Errors
    /// What the system says.
    pub fn tidy(&self, before: SystemTime) -> Result<()> {
        let mut wanted = BTreeSet::new();
        for note in self.notes()? {
            if self.written(&note)? < before {
                self.remove_note(&note)?;
            } else {
                wanted.extend(self.read(&note)?.0);
            }
        }
        if self.notes()?.is_empty() {
            return fs::remove_dir_all(&self.path);
        }
        for entry in fs::read_dir(&self.path)? {
            let name = entry?.file_name().into_string().unwrap_or_default();
            if is_memory(&name) && !wanted.contains(&name) {
                fs::remove_file(self.path.join(name))?;
            }
        }
        Ok(())
    }
}

/// Memory of a process that is gone.
#[derive(Debug)]
pub struct AbandonedMemory(Mmap);

impl AsRef<[u8]> for AbandonedMemory {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}
