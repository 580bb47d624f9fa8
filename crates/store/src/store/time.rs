//! The store's own clock: the stamps that it puts on objects. Ages are differences of two of them, so no host's clock lets anything lapse.

use bytes::Bytes;
use runtree_core::{Error, Result, Timestamp};

use super::Store;
use crate::layout::ObjectPath;

impl Store {
    /// When the store stamped an object last; `None` if it is not there.
    ///
    /// # Errors
    /// As the store says.
    pub fn stamp(&self, path: &ObjectPath) -> Result<Option<Timestamp>> {
        let meta = self.head(path)?;
        Ok(meta.map(|meta| Timestamp(meta.last_modified.timestamp_micros())))
    }

    /// What the store would stamp an object with now: asked of an object that is written for it and removed again.
    ///
    /// # Errors
    /// `Denied` if the store is open for reading only; else as the store says.
    pub fn time(&self) -> Result<Timestamp> {
        let path = ObjectPath::parse(format!("probe-{:016x}", self.random_bits()))
            .map_err(|error| Error::internal("a probe is no path").with_source(error))?;
        self.create_bytes(&path, Bytes::new())?
            .or_conflict(|| format!("{path} is there already"))?;
        let stamp = self.stamp(&path);
        self.delete(&path)?;
        stamp?.ok_or_else(|| Error::unavailable(format!("{path} was removed by somebody else")))
    }
}
