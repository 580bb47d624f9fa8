//! Small values that belong to a project (saved views, the heads of its experiments) or to the store (what it keeps of whose checkpoints).
//!
//! Each is an immutable object of its own, named by (Lamport count, writer); per key the largest name counts. So stores merge by
//! copying what is missing, two people who set one key at once both succeed, and everybody agrees on whose word stands.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use runtree_core::manifest::SettingRecord;
use runtree_core::{Error, Result, WriterId};

use crate::layout::{self, SettingScope};
use crate::random::system_random;
use crate::store::{Created, Store};

/// Counts that are tried: each loss would be a writer id drawn twice.
const TRIES: u64 = 3;

/// Records that were read already: they never change.
#[derive(Debug, Default)]
pub struct SettingsCache(Mutex<BTreeMap<(SettingScope, String), SettingRecord>>);

impl Store {
    /// What is set, by key; keys that were taken away are left out.
    ///
    /// # Errors
    /// As [`Store::read_record`]; a name that is none of ours is ignored.
    pub fn settings(
        &self,
        scope: &SettingScope,
        cache: &SettingsCache,
    ) -> Result<BTreeMap<String, SettingRecord>> {
        let mut newest: BTreeMap<String, ((u64, WriterId), SettingRecord)> = BTreeMap::new();
        for (listed, directory) in self.names(&layout::settings(scope))? {
            let Some(order) = layout::parse_setting(&listed).filter(|_| !directory) else {
                continue;
            };
            let record = self.setting(scope, listed, order, cache)?;
            match newest.get(&record.key) {
                Some((other, _)) if *other > order => {}
                _ => {
                    newest.insert(record.key.clone(), (order, record));
                }
            }
        }
        let set = newest.into_iter().map(|(key, (_, record))| (key, record));
        Ok(set.filter(|(_, record)| record.value.is_some()).collect())
    }

    fn setting(
        &self,
        scope: &SettingScope,
        listed: String,
        (lamport, writer): (u64, WriterId),
        cache: &SettingsCache,
    ) -> Result<SettingRecord> {
        let key = (scope.clone(), listed);
        let lock = || cache.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(record) = lock().get(&key) {
            return Ok(record.clone());
        }
        let record: SettingRecord = self.read_record(&layout::setting(scope, lamport, writer))?;
        lock().insert(key, record.clone());
        Ok(record)
    }

    /// Names of all settings there are, those that a later word took the place of included.
    ///
    /// # Errors
    /// As the store says.
    pub fn list_settings(&self, scope: &SettingScope) -> Result<Vec<(u64, WriterId)>> {
        self.parsed(&layout::settings(scope), false, layout::parse_setting)
    }

    /// Sets a value, or takes it away. Durable when it returns.
    ///
    /// # Errors
    /// As [`Store::create_bytes`].
    pub fn write_setting(&self, scope: &SettingScope, record: &SettingRecord) -> Result<()> {
        for _ in 0..TRIES {
            let highest = self
                .names(&layout::settings(scope))?
                .iter()
                .filter_map(|(name, _)| layout::parse_setting(name))
                .map(|(lamport, _)| lamport)
                .max()
                .unwrap_or(0);
            let lamport = highest.checked_add(1).ok_or_else(|| {
                Error::corrupt(format!(
                    "{} is numbered to the end",
                    layout::settings(scope)
                ))
            })?;
            let path = layout::setting(scope, lamport, WriterId::from_bits(system_random()));
            match self.create_record(&path, record)? {
                Created::Created | Created::ExistsEqual => return Ok(()),
                Created::ExistsOther(_) => {}
            }
        }
        Err(Error::conflict(format!(
            "{} is written to by others at the same moment",
            layout::settings(scope)
        ))
        .with_hint("try again"))
    }
}
