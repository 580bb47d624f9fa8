//! A living process's room.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{Error, ErrorKind, Result};
use std::ops::{Deref, DerefMut};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use memmap2::{MmapMut, MmapOptions};

use crate::home::shelf;
use crate::turn::{open, try_lock};

/// Names a process tries.
const MAX_ROOMS: u32 = 10_000;

/// The rooms of this process. Paths of rooms stay when they are gone: names are not used twice by one process.
static OWN: Mutex<Own> = Mutex::new(Own {
    paths: BTreeSet::new(),
    rooms: Vec::new(),
});

struct Own {
    paths: BTreeSet<PathBuf>,
    rooms: Vec<Weak<Room>>,
}

fn own() -> MutexGuard<'static, Own> {
    OWN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether a room belongs to this process, or to the one that it was forked from.
pub(crate) fn is_own(path: &Path) -> bool {
    own().paths.contains(path)
}

/// Takes the names of all rooms of this process away, but of those with notes: they are left to the next one. For the end of a process, which may come without
/// destructors.
pub fn leave_all() {
    let rooms: Vec<Arc<Room>> = own().rooms.iter().filter_map(Weak::upgrade).collect();
    for room in rooms {
        room.leave();
    }
}

/// A process's own directory of memory.
#[derive(Debug)]
pub struct Room {
    path: PathBuf,
    process: u32,
    next: AtomicU64,
    /// Locked as long as it is open.
    _owner: File,
}

impl Room {
    /// A room on a shelf below `base`, a directory of a file system in memory.
    ///
    /// # Errors
    /// `Unsupported` where `base` is no file system in memory, `PermissionDenied` if somebody else owns the user's directory there; what the system says.
    pub fn create(base: &Path, on: &str) -> Result<Arc<Self>> {
        let shelf = shelf(base, on)?;
        let process = std::process::id();
        let draft = first_free(|number| {
            let draft = shelf.join(format!(".new-{process}-{number}"));
            let made = fs::DirBuilder::new().mode(0o700).create(&draft);
            made.map(|()| draft)
        })?;
        let owner = open(&draft.join("owner"))?;
        if !try_lock(&owner)? {
            return Err(ErrorKind::WouldBlock.into());
        }
        let path = first_free(|number| {
            let path = shelf.join(format!("{process}-{number}"));
            // Registered before it can be found: a thread of this process may be sweeping.
            if !own().paths.insert(path.clone()) {
                return Err(ErrorKind::AlreadyExists.into());
            }
            // A directory that is there is replaced if it is empty, which no room is. One that is there is of a dead process with this one's number (the first of a
            // container always has the same): it is none of ours.
            fs::rename(&draft, &path).map_err(|error| {
                own().paths.remove(&path);
                match error.kind() {
                    ErrorKind::DirectoryNotEmpty => ErrorKind::AlreadyExists.into(),
                    _ => error,
                }
            })?;
            Ok(path)
        })?;
        let room = Arc::new(Self {
            path,
            process,
            next: AtomicU64::new(0),
            _owner: owner,
        });
        let mut own = own();
        own.rooms.retain(|room| room.strong_count() > 0);
        own.rooms.push(Arc::downgrade(&room));
        Ok(room)
    }

    /// Zeroed memory of `bytes` bytes, if half of the file system stays free beside it.
    ///
    /// # Errors
    /// `StorageFull` if it would not; what the system says.
    pub fn memory(self: &Arc<Self>, bytes: usize) -> Result<SharedMemory> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = self.path.join(format!("m{number}"));
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?;
        map(&file, bytes)
            .map(|map| SharedMemory {
                map,
                path: path.clone(),
                room: Arc::clone(self),
            })
            .inspect_err(|_| drop(fs::remove_file(&path)))
    }

    /// Leaves a note about some of the room's memory, in place of an older one of the name. What no note is about goes when the process is dead.
    ///
    /// # Errors
    /// What the system says; then there is no note of the name, or the old one.
    pub fn write_note(&self, name: &str, memory: &[String], text: &[u8]) -> Result<()> {
        let draft = self.path.join(format!(".{name}"));
        let mut bytes = memory.join(" ").into_bytes();
        bytes.push(b'\n');
        bytes.extend_from_slice(text);
        fs::write(&draft, bytes)
            .and_then(|()| fs::rename(&draft, self.path.join(name)))
            .inspect_err(|_| drop(fs::remove_file(&draft)))
    }

    /// Takes a note away. Memory that it spoke of may be used again only afterwards.
    ///
    /// # Errors
    /// What the system says, if the note may still be there.
    pub fn remove_note(&self, name: &str) -> Result<()> {
        match fs::remove_file(self.path.join(name)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Takes the names away, unless there is a note. Memory that is mapped stays so; there will be no more of it.
    fn leave(&self) {
        if self.process == std::process::id()
            && notes(&self.path).is_ok_and(|notes| notes.is_empty())
        {
            // What is left of it the next sweep finds.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.leave();
    }
}

/// What `make` makes of the first number that is free.
fn first_free(make: impl Fn(u32) -> Result<PathBuf>) -> Result<PathBuf> {
    (0..MAX_ROOMS)
        .map(make)
        .find(|made| {
            !made
                .as_ref()
                .is_err_and(|error| error.kind() == ErrorKind::AlreadyExists)
        })
        .unwrap_or_else(|| Err(ErrorKind::AlreadyExists.into()))
}

/// The notes in a room.
pub(crate) fn notes(room: &Path) -> Result<Vec<String>> {
    let mut notes = Vec::new();
    for entry in fs::read_dir(room)? {
        let name = entry?.file_name().into_string().unwrap_or_default();
        if name != "owner" && !name.starts_with('.') && !is_memory(&name) {
            notes.push(name);
        }
    }
    notes.sort_unstable();
    Ok(notes)
}

/// Whether a name is that of memory.
pub(crate) fn is_memory(name: &str) -> bool {
    name.strip_prefix('m')
        .is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}

#[expect(unsafe_code, reason = "a file is mapped")]
fn map(file: &File, bytes: usize) -> Result<MmapMut> {
    leave_half(file, bytes as u64)?;
    reserve(file, bytes as u64)?;
    // SAFETY: the file was made by this process, is open here alone and has no other mapping; it lies in a directory that only this user may enter, where nothing
    // of ours writes to memory of a living process or makes it shorter. Its pages are reserved, so that no access finds the file system full.
    let map = unsafe { MmapOptions::new().len(bytes).map_mut(file)? };
    // Advice: where it is not taken, the first use takes longer.
    #[cfg(target_os = "linux")]
    let _ = map.advise(memmap2::Advice::HugePage);
    Ok(map)
}

/// Refuses what would leave less than half of the file system to others.
fn leave_half(file: &File, bytes: u64) -> Result<()> {
    let system = rustix::fs::fstatvfs(file)?;
    if system.f_bavail.saturating_mul(system.f_frsize)
        < (system.f_blocks.saturating_mul(system.f_frsize) / 2).saturating_add(bytes)
    {
        return Err(Error::new(
            ErrorKind::StorageFull,
            "half of the memory file system is left to others",
        ));
    }
    Ok(())
}

#[cfg(target_os = "linux")]
fn reserve(file: &File, bytes: u64) -> Result<()> {
    rustix::io::retry_on_intr(|| {
        rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, bytes)
    })
    .map_err(Error::from)
}

#[cfg(not(target_os = "linux"))]
fn reserve(_: &File, _: u64) -> Result<()> {
    Err(ErrorKind::Unsupported.into())
}

/// Memory with a name. The name goes when this is dropped; with the process, if that is killed, it stays.
#[derive(Debug)]
pub struct SharedMemory {
    map: MmapMut,
    path: PathBuf,
    room: Arc<Room>,
}

impl SharedMemory {
    /// The room that it lies in.
    pub fn room(&self) -> &Arc<Room> {
        &self.room
    }

    /// Its name in the room.
    pub fn name(&self) -> &str {
        self.path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default()
    }
}

impl Deref for SharedMemory {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.map
    }
}

impl DerefMut for SharedMemory {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.map
    }
}

impl Drop for SharedMemory {
    fn drop(&mut self) {
        if self.room.process == std::process::id() {
            let _ = fs::remove_file(&self.path);
        }
    }
}
