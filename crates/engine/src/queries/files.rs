//! What a run printed and attached.

use runtree_core::{AttemptNumber, Error, Result, RunId, wire};
use runtree_index::{ConsoleFilter, ConsoleQuery};

use super::legible;
use crate::engine::Engine;

/// Longest page of a console.
const MAX_LINES: usize = 100_000;

impl Engine {
    /// Lines of a run's console that a filter wants, oldest first.
    ///
    /// # Errors
    /// `Invalid` if the cursor is none of this console.
    pub fn console(
        &self,
        run: RunId,
        cursor: Option<&str>,
        limit: usize,
        filter: ConsoleFilter,
    ) -> Result<wire::ConsolePage> {
        self.refresh_for(run)?;
        let slice = self.snapshot()?.console(&ConsoleQuery {
            run,
            cursor: cursor.map(str::to_owned),
            limit: limit.clamp(1, MAX_LINES) as u32,
            filter,
        })?;
        let lines = slice.lines.into_iter().map(|line| wire::ConsoleLine {
            attempt: line.attempt.unwrap_or(AttemptNumber::FIRST),
            stream: line.stream,
            at: line.at,
            rank: line.rank,
            level: line.level,
            text: line.text,
        });
        Ok(wire::ConsolePage {
            lines: lines.collect(),
            next_cursor: slice.next_cursor,
        })
    }

    /// The bytes of an attached file, verified.
    ///
    /// # Errors
    /// `NotFound` that lists the files there are; `Corrupt` if its bytes are damaged.
    pub fn read_file(&self, run: RunId, name: &str) -> Result<Vec<u8>> {
        self.refresh_for(run)?;
        let files = self.snapshot()?.files(run)?;
        let Some(file) = files.iter().find(|file| file.name == name) else {
            let names: Vec<_> = files.iter().map(|file| legible(&file.name)).collect();
            let error = Error::not_found(format!("run {run} has no file {name:?}"));
            return Err(if names.is_empty() {
                error
            } else {
                error.with_hint(format!("it has {}", names.join(", ")))
            });
        };
        let mut bytes = Vec::new();
        for chunk in &file.chunks {
            let chunk = self
                .store
                .read_chunk(chunk)
                .map_err(|error| error.in_context(format!("file {name:?} of run {run}")))?;
            bytes.extend_from_slice(&chunk);
        }
        if bytes.len() as u64 != file.bytes {
            return Err(Error::corrupt(format!(
                "file {name:?} of run {run} has {} bytes, {} were written",
                bytes.len(),
                file.bytes
            )));
        }
        Ok(bytes)
    }
}
