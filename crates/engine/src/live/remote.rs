//! The remote of a live run.

use std::time::{Duration, Instant};

use runtree_core::{Error, Result, SaveKey};

use super::{RunWriter, WarningKind};
use crate::ship::{RemoteReport, RemoteSpec, Shipper};

impl RunWriter {
    /// Pushes this run to another store from now on, in the background; see [`crate::RemoteSpec`]. On several ranks rank 0 does it for all.
    ///
    /// # Errors
    /// `Invalid` if it has a remote already, or the address can not be meant; `Unavailable` if no thread can be started. That the remote can not be reached is none.
    pub fn ship_to(&self, spec: RemoteSpec) -> Result<()> {
        crate::engine::address_of(&spec.location)?;
        if self.rank() != 0 {
            return Ok(());
        }
        let shared = std::sync::Arc::downgrade(&self.shared);
        let report = move |text: String| {
            if let Some(shared) = shared.upgrade() {
                shared.warn(WarningKind::Remote, text);
            }
        };
        let shipper = Shipper::begin(&self.engine, self.run(), spec, report)?;
        self.shipper
            .set(shipper)
            .map_err(|_| Error::invalid("the run is pushed to a remote already"))
    }

    /// Waits until a checkpoint that is durable here is at the remote.
    ///
    /// # Errors
    /// `Unavailable` if it is not before `timeout` has passed; `Invalid` if this process pushes nowhere.
    pub fn wait_remote(&self, key: SaveKey, timeout: Option<Duration>) -> Result<()> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let shipper = self.shipper.get().ok_or_else(|| {
            Error::invalid("this process pushes to no remote")
                .with_hint("runtree.init(remote=\"s3://bucket/prefix\"); on several ranks rank 0 pushes, and knows")
        })?;
        shipper.wait_for(key, deadline)
    }

    /// How far the remote is behind, if there is one.
    pub fn remote(&self) -> Option<RemoteReport> {
        self.shipper.get().map(Shipper::report)
    }

    /// Pushes what is left, and says what could not be.
    pub(super) fn finish_remote(&self, deadline: Option<Instant>) -> Option<RemoteReport> {
        let report = self.shipper.get()?.finish(deadline);
        if !report.complete {
            let what = match report.behind.as_slice() {
                [] => "the end of its metrics is".to_owned(),
                [step] => format!("the checkpoint at step {step} is"),
                [first, .., last] => format!(
                    "{} checkpoints from step {first} to {last} are",
                    report.behind.len()
                ),
            };
            let why = report.error.as_deref().unwrap_or("there was no time left");
            self.warn(
                WarningKind::Unpushed,
                format!(
                    "{what} not at {}: {why}; all of it is here in {}, and runtree push {} --to {} sends it",
                    report.location,
                    self.engine.store.objects(),
                    self.display_id(),
                    report.location,
                ),
            );
        }
        Some(report)
    }
}
