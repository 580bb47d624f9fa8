//! Creating, opening and refusing stores.

use std::fs;
use std::sync::Arc;

use object_store::memory::InMemory;
use object_store::{ObjectStore, PutMode, PutOptions};
use runtree_core::manifest::{Record as _, StoreRecord};
use runtree_core::{ErrorKind, StoreId};
use runtree_store::{Created, Mode, ObjectPath, Store, layout};

use crate::support::{NOW, in_memory, on_disk, put};

#[test]
fn a_new_store_has_an_identity_and_keeps_it() {
    let created = on_disk();
    let root = created.directory.path();
    let opened = Store::open(root, Mode::ReadOnly).unwrap();
    assert_eq!(opened.id(), created.id());
    assert_eq!(Store::create(root, NOW).unwrap().id(), created.id());
    assert_eq!(opened.record().created, NOW);
    assert!(opened.record().conditional_create);
    assert_eq!(fs::read_to_string(root.join(".gitignore")).unwrap(), "*\n");
    let mut names: Vec<_> = fs::read_dir(root)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, [".gitignore", "runtree.json"], "the probe is gone");
}

#[test]
fn many_processes_that_create_a_store_share_it() {
    let directory = tempfile::tempdir().unwrap();
    let ids: Vec<StoreId> = std::thread::scope(|scope| {
        let racers: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| Store::create(directory.path(), NOW).unwrap().id()))
            .collect();
        racers
            .into_iter()
            .map(|racer| racer.join().unwrap())
            .collect()
    });
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
}

#[test]
fn an_empty_directory_is_no_store_and_a_full_one_never_becomes_one() {
    let directory = tempfile::tempdir().unwrap();
    let error = Store::open(directory.path(), Mode::ReadOnly).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let error = Store::open(&directory.path().join("nowhere"), Mode::ReadOnly).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    fs::write(directory.path().join("thesis.tex"), "").unwrap();
    let error = Store::create(directory.path(), NOW).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.message().contains("thesis.tex"));
}

#[test]
fn a_store_that_lost_its_identity_gets_no_new_one() {
    let store = on_disk();
    store
        .create_bytes(&ObjectPath::parse("runs/x/run").unwrap(), "x".into())
        .unwrap()
        .or_conflict(String::new)
        .unwrap();
    fs::remove_file(store.directory.path().join("runtree.json")).unwrap();
    let error = Store::create(store.directory.path(), NOW).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
}

#[test]
fn an_interrupted_creation_is_finished_by_the_next() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join(".gitignore"), "*\n").unwrap();
    fs::write(directory.path().join("probe-0123456789abcdef"), "x").unwrap();
    fs::write(directory.path().join(".tmp-0123456789abcdef"), "half").unwrap();
    Store::create(directory.path(), NOW).unwrap();
}

fn store_that_requires(read: &[&str], write: &[&str]) -> Arc<dyn ObjectStore> {
    let objects: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let record = StoreRecord {
        id: StoreId::from_bits(1),
        created: NOW,
        required_to_read: read.iter().map(ToString::to_string).collect(),
        required_to_write: write.iter().map(ToString::to_string).collect(),
        conditional_create: true,
    };
    put(&objects, "runtree.json", &record.to_bytes());
    objects
}

#[test]
fn a_store_that_needs_more_than_this_build_knows_is_refused() {
    let objects = store_that_requires(&["time-travel"], &[]);
    for mode in [Mode::ReadOnly, Mode::ReadWrite] {
        let error = Store::open_over(Arc::clone(&objects), mode).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.message().contains("time-travel"));
        assert!(error.hint().is_some());
    }
    let objects = store_that_requires(&[], &["sharded-index"]);
    Store::open_over(Arc::clone(&objects), Mode::ReadOnly).unwrap();
    let error = Store::open_over(objects, Mode::ReadWrite).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}

#[test]
fn a_damaged_store_record_is_named() {
    let objects: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    put(
        &objects,
        "runtree.json",
        b"{\"format\":\"runtree.store\",\"version\":1",
    );
    let error = Store::open_over(Arc::clone(&objects), Mode::ReadOnly).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    let newer = r#"{"format":"runtree.store","version":99"#;
    put(&objects, "runtree.json", format!("{newer}}}").as_bytes());
    let error = Store::open_over(Arc::clone(&objects), Mode::ReadOnly).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "it has no checksum");
    let check = blake3::hash(newer.as_bytes()).to_hex();
    let whole = format!(r#"{newer},"check":"{}"}}"#, &check[..16]);
    put(&objects, "runtree.json", whole.as_bytes());
    let error = Store::open_over(objects, Mode::ReadOnly).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}

#[test]
fn a_store_that_lost_its_record_is_no_absent_store() {
    let store = on_disk();
    let path = store.directory.path();
    let _ = store
        .store
        .create_bytes(
            &layout::commit(crate::support::run(1), crate::support::key(1)),
            "x".into(),
        )
        .unwrap();
    std::fs::remove_file(path.join("runtree.json")).unwrap();
    for error in [
        Store::open(path, Mode::ReadOnly).unwrap_err(),
        Store::open(path, Mode::ReadWrite).unwrap_err(),
        Store::create(path, runtree_core::Timestamp(0)).unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.message().contains("runtree.json"), "{error}");
    }
}

#[test]
fn a_handle_for_reading_refuses_to_write() {
    let store = on_disk();
    let reader = Store::open(store.directory.path(), Mode::ReadOnly).unwrap();
    let path = layout::commit(crate::support::run(1), crate::support::key(1));
    let refusals = [
        reader.create_bytes(&path, "x".into()).unwrap_err(),
        reader.overwrite_bytes(&path, "x".into()).unwrap_err(),
        reader.delete(&path).unwrap_err(),
        reader.begin_save().unwrap_err(),
        reader
            .abandon(crate::support::run(1), crate::support::key(1))
            .unwrap_err(),
    ];
    for error in refusals {
        assert_eq!(error.kind(), ErrorKind::Denied);
    }
}

#[test]
fn creating_says_what_was_there() {
    for store in [&on_disk().store, &in_memory()] {
        let path = ObjectPath::parse("pins/a").unwrap();
        assert_eq!(
            store.create_bytes(&path, "x".into()).unwrap(),
            Created::Created
        );
        assert_eq!(
            store.create_bytes(&path, "x".into()).unwrap(),
            Created::ExistsEqual
        );
        let other = store.create_bytes(&path, "y".into()).unwrap();
        assert_eq!(other, Created::ExistsOther("x".into()));
        assert_eq!(
            other.or_conflict(|| "a".to_owned()).unwrap_err().kind(),
            ErrorKind::Conflict
        );
    }
}

/// A store whose creates win and lose their answers.
#[derive(Debug)]
struct LostAnswers {
    inner: InMemory,
    before: std::sync::atomic::AtomicU32,
    after: std::sync::atomic::AtomicU32,
}

impl std::fmt::Display for LostAnswers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a store with lost answers")
    }
}

fn timeout() -> object_store::Error {
    object_store::Error::Generic {
        store: "test",
        source: "the answer was lost".into(),
    }
}

fn take(counter: &std::sync::atomic::AtomicU32) -> bool {
    use std::sync::atomic::Ordering::SeqCst;
    counter
        .fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1))
        .is_ok()
}

#[async_trait::async_trait]
impl ObjectStore for LostAnswers {
    async fn put_opts(
        &self,
        location: &ObjectPath,
        payload: object_store::PutPayload,
        options: PutOptions,
    ) -> object_store::Result<object_store::PutResult> {
        let create = options.mode == PutMode::Create;
        if create && take(&self.before) {
            return Err(timeout());
        }
        let result = self.inner.put_opts(location, payload, options).await;
        if create && take(&self.after) {
            return Err(timeout());
        }
        result
    }

    async fn put_multipart_opts(
        &self,
        location: &ObjectPath,
        options: object_store::PutMultipartOptions,
    ) -> object_store::Result<Box<dyn object_store::MultipartUpload>> {
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(
        &self,
        location: &ObjectPath,
        options: object_store::GetOptions,
    ) -> object_store::Result<object_store::GetResult> {
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(
        &self,
        locations: futures::stream::BoxStream<'static, object_store::Result<ObjectPath>>,
    ) -> futures::stream::BoxStream<'static, object_store::Result<ObjectPath>> {
        self.inner.delete_stream(locations)
    }

    fn list(
        &self,
        prefix: Option<&ObjectPath>,
    ) -> futures::stream::BoxStream<'static, object_store::Result<object_store::ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(
        &self,
        prefix: Option<&ObjectPath>,
    ) -> object_store::Result<object_store::ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(
        &self,
        from: &ObjectPath,
        to: &ObjectPath,
        options: object_store::CopyOptions,
    ) -> object_store::Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

fn with_lost_answers() -> (Store, Arc<LostAnswers>) {
    let objects = Arc::new(LostAnswers {
        inner: InMemory::new(),
        before: 0.into(),
        after: 0.into(),
    });
    (Store::create_over(objects.clone(), NOW).unwrap(), objects)
}

#[test]
fn a_create_whose_answer_was_lost_is_read_back() {
    use std::sync::atomic::Ordering::SeqCst;
    let (store, objects) = with_lost_answers();
    let path = ObjectPath::parse("pins/a").unwrap();
    objects.after.store(1, SeqCst);
    // It was written, and it is ours as far as anybody can tell.
    assert_eq!(
        store.create_bytes(&path, "x".into()).unwrap(),
        Created::ExistsEqual
    );
    let path = ObjectPath::parse("pins/b").unwrap();
    objects.before.store(2, SeqCst);
    assert_eq!(
        store.create_bytes(&path, "x".into()).unwrap(),
        Created::Created
    );
    objects.before.store(100, SeqCst);
    let path = ObjectPath::parse("pins/c").unwrap();
    let error = store.create_bytes(&path, "x".into()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(objects.before.load(SeqCst) > 90, "tries are bounded");
    objects.before.store(0, SeqCst);
    assert_eq!(store.try_read_bytes(&path).unwrap(), None);
}

#[test]
fn a_store_that_ignores_conditions_is_refused() {
    /// Overwrites whatever is asked.
    #[derive(Debug)]
    struct Careless(InMemory);
    impl std::fmt::Display for Careless {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a careless store")
        }
    }
    #[async_trait::async_trait]
    impl ObjectStore for Careless {
        async fn put_opts(
            &self,
            location: &ObjectPath,
            payload: object_store::PutPayload,
            _: PutOptions,
        ) -> object_store::Result<object_store::PutResult> {
            self.0
                .put_opts(location, payload, PutOptions::default())
                .await
        }
        async fn put_multipart_opts(
            &self,
            location: &ObjectPath,
            options: object_store::PutMultipartOptions,
        ) -> object_store::Result<Box<dyn object_store::MultipartUpload>> {
            self.0.put_multipart_opts(location, options).await
        }
        async fn get_opts(
            &self,
            location: &ObjectPath,
            options: object_store::GetOptions,
        ) -> object_store::Result<object_store::GetResult> {
            self.0.get_opts(location, options).await
        }
        fn delete_stream(
            &self,
            locations: futures::stream::BoxStream<'static, object_store::Result<ObjectPath>>,
        ) -> futures::stream::BoxStream<'static, object_store::Result<ObjectPath>> {
            self.0.delete_stream(locations)
        }
        fn list(
            &self,
            prefix: Option<&ObjectPath>,
        ) -> futures::stream::BoxStream<'static, object_store::Result<object_store::ObjectMeta>>
        {
            self.0.list(prefix)
        }
        async fn list_with_delimiter(
            &self,
            prefix: Option<&ObjectPath>,
        ) -> object_store::Result<object_store::ListResult> {
            self.0.list_with_delimiter(prefix).await
        }
        async fn copy_opts(
            &self,
            from: &ObjectPath,
            to: &ObjectPath,
            options: object_store::CopyOptions,
        ) -> object_store::Result<()> {
            self.0.copy_opts(from, to, options).await
        }
    }
    let error = Store::create_over(Arc::new(Careless(InMemory::new())), NOW).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.message().contains("8 of 8"), "{}", error.message());
}
