//! A checkpoint as one tar stream, in bounded memory whatever its size.
//!
//! The engine lays the checkpoint out in its cache (verified, made once); a blocking thread packs that directory into a short
//! queue of buffers that the connection drains. A client that goes away ends the thread at its next buffer. An error on the way
//! breaks the connection: a cut tar must never look whole.

use std::io::{self, Write};
use std::path::PathBuf;

use axum::body::Body;
use bytes::Bytes;
use futures::stream;
use tokio::sync::mpsc;

/// Bytes per buffer, and buffers on the way: 2 MiB per download.
const BUFFER_BYTES: usize = 256 << 10;
const BUFFERS: usize = 8;

/// Packs `directory` as `root/…`.
pub(crate) fn tar(directory: PathBuf, root: String) -> Body {
    let (sender, receiver) = mpsc::channel::<io::Result<Bytes>>(BUFFERS);
    tokio::task::spawn_blocking(move || {
        if let Err(error) = pack(&directory, &root, Queue::new(&sender)) {
            // Nobody is there to hear it if the client went away.
            let _ = sender.blocking_send(Err(error));
        }
    });
    Body::from_stream(stream::unfold(receiver, |mut receiver| async {
        receiver.recv().await.map(|item| (item, receiver))
    }))
}

fn pack(directory: &std::path::Path, root: &str, queue: Queue<'_>) -> io::Result<()> {
    let mut builder = tar::Builder::new(queue);
    builder.mode(tar::HeaderMode::Deterministic);
    builder.follow_symlinks(false);
    builder.append_dir_all(root, directory)?;
    builder.into_inner()?.flush()
}

/// A writer whose buffers go to the connection.
struct Queue<'a> {
    sender: &'a mpsc::Sender<io::Result<Bytes>>,
    buffer: Vec<u8>,
}

impl<'a> Queue<'a> {
    fn new(sender: &'a mpsc::Sender<io::Result<Bytes>>) -> Self {
        Self {
            sender,
            buffer: Vec::with_capacity(BUFFER_BYTES),
        }
    }
}

impl Write for Queue<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(BUFFER_BYTES - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..taken]);
        if self.buffer.len() == BUFFER_BYTES {
            self.flush()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let full = std::mem::replace(&mut self.buffer, Vec::with_capacity(BUFFER_BYTES));
        self.sender
            .blocking_send(Ok(full.into()))
            .map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))
    }
}
