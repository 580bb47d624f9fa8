//! Memory for staging: with a name that outlives the process where the system has room for that, else of the process alone.
//!
//! Either begins at a page, so that writers may hand it to the disk without the page cache between, and the kernel is asked for huge pages, which it has for
//! private memory at least: a first save faults in 512 times fewer of them.

use std::ops::{Deref, DerefMut};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use memmap2::MmapMut;
use runtree_shm::{Room, SharedMemory};

/// Memory of a segment.
#[derive(Debug)]
pub(crate) enum Memory {
    /// Ends with the process.
    Private(MmapMut),
    /// May outlive it.
    Shared(SharedMemory),
}

impl Memory {
    /// What the next process finds it by: a name means something in its room alone.
    pub(crate) fn name(&self) -> Option<(&Arc<Room>, &str)> {
        match self {
            Self::Private(_) => None,
            Self::Shared(memory) => Some((memory.room(), memory.name())),
        }
    }
}

impl Deref for Memory {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Private(memory) => memory,
            Self::Shared(memory) => memory,
        }
    }
}

impl DerefMut for Memory {
    fn deref_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Private(memory) => memory,
            Self::Shared(memory) => memory,
        }
    }
}

/// Where memory comes from.
#[derive(Debug, Default)]
pub(crate) struct Supply {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Where memory with a name is to be had, and not in vain so far.
    place: Option<StagingPlace>,
    room: Option<Arc<Room>>,
}

/// Where memory outlives the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StagingPlace {
    /// A directory of a file system in memory.
    pub(crate) base: PathBuf,
    /// The shelf of the store.
    pub(crate) shelf: String,
}

impl Supply {
    /// Takes memory from another place from now on, as far as that has room. Memory that there is stays where it is.
    pub(crate) fn set_place(&self, place: Option<StagingPlace>) {
        let mut state = self.lock();
        if state.place != place {
            *state = State { place, room: None };
        }
    }

    /// `bytes` bytes that nobody used before, if the system has them.
    pub(crate) fn memory(&self, bytes: usize) -> Option<Memory> {
        let shared = self.open_room().and_then(|room| room.memory(bytes).ok());
        shared.map(Memory::Shared).or_else(|| {
            let memory = MmapMut::map_anon(bytes).ok()?;
            // Advice: where it is not taken, the first save takes longer.
            #[cfg(target_os = "linux")]
            let _ = memory.advise(memmap2::Advice::HugePage);
            Some(Memory::Private(memory))
        })
    }

    fn open_room(&self) -> Option<Arc<Room>> {
        let mut state = self.lock();
        if state.room.is_none() {
            let place = state.place.as_ref()?;
            match Room::create(&place.base, &place.shelf) {
                Ok(room) => state.room = Some(room),
                // Another system, or a directory of somebody else: it will not become better.
                Err(_) => state.place = None,
            }
        }
        state.room.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
