//! Whether directories were touched, asked of the file system instead of their contents.
//!
//! Every entry that is added to or removed from a directory sets its change time, in the transaction that adds or removes it. So two
//! equal looks at a directory mean that nothing happened to it between them, if a later change can not have got the same time. That is
//! excluded by waiting: file systems stamp with a clock that stands still for up to a few milliseconds (old ext3: a second), so a look
//! counts only if the change time was already [`SETTLED_NANOS`] old when it was taken. A clock that was set back makes change times lie in the
//! future, which counts as too young. The change time and not the modification time, because `rsync -t` and `cp -a` set the latter.
//!
//! That holds where one kernel does all the writing. A network file system answers from a cache, and by another host's clock: there,
//! and where the kind is not known, no look counts.

use std::fs::{File, Metadata};
use std::path::Path as FsPath;

use object_store::path::Path;

use super::LocalStore;

/// How old a change time must be to be told apart from one that is yet to come.
const SETTLED_NANOS: i128 = 2_000_000_000;

/// What a directory or a file looked like: all zeros if it is not there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) inode: u64,
    /// Nanoseconds.
    pub(crate) changed: i64,
    pub(crate) len: u64,
}

impl Mark {
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self {
            inode: identity(metadata).1,
            changed: i64::try_from(change_time(metadata)).unwrap_or(i64::MAX),
            len: metadata.len(),
        }
    }

    pub(crate) fn write(self, into: &mut Vec<u8>) {
        into.extend(self.inode.to_le_bytes());
        into.extend(self.changed.to_le_bytes());
        into.extend(self.len.to_le_bytes());
    }

    pub(crate) fn read(from: &mut &[u8]) -> Option<Self> {
        Some(Self {
            inode: u64::from_le_bytes(*take(from)?),
            changed: i64::from_le_bytes(*take(from)?),
            len: u64::from_le_bytes(*take(from)?),
        })
    }
}

/// The next bytes.
pub(crate) fn take<'b, const N: usize>(from: &mut &'b [u8]) -> Option<&'b [u8; N]> {
    let (taken, rest) = from.split_first_chunk()?;
    *from = rest;
    Some(taken)
}

/// The entries of one directory, each asked about by its name alone: a path would be walked from the root of the file system.
pub(crate) struct Entries(File);

impl Entries {
    pub(super) fn of(directory: &FsPath) -> Option<Self> {
        File::open(directory).ok().map(Self)
    }

    /// What an entry looks like now.
    pub(crate) fn mark(&self, name: &str) -> Mark {
        let found = rustix::fs::statat(&self.0, name, rustix::fs::AtFlags::empty());
        found.map_or_else(
            |_| Mark::default(),
            |found| Mark {
                inode: found.st_ino,
                changed: found.st_ctime * 1_000_000_000 + found.st_ctime_nsec as i64,
                len: found.st_size as u64,
            },
        )
    }
}

/// Sets a file's times to now; false if there is none.
pub(super) fn touch(file: &FsPath) -> bool {
    use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW, utimensat};
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: UTIME_NOW,
    };
    let times = Timestamps {
        last_access: now,
        last_modification: now,
    };
    utimensat(CWD, file, &times, AtFlags::empty()).is_ok()
}

/// Looks at directories and files, gathered into one digest.
pub(crate) struct Look<'a> {
    store: &'a LocalStore,
    device: u64,
    now: i128,
    hasher: blake3::Hasher,
    settled: bool,
}

impl LocalStore {
    /// What the files of a directory look like, by name; `None` for one that changed too lately to be told apart from a later change, or altogether where
    /// change times say nothing.
    pub(crate) fn settled_marks(
        &self,
        directory: &Path,
        names: impl Iterator<Item = String>,
    ) -> Option<Vec<Option<Mark>>> {
        self.inner.stamping_device()?;
        let now = clock();
        let entries = self.entries(directory);
        let mark = |name: String| {
            let mark = entries
                .as_ref()
                .map_or_else(Mark::default, |it| it.mark(&name));
            (i128::from(mark.changed) + SETTLED_NANOS <= now).then_some(mark)
        };
        Some(names.map(mark).collect())
    }

    /// Begins a look at what lies below the root, on its device; `None` where change times say nothing.
    ///
    /// The clock is read here: begin before anything is listed that the look is to vouch for.
    pub(crate) fn look(&self) -> Option<Look<'_>> {
        let device = self.inner.stamping_device()?;
        Some(Look {
            store: self,
            device,
            now: clock(),
            hasher: blake3::Hasher::new(),
            settled: true,
        })
    }
}

impl Look<'_> {
    /// Adds a directory, or that it is not there.
    pub(crate) fn directory(&mut self, directory: &Path) -> Mark {
        match std::fs::metadata(self.store.root().join(directory.as_ref())) {
            Ok(metadata) => {
                // Mounted from elsewhere: nobody asked what that file system does.
                let local = identity(&metadata).0 == self.device && metadata.is_dir();
                self.settled &= local && change_time(&metadata) + SETTLED_NANOS <= self.now;
                self.add(Mark::of(&metadata))
            }
            Err(error) => self.absent(&error),
        }
    }

    /// Adds a file that is only ever appended to: its length, and when it changed last, because one that was touched without becoming longer was hurt.
    pub(crate) fn file(&mut self, file: &Path) -> Mark {
        match std::fs::metadata(self.store.root().join(file.as_ref())) {
            Ok(metadata) => self.add(Mark::of(&metadata)),
            Err(error) => self.absent(&error),
        }
    }

    fn add(&mut self, mark: Mark) -> Mark {
        self.hasher.update(&mark.inode.to_le_bytes());
        self.hasher.update(&mark.changed.to_le_bytes());
        self.hasher.update(&mark.len.to_le_bytes());
        mark
    }

    fn absent(&mut self, error: &std::io::Error) -> Mark {
        self.settled &= error.kind() == std::io::ErrorKind::NotFound;
        self.hasher.update(b"absent");
        Mark::default()
    }

    /// What was seen; `None` if a change may yet get the same change time as what was seen.
    pub(crate) fn finish(self) -> Option<[u8; 16]> {
        let digest = *self.hasher.finalize().as_bytes();
        self.settled
            .then(|| std::array::from_fn(|index| digest[index]))
    }
}

#[cfg(unix)]
fn identity(metadata: &Metadata) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt as _;
    (metadata.dev(), metadata.ino())
}

#[cfg(unix)]
fn change_time(metadata: &Metadata) -> i128 {
    use std::os::unix::fs::MetadataExt as _;
    i128::from(metadata.ctime()) * 1_000_000_000 + i128::from(metadata.ctime_nsec())
}

#[cfg(not(unix))]
fn identity(_: &Metadata) -> (u64, u64) {
    (0, 0)
}

#[cfg(not(unix))]
fn change_time(_: &Metadata) -> i128 {
    i128::MAX / 2
}

/// The clock that the kernel stamps files with: not the engine's, which tests set.
#[cfg(unix)]
fn clock() -> i128 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    i128::from(now.tv_sec) * 1_000_000_000 + i128::from(now.tv_nsec)
}

#[cfg(not(unix))]
fn clock() -> i128 {
    0
}

/// The device of `directory`, if one kernel writes there and stamps every change.
#[cfg(target_os = "linux")]
pub(super) fn stamping_device(directory: &FsPath) -> Option<u64> {
    // statfs(2): ext2 to ext4, XFS, btrfs, tmpfs, overlayfs, F2FS, ZFS, bcachefs.
    const KINDS: [u32; 8] = [
        0x0000_EF53,
        0x5846_5342,
        0x9123_683E,
        0x0102_1994,
        0x794C_7630,
        0xF2F5_2010,
        0x2FC1_2FC1,
        0xCA45_1A4E,
    ];
    let kind = rustix::fs::statfs(directory).ok()?.f_type as u32;
    let metadata = std::fs::metadata(directory).ok()?;
    KINDS.contains(&kind).then(|| identity(&metadata).0)
}

#[cfg(not(target_os = "linux"))]
pub(super) fn stamping_device(_: &FsPath) -> Option<u64> {
    None
}
