//! Pins → index: not bound to a run, and so beside its fold.

use std::collections::BTreeSet;

use runtree_core::{ErrorKind, Result};
use runtree_index::{FoldItem, Index as _, PinFacts};

use super::Scan;
use crate::engine::Engine;

impl Engine {
    /// Pins are few and not bound to a run's stamp: their names are listed each time, new ones are read.
    pub(super) fn fold_pins(&self, scan: &mut Scan) -> Result<()> {
        let listed = self.store.list_pins()?;
        if scan.pins.is_none() {
            let known = self.index.snapshot()?.pins()?;
            scan.pins = Some(known.into_iter().map(|pin| pin.name).collect());
        }
        let Some(known) = &mut scan.pins else {
            return Ok(());
        };
        let mut items = Vec::new();
        let mut now = BTreeSet::new();
        for name in &listed {
            let text = name.as_str().to_owned();
            if !known.contains(&text) {
                match self.store.read_pin(name) {
                    Ok(record) => items.push(FoldItem::Pin(PinFacts {
                        name: text.clone(),
                        record: Some(record),
                    })),
                    // One that can not be read keeps what it keeps, since collectors look at names; `verify` reports it.
                    Err(error)
                        if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Corrupt) =>
                    {
                        continue;
                    }
                    Err(error) => return Err(error),
                }
            }
            now.insert(text);
        }
        for gone in known.difference(&now) {
            items.push(FoldItem::Pin(PinFacts {
                name: gone.clone(),
                record: None,
            }));
        }
        if !items.is_empty() {
            self.index.apply(&items)?;
        }
        *known = now;
        Ok(())
    }
}
