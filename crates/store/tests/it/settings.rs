//! What a project remembers.

use object_store::ObjectStoreExt as _;
use proptest::prelude::*;
use runtree_core::manifest::SettingRecord;
use runtree_core::{ErrorKind, WriterId};
use runtree_store::layout::SettingScope;
use runtree_store::{SettingsCache, Store, layout};
use serde_json::{Value, json};

use crate::support::{NOW, in_memory, on_disk};

fn scope() -> SettingScope {
    SettingScope::Project("vision".parse().unwrap())
}

fn record(key: &str, value: Option<Value>) -> SettingRecord {
    SettingRecord {
        key: key.to_owned(),
        value,
        created: NOW,
    }
}

fn set(store: &Store, key: &str, value: Option<Value>) {
    store.write_setting(&scope(), &record(key, value)).unwrap();
}

fn all(store: &Store) -> Vec<(String, Value)> {
    let settings = store.settings(&scope(), &SettingsCache::default()).unwrap();
    let value = |(key, record): (String, SettingRecord)| (key, record.value.unwrap());
    settings.into_iter().map(value).collect()
}

#[test]
fn the_last_word_counts_and_what_was_taken_away_is_gone() {
    let disk = on_disk();
    for store in [&in_memory(), &disk.store] {
        set(store, "view/a", Some(json!(1)));
        set(store, "view/b", Some(json!(2)));
        set(store, "view/a", Some(json!(3)));
        set(store, "view/b", None);
        assert_eq!(all(store), [("view/a".to_owned(), json!(3))]);
        set(store, "view/b", Some(json!(4)));
        assert_eq!(all(store).len(), 2);
    }
}

#[test]
fn many_who_set_at_once_all_succeed() {
    let store = on_disk();
    std::thread::scope(|scope| {
        for number in 0..16 {
            let store = &store;
            scope.spawn(move || set(store, &format!("view/{number}"), Some(json!(number))));
        }
    });
    assert_eq!(all(&store).len(), 16);
}

#[test]
fn a_stores_own_settings_are_no_projects() {
    let store = in_memory();
    set(&store, "head/x", Some(json!(1)));
    let own = record("retention", Some(json!({"keep_last": 2})));
    store.write_setting(&SettingScope::Store, &own).unwrap();
    let cache = SettingsCache::default();
    let read = store.settings(&SettingScope::Store, &cache).unwrap();
    assert_eq!(read.into_values().collect::<Vec<_>>(), [own]);
    assert_eq!(all(&store), [("head/x".to_owned(), json!(1))]);
}

#[test]
fn a_damaged_setting_is_named_and_a_strangers_file_is_ignored() {
    let store = in_memory();
    set(&store, "view/a", Some(json!(1)));
    let put = |path, bytes: &'static [u8]| {
        futures::executor::block_on(store.objects().put(&path, bytes.into())).unwrap();
    };
    put(layout::settings(&scope()).join("readme"), b"hello");
    assert_eq!(all(&store).len(), 1);
    let writer = WriterId::from_bits(7);
    put(layout::setting(&scope(), 9, writer), b"{}");
    let cache = SettingsCache::default();
    let error = store.settings(&scope(), &cache).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.message().contains("settings/9-"), "{error:?}");
}

proptest! {
    /// Objects of two stores, copied together in any order, say the same.
    #[test]
    fn a_merge_is_a_copy(words in prop::collection::vec((any::<bool>(), 0..3_u8, prop::option::of(0..9_u8)), 0..20)) {
        let stores = [in_memory(), in_memory()];
        let mut objects = Vec::new();
        for (first, key, value) in words {
            let store = &stores[usize::from(first)];
            set(store, &format!("view/{key}"), value.map(Value::from));
        }
        for store in &stores {
            let settings = layout::settings(&scope());
            let listed = futures::executor::block_on(store.objects().list_with_delimiter(Some(&settings))).unwrap();
            for object in listed.objects {
                let found = futures::executor::block_on(store.objects().get(&object.location)).unwrap();
                objects.push((object.location, futures::executor::block_on(found.bytes()).unwrap()));
            }
        }
        let merged = [in_memory(), in_memory()];
        for (path, bytes) in &objects {
            futures::executor::block_on(merged[0].objects().put(path, bytes.clone().into())).unwrap();
        }
        for (path, bytes) in objects.iter().rev() {
            futures::executor::block_on(merged[1].objects().put(path, bytes.clone().into())).unwrap();
        }
        prop_assert_eq!(all(&merged[0]), all(&merged[1]));
    }
}
