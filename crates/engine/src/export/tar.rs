//! A tar archive as one stream (POSIX pax, as `tar` and Python's `tarfile` read it), for downloads: no temporary file, sizes known before.
//!
//! Paths longer than 100 bytes, links longer than 100 bytes and files of 8 GiB and more get a pax header of their own; everything else fits the old one.

use std::io::{Result, Write};

const BLOCK: usize = 512;

/// Writes members one after another; [`Archive::finish`] ends the archive.
#[derive(Debug)]
pub(crate) struct Archive<W> {
    out: W,
}

/// What a member is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Member<'a> {
    /// A file of so many bytes, which follow.
    File(u64),
    /// An empty directory.
    Directory,
    /// A symbolic link to there.
    Symlink(&'a str),
}

impl<W: Write> Archive<W> {
    /// Starts an archive.
    pub(crate) fn new(out: W) -> Self {
        Self { out }
    }

    /// Writes a member's header; a file's bytes follow through [`Archive::data`], then [`Archive::pad`].
    pub(crate) fn member(&mut self, path: &str, mode: u32, member: Member<'_>) -> Result<()> {
        let (kind, size, link) = match member {
            Member::File(bytes) => (b'0', bytes, ""),
            Member::Directory => (b'5', 0, ""),
            Member::Symlink(target) => (b'2', 0, target),
        };
        let mut records = String::new();
        if path.len() > 100 || !path.is_ascii() {
            records += &pax_record("path", path);
        }
        if link.len() > 100 || !link.is_ascii() {
            records += &pax_record("linkpath", link);
        }
        if size >= 1 << 33 {
            records += &pax_record("size", &size.to_string());
        }
        if !records.is_empty() {
            let header = header("pax", 0o644, b'x', records.len() as u64, "");
            self.out.write_all(&header)?;
            self.out.write_all(records.as_bytes())?;
            self.pad(records.len() as u64)?;
        }
        self.out.write_all(&header(path, mode, kind, size, link))
    }

    /// Where a file's bytes go.
    pub(crate) fn data(&mut self) -> &mut W {
        &mut self.out
    }

    /// Fills the last block of a file of `bytes` bytes.
    pub(crate) fn pad(&mut self, bytes: u64) -> Result<()> {
        let rest = (bytes % BLOCK as u64) as usize;
        if rest > 0 {
            self.out.write_all(&[0; BLOCK][rest..])?;
        }
        Ok(())
    }

    /// Ends the archive.
    pub(crate) fn finish(mut self) -> Result<()> {
        self.out.write_all(&[0; 2 * BLOCK])?;
        self.out.flush()
    }
}

/// `<length> <key>=<value>\n`, where the length counts itself.
fn pax_record(key: &str, value: &str) -> String {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while rest + length.to_string().len() != length {
        length = rest + length.to_string().len();
    }
    format!("{length} {key}={value}\n")
}

fn header(path: &str, mode: u32, kind: u8, size: u64, link: &str) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let mut put = |at: usize, room: usize, bytes: &[u8]| {
        let count = bytes.len().min(room);
        block[at..at + count].copy_from_slice(&bytes[..count]);
    };
    put(0, 100, path.as_bytes());
    put(100, 8, format!("{:07o}\0", mode & 0o7777).as_bytes());
    put(108, 8, b"0000000\0");
    put(116, 8, b"0000000\0");
    // A larger size stands in the pax header, which wins.
    put(
        124,
        12,
        format!("{:011o}\0", if size < 1 << 33 { size } else { 0 }).as_bytes(),
    );
    put(136, 12, b"00000000000\0");
    put(148, 8, b"        ");
    put(156, 1, &[kind]);
    put(157, 100, link.as_bytes());
    put(257, 8, b"ustar\x0000");
    let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tar_of_the_system_reads_it() {
        let dir = tempfile::tempdir().unwrap();
        let long = format!("{}/file", "d".repeat(120));
        let mut archive = Archive::new(Vec::new());
        archive.member("a.bin", 0o750, Member::File(5)).unwrap();
        archive.data().write_all(b"hello").unwrap();
        archive.pad(5).unwrap();
        archive.member(&long, 0o644, Member::File(0)).unwrap();
        archive.member("empty", 0o755, Member::Directory).unwrap();
        archive
            .member("link", 0o777, Member::Symlink("a.bin"))
            .unwrap();
        let mut bytes = Vec::new();
        std::mem::swap(&mut bytes, archive.data());
        bytes.extend_from_slice(&[0; 1024]);
        let path = dir.path().join("x.tar");
        std::fs::write(&path, bytes).unwrap();
        let status = std::process::Command::new("tar")
            .arg("xf")
            .arg(&path)
            .current_dir(&dir)
            .status()
            .unwrap();
        assert!(status.success());
        assert_eq!(std::fs::read(dir.path().join("link")).unwrap(), b"hello");
        assert_eq!(std::fs::read(dir.path().join(long)).unwrap(), b"");
        assert!(dir.path().join("empty").is_dir());
    }

    #[test]
    fn pax_lengths_count_themselves() {
        for length in 80..120 {
            let record = pax_record("path", &"x".repeat(length));
            let (count, _) = record.split_once(' ').unwrap();
            assert_eq!(count.parse::<usize>().unwrap(), record.len());
        }
    }
}
