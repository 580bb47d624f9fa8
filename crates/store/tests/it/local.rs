//! What only files can get wrong.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::sync::Arc;

use futures::TryStreamExt as _;
use futures::executor::block_on;
use object_store::{Error, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, UpdateVersion};
use runtree_core::ErrorKind;
use runtree_store::{DirSync, DirectorySync as _, LocalStore, Mode, ObjectPath, Store};

use crate::support::{NOW, on_disk};

fn path(text: &str) -> ObjectPath {
    ObjectPath::parse(text).unwrap()
}

fn store() -> (LocalStore, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    (LocalStore::new(directory.path()).unwrap(), directory)
}

#[test]
fn leftover_temporary_files_are_invisible_and_harmless() {
    let (objects, directory) = store();
    fs::create_dir(directory.path().join("a")).unwrap();
    fs::write(directory.path().join("a/.tmp-0000000000000001"), "half").unwrap();
    block_on(objects.put(&path("a/b"), "x".into())).unwrap();
    let listed: Vec<_> = block_on(objects.list(None).try_collect()).unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(
        objects.names(&path("a")).unwrap(),
        [("b".to_owned(), false)]
    );
    let refused = block_on(objects.get(&path("a/.tmp-0000000000000001"))).map(drop);
    assert!(matches!(refused, Err(Error::NotSupported { .. })));
}

#[test]
fn leftovers_of_killed_writers_are_swept_and_live_ones_stay() {
    use std::time::Duration;
    let store = on_disk();
    let shard = store.directory.path().join("chunks/ab");
    fs::create_dir_all(&shard).unwrap();
    for (name, hours) in [
        (".tmp-0000000000000001", 2),
        (".tmp-0000000000000002", 0),
        ("an-object", 9),
    ] {
        fs::write(shard.join(name), "half a chunk").unwrap();
        let file = fs::File::options()
            .write(true)
            .open(shard.join(name))
            .unwrap();
        let written = file.metadata().unwrap().modified().unwrap();
        file.set_modified(written - Duration::from_secs(3600 * hours))
            .unwrap();
    }
    let hour = Duration::from_secs(3600);
    assert_eq!(store.remove_leftovers(hour).unwrap(), (1, 12));
    assert_eq!(store.remove_leftovers(hour).unwrap(), (0, 0));
    assert_eq!(shard.read_dir().unwrap().count(), 2);
    let reader = Store::open(store.directory.path(), Mode::ReadOnly).unwrap();
    assert_eq!(
        reader.remove_leftovers(hour).unwrap_err().kind(),
        ErrorKind::Denied
    );
}

#[test]
fn no_temporary_file_is_left_behind() {
    let (objects, directory) = store();
    let create = || PutOptions::from(PutMode::Create);
    block_on(objects.put_opts(&path("d/a"), "x".into(), create())).unwrap();
    block_on(objects.put_opts(&path("d/a"), "x".into(), create())).unwrap_err();
    block_on(objects.put(&path("d/a"), "y".into())).unwrap();
    let mut upload = block_on(objects.put_multipart(&path("d/b"))).unwrap();
    block_on(upload.put_part("x".into())).unwrap();
    drop(upload);
    let names: Vec<_> = fs::read_dir(directory.path().join("d")).unwrap().collect();
    assert_eq!(names.len(), 1);
}

#[test]
fn an_upload_with_a_missing_part_is_refused() {
    let (objects, _directory) = store();
    let mut upload = block_on(objects.put_multipart(&path("a"))).unwrap();
    drop(upload.put_part("never awaited".into()));
    block_on(upload.put_part("written".into())).unwrap();
    block_on(upload.complete()).unwrap_err();
    assert!(matches!(
        block_on(objects.get(&path("a"))),
        Err(Error::NotFound { .. })
    ));
}

#[test]
fn links_and_pipes_are_no_objects() {
    let (objects, directory) = store();
    let root = directory.path();
    fs::write(root.join("real"), "secret").unwrap();
    symlink(root.join("real"), root.join("link")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        root.join("pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RWXU,
        0,
    )
    .unwrap();
    let listed: Vec<_> = block_on(objects.list(None).try_collect()).unwrap();
    assert_eq!(listed.len(), 1);
    assert!(block_on(objects.get(&path("link"))).is_err());
    assert!(matches!(
        block_on(objects.get(&path("pipe"))),
        Err(Error::NotFound { .. })
    ));
}

#[test]
fn updating_conditionally_is_not_implemented() {
    let (objects, _directory) = store();
    let update = PutMode::Update(UpdateVersion {
        e_tag: None,
        version: None,
    });
    let refused = block_on(objects.put_opts(&path("a"), "x".into(), update.into()));
    assert!(matches!(refused, Err(Error::NotImplemented { .. })));
}

#[test]
fn puts_that_sync_later_are_there_at_once_and_durable_after_sync() {
    let (objects, _directory) = store();
    let mut options = PutOptions::from(PutMode::Create);
    options.extensions.insert(DirSync::Later);
    block_on(objects.put_opts(&path("x/y/z"), "1".into(), options)).unwrap();
    assert_eq!(block_on(objects.head(&path("x/y/z"))).unwrap().size, 1);
    let together = [path("x/y/z"), path("x/y/other")];
    objects.sync_dirs(&mut together.iter()).unwrap();
    let missing = objects.sync_dirs(&mut [path("never/made")].iter());
    assert!(missing.is_err());
}

#[test]
fn directories_that_vanish_are_made_again() {
    let (objects, directory) = store();
    block_on(objects.put(&path("a/b/c"), "1".into())).unwrap();
    fs::remove_dir_all(directory.path().join("a")).unwrap();
    block_on(objects.put(&path("a/b/c"), "2".into())).unwrap();
    assert_eq!(block_on(objects.head(&path("a/b/c"))).unwrap().size, 1);
}

#[test]
fn an_unwritable_directory_is_denied_with_its_path() {
    let store = on_disk();
    let pins = store.directory.path().join("pins");
    fs::create_dir(&pins).unwrap();
    fs::set_permissions(&pins, fs::Permissions::from_mode(0o500)).unwrap();
    if fs::write(pins.join("probe"), "").is_ok() {
        // The superuser writes everywhere; a file in the way of a directory is an error for everybody.
        fs::remove_file(pins.join("probe")).unwrap();
        fs::remove_dir(&pins).unwrap();
        fs::write(&pins, "").unwrap();
        let error = store
            .overwrite_bytes(&path("pins/x"), "x".into())
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.chain().contains("pins"), "{}", error.chain());
        return;
    }
    let error = store
        .overwrite_bytes(&path("pins/x"), "x".into())
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert!(error.chain().contains("pins"), "{}", error.chain());
    assert!(error.hint().unwrap().contains("pins"));
}

#[test]
fn reading_writes_nothing() {
    let store = on_disk();
    let tree = |directory: &std::path::Path| -> Vec<(String, std::time::SystemTime)> {
        let mut entries = vec![directory.to_owned()];
        let mut found = Vec::new();
        while let Some(entry) = entries.pop() {
            let metadata = fs::metadata(&entry).unwrap();
            found.push((entry.display().to_string(), metadata.modified().unwrap()));
            if metadata.is_dir() {
                entries.extend(
                    fs::read_dir(&entry)
                        .unwrap()
                        .map(|entry| entry.unwrap().path()),
                );
            }
        }
        found.sort();
        found
    };
    let before = tree(store.directory.path());
    let reader = Store::open(store.directory.path(), Mode::ReadOnly).unwrap();
    reader.list_runs().unwrap();
    reader.list_rounds().unwrap();
    reader.list_pins().unwrap();
    reader.run_stamp(crate::support::run(1)).unwrap();
    assert_eq!(tree(store.directory.path()), before);
}

#[test]
fn the_store_works_from_inside_a_runtime_too() {
    let directory = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .max_blocking_threads(1)
        .build()
        .unwrap();
    let at = directory.path().to_owned();
    // One blocking thread, which the whole call occupies: it must not need a second one.
    let id = runtime
        .block_on(async {
            tokio::task::spawn_blocking(move || Store::create(&at, NOW).unwrap().id()).await
        })
        .unwrap();
    let objects: Arc<dyn ObjectStore> = Arc::new(LocalStore::new(directory.path()).unwrap());
    let store = Store::open_over(objects, Mode::ReadOnly).unwrap();
    assert_eq!(store.id(), id);
}
