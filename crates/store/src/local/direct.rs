//! Large objects around the page cache.
//!
//! A chunk is written once and read, if ever, by a later process. Through the page cache it would be copied there, push out what the training reads,
//! and reach the disk no sooner: a put waits for the disk anyway. So what lies in memory as the disk wants it, from a page on, is given to the
//! disk as it is. Everything else, and every file system that refuses, takes the usual way; the sync that follows covers both.

use std::fs::File;
use std::io;

/// Below this size the page cache costs less than waiting for the disk.
const LEAST_BYTES: usize = 1 << 20;
/// What memory, offset and length must be multiples of: no disk has larger sectors that it shows.
const PAGE_BYTES: usize = 4096;

/// Writes as much of `data` to the beginning of an empty file as can go directly: whole pages, or nothing. Returns how much; the file's position is
/// behind it.
///
/// # Errors
/// As the disk says; a file system that does not know direct writes is no error.
#[cfg(target_os = "linux")]
pub(super) fn write(mut file: &File, data: &[u8]) -> io::Result<usize> {
    use std::io::Write as _;

    use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

    if data.len() < LEAST_BYTES || !data.as_ptr().addr().is_multiple_of(PAGE_BYTES) {
        return Ok(0);
    }
    let flags = fcntl_getfl(file)?;
    if fcntl_setfl(file, flags | OFlags::DIRECT).is_err() {
        return Ok(0);
    }
    let whole = data.len() - data.len() % PAGE_BYTES;
    let mut written = 0;
    let result = loop {
        // A short write that is no multiple of a page can not be gone on with directly.
        if written == whole || written % PAGE_BYTES != 0 {
            break Ok(written);
        }
        match file.write(&data[written..whole]) {
            Ok(0) => break Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => written += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // It takes the flag and not the write: stacked file systems do that.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => break Ok(written),
            Err(error) => break Err(error),
        }
    };
    fcntl_setfl(file, flags)?;
    result
}

/// Writes nothing: direct writes are Linux's.
#[cfg(not(target_os = "linux"))]
pub(super) fn write(_file: &File, _data: &[u8]) -> io::Result<usize> {
    Ok(0)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn whole_pages_go_directly_and_the_rest_follows_them() {
        let memory: Vec<u8> = (0..(3_usize << 20)).map(|i| (i % 251) as u8).collect();
        let start = memory.as_ptr().align_offset(PAGE_BYTES);
        // Beside this crate and not in the temporary directory, which may be in memory.
        let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        for length in [LEAST_BYTES, LEAST_BYTES + 1, (2 << 20) - 1, 5] {
            let path = dir.path().join(length.to_string());
            let mut file = File::create_new(&path).unwrap();
            let data = &memory[start..start + length];
            let direct = write(&file, data).unwrap();
            assert!(direct == 0 || direct == length - length % PAGE_BYTES);
            assert!(length > PAGE_BYTES || direct == 0, "a small one never");
            file.write_all(&data[direct..]).unwrap();
            file.sync_all().unwrap();
            assert!(std::fs::read(&path).unwrap() == data);
        }
    }

    #[test]
    fn memory_that_does_not_begin_at_a_page_takes_the_usual_way() {
        let memory = vec![7; 3 << 20];
        let start = memory.as_ptr().align_offset(PAGE_BYTES) + 16;
        let file = tempfile::tempfile().unwrap();
        assert_eq!(write(&file, &memory[start..start + (2 << 20)]).unwrap(), 0);
        assert_eq!(file.metadata().unwrap().len(), 0);
    }
}
