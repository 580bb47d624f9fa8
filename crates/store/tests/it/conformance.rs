//! What runtree needs of any object store. Every implementation and every wrapper runs all of it.

use std::sync::{Arc, Barrier};

use bytes::Bytes;
use futures::executor::block_on;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use object_store::memory::InMemory;
use object_store::{
    CopyMode, CopyOptions, Error, GetOptions, GetRange, MultipartUpload as _, ObjectStore,
    ObjectStoreExt as _, PutMode, PutOptions, RenameOptions, RenameTargetMode,
};
use runtree_store::wrappers::{Hedge, Limit, Meter, Retry, RetryPolicy};
use runtree_store::{LocalStore, ObjectPath};

type Objects = Arc<dyn ObjectStore>;

fn path(text: &str) -> ObjectPath {
    ObjectPath::parse(text).unwrap()
}

async fn create(objects: &Objects, at: &str, bytes: &[u8]) -> object_store::Result<()> {
    objects
        .put_opts(
            &path(at),
            bytes.to_vec().into(),
            PutOptions::from(PutMode::Create),
        )
        .await
        .map(drop)
}

async fn read(objects: &Objects, at: &str) -> object_store::Result<Bytes> {
    objects.get(&path(at)).await?.bytes().await
}

async fn listed(objects: &Objects, prefix: Option<&str>) -> Vec<(String, u64)> {
    let prefix = prefix.map(path);
    let mut listed: Vec<_> = objects
        .list(prefix.as_ref())
        .map_ok(|meta| (meta.location.to_string(), meta.size))
        .try_collect()
        .await
        .unwrap();
    listed.sort();
    listed
}

/// Every promise, one after another.
async fn conforms(objects: Objects) {
    reads_back_what_was_put(&objects).await;
    creates_once(&objects).await;
    misses_are_not_found(&objects).await;
    serves_ranges(&objects).await;
    lists_what_was_put(&objects).await;
    deletes(&objects).await;
    copies_and_renames(&objects).await;
    uploads_in_parts(&objects).await;
}

async fn reads_back_what_was_put(objects: &Objects) {
    for bytes in [&b""[..], b"one", &[7; 10_000]] {
        objects
            .put(&path("put/a"), bytes.to_vec().into())
            .await
            .unwrap();
        assert_eq!(read(objects, "put/a").await.unwrap(), bytes);
        let meta = objects.head(&path("put/a")).await.unwrap();
        assert_eq!(
            (meta.location, meta.size),
            (path("put/a"), bytes.len() as u64)
        );
    }
    // A payload may come in pieces.
    let pieces = ["ab", "", "cde"].map(Bytes::from);
    let payload = object_store::PutPayload::from_iter(pieces);
    objects.put(&path("put/b"), payload).await.unwrap();
    assert_eq!(read(objects, "put/b").await.unwrap(), "abcde");
}

async fn creates_once(objects: &Objects) {
    create(objects, "create/a", b"first").await.unwrap();
    let second = create(objects, "create/a", b"second").await;
    assert!(
        matches!(second, Err(Error::AlreadyExists { .. })),
        "{second:?}"
    );
    assert_eq!(read(objects, "create/a").await.unwrap(), "first");
    objects
        .put(&path("create/a"), "third".into())
        .await
        .unwrap();
    assert_eq!(read(objects, "create/a").await.unwrap(), "third");
}

async fn misses_are_not_found(objects: &Objects) {
    create(objects, "miss/directory/a", b"").await.unwrap();
    for miss in [
        "miss/nothing",
        "nowhere/at/all",
        "miss/directory",
        "miss/directory/a/b",
    ] {
        let got = objects.get(&path(miss)).await.map(drop);
        assert!(
            matches!(got, Err(Error::NotFound { .. })),
            "get {miss}: {got:?}"
        );
        let head = objects.head(&path(miss)).await.map(drop);
        assert!(
            matches!(head, Err(Error::NotFound { .. })),
            "head {miss}: {head:?}"
        );
        let range = objects.get_range(&path(miss), 0..1).await.map(drop);
        assert!(
            matches!(range, Err(Error::NotFound { .. })),
            "range {miss}: {range:?}"
        );
    }
    let copy = objects.copy(&path("miss/nothing"), &path("miss/b")).await;
    assert!(matches!(copy, Err(Error::NotFound { .. })), "{copy:?}");
}

async fn serves_ranges(objects: &Objects) {
    let at = path("range/a");
    objects.put(&at, "0123456789".into()).await.unwrap();
    assert_eq!(objects.get_range(&at, 2..5).await.unwrap(), "234");
    assert_eq!(objects.get_range(&at, 0..10).await.unwrap(), "0123456789");
    assert_eq!(objects.get_range(&at, 8..100).await.unwrap(), "89");
    let ranges = objects.get_ranges(&at, &[0..1, 9..10, 3..6]).await.unwrap();
    assert_eq!(ranges, ["0", "9", "345"]);
    for (range, expected) in [
        (GetRange::Suffix(3), "789"),
        (GetRange::Suffix(99), "0123456789"),
        (GetRange::Offset(7), "789"),
        (GetRange::Bounded(4..6), "45"),
    ] {
        let options = GetOptions::new().with_range(Some(range.clone()));
        let result = objects.get_opts(&at, options).await.unwrap();
        assert_eq!(result.meta.size, 10, "{range:?}");
        assert_eq!(result.bytes().await.unwrap(), expected, "{range:?}");
    }
    let outside = GetOptions::new().with_range(Some(GetRange::Bounded(10..12)));
    assert!(objects.get_opts(&at, outside).await.is_err());
    let tag = objects.head(&at).await.unwrap().e_tag;
    let other = GetOptions::new().with_if_match(Some("\"something else\""));
    let refused = objects.get_opts(&at, other).await.map(drop);
    assert!(
        matches!(refused, Err(Error::Precondition { .. })),
        "{refused:?}"
    );
    let same = GetOptions::new().with_if_match(tag);
    assert!(objects.get_opts(&at, same).await.is_ok());
}

async fn lists_what_was_put(objects: &Objects) {
    assert_eq!(listed(objects, Some("list")).await, []);
    for (at, bytes) in [
        ("list/a", "1"),
        ("list/b/c", "22"),
        ("list/b/d", "333"),
        ("listen", ""),
    ] {
        create(objects, at, bytes.as_bytes()).await.unwrap();
    }
    let all = [("list/a", 1), ("list/b/c", 2), ("list/b/d", 3)];
    let all = all.map(|(at, bytes)| (at.to_owned(), bytes));
    assert_eq!(listed(objects, Some("list")).await, all);
    assert_eq!(listed(objects, Some("list/b")).await, all[1..]);
    assert_eq!(
        listed(objects, Some("list/a")).await,
        [],
        "a prefix is a directory"
    );
    assert!(
        listed(objects, None)
            .await
            .contains(&("listen".to_owned(), 0))
    );

    let offset = path("list/b/c");
    let after: Vec<_> = objects
        .list_with_offset(Some(&path("list")), &offset)
        .map_ok(|meta| meta.location.to_string())
        .try_collect()
        .await
        .unwrap();
    assert_eq!(after, ["list/b/d"]);

    let one_level = objects
        .list_with_delimiter(Some(&path("list")))
        .await
        .unwrap();
    let names: Vec<_> = one_level
        .objects
        .iter()
        .map(|meta| meta.location.as_ref())
        .collect();
    assert_eq!(names, ["list/a"]);
    assert_eq!(one_level.common_prefixes, [path("list/b")]);
    let nothing = objects
        .list_with_delimiter(Some(&path("nothing")))
        .await
        .unwrap();
    assert!(nothing.objects.is_empty() && nothing.common_prefixes.is_empty());
}

async fn deletes(objects: &Objects) {
    for at in ["delete/a", "delete/b", "delete/c"] {
        create(objects, at, b"x").await.unwrap();
    }
    objects.delete(&path("delete/a")).await.unwrap();
    assert!(matches!(
        read(objects, "delete/a").await,
        Err(Error::NotFound { .. })
    ));
    let doomed = stream::iter([Ok(path("delete/b")), Ok(path("delete/never was"))]).boxed();
    let gone: Vec<_> = objects.delete_stream(doomed).try_collect().await.unwrap();
    assert_eq!(gone.len(), 2);
    assert_eq!(
        listed(objects, Some("delete")).await,
        [("delete/c".to_owned(), 1)]
    );
    create(objects, "delete/a", b"again").await.unwrap();
}

async fn copies_and_renames(objects: &Objects) {
    create(objects, "copy/a", b"a").await.unwrap();
    create(objects, "copy/b", b"b").await.unwrap();
    let (a, b, c) = (path("copy/a"), path("copy/b"), path("copy/c"));
    objects.copy(&a, &c).await.unwrap();
    assert_eq!(read(objects, "copy/c").await.unwrap(), "a");
    let only_new = CopyOptions::new().with_mode(CopyMode::Create);
    let refused = objects.copy_opts(&b, &c, only_new).await;
    assert!(replaces_nothing(&refused), "{refused:?}");
    objects.copy(&b, &c).await.unwrap();
    assert_eq!(read(objects, "copy/c").await.unwrap(), "b");

    let only_new = RenameOptions::new().with_target_mode(RenameTargetMode::Create);
    let refused = objects.rename_opts(&a, &b, only_new.clone()).await;
    assert!(replaces_nothing(&refused), "{refused:?}");
    let deep = path("copy/deep/er/d");
    match objects.rename_opts(&a, &deep, only_new).await {
        Err(Error::NotSupported { .. } | Error::NotImplemented { .. }) => {
            objects.rename(&a, &deep).await.unwrap();
        }
        renamed => renamed.unwrap(),
    }
    assert!(matches!(
        read(objects, "copy/a").await,
        Err(Error::NotFound { .. })
    ));
    objects.rename(&path("copy/deep/er/d"), &b).await.unwrap();
    assert_eq!(read(objects, "copy/b").await.unwrap(), "a");
}

/// A bucket may have no copy that must not replace; none may replace.
fn replaces_nothing(outcome: &object_store::Result<()>) -> bool {
    matches!(
        outcome,
        Err(Error::AlreadyExists { .. }
            | Error::NotSupported { .. }
            | Error::NotImplemented { .. })
    )
}

async fn uploads_in_parts(objects: &Objects) {
    let at = path("multipart/a");
    let mut upload = objects.put_multipart(&at).await.unwrap();
    // All but the last have the 5 MiB that a bucket asks for.
    let parts = [vec![1; 5 << 20], vec![2; (5 << 20) + 1], vec![3; 70_000]];
    let (first, second, third) = (
        upload.put_part(parts[0].clone().into()),
        upload.put_part(parts[1].clone().into()),
        upload.put_part(parts[2].clone().into()),
    );
    // In any order: their places were taken when they were handed over.
    third.await.unwrap();
    first.await.unwrap();
    second.await.unwrap();
    assert!(matches!(
        read(objects, "multipart/a").await,
        Err(Error::NotFound { .. })
    ));
    upload.complete().await.unwrap();
    assert_eq!(read(objects, "multipart/a").await.unwrap(), parts.concat());

    let mut aborted = objects.put_multipart(&path("multipart/b")).await.unwrap();
    aborted.put_part("lost".into()).await.unwrap();
    aborted.abort().await.unwrap();
    let left = listed(objects, Some("multipart")).await;
    assert_eq!(left, [("multipart/a".to_owned(), (10 << 20) + 70_001)]);
}

/// Sixteen threads create one name: one wins, all the others hear that it exists, and it holds what the winner wrote.
fn one_of_many_creators_wins(objects: &Objects, rounds: u32) {
    const RACERS: usize = 16;
    for round in 0..rounds {
        let at = format!("race/{round}");
        let barrier = Barrier::new(RACERS);
        let winners: Vec<u8> = std::thread::scope(|scope| {
            let racers: Vec<_> = (0..RACERS as u8)
                .map(|racer| {
                    let (at, barrier) = (&at, &barrier);
                    scope.spawn(move || {
                        barrier.wait();
                        let content = vec![racer; 5000];
                        match block_on(create(objects, at, &content)) {
                            Ok(()) => Some(racer),
                            Err(Error::AlreadyExists { .. }) => {
                                // Who lost may read at once, and reads all of it.
                                let won = block_on(read(objects, at)).unwrap();
                                assert_eq!(won.len(), 5000);
                                None
                            }
                            Err(error) => panic!("{error}"),
                        }
                    })
                })
                .collect();
            racers
                .into_iter()
                .filter_map(|racer| racer.join().unwrap())
                .collect()
        });
        let [winner] = winners[..] else {
            panic!("{} creators won: {winners:?}", winners.len());
        };
        assert_eq!(block_on(read(objects, &at)).unwrap(), vec![winner; 5000]);
    }
}

/// Readers of a name that is overwritten all the time see one whole content or another.
fn overwriting_is_atomic(objects: &Objects) {
    let at = path("atomic/a");
    block_on(objects.put(&at, vec![0; 200_000].into())).unwrap();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for value in 1..=20_u8 {
                block_on(objects.put(&at, vec![value; 200_000].into())).unwrap();
            }
        });
        while !writer.is_finished() {
            let bytes = block_on(read(objects, "atomic/a")).unwrap();
            assert_eq!(bytes.len(), 200_000);
            assert!(bytes.iter().all(|byte| *byte == bytes[0]), "a torn read");
        }
    });
}

fn runs_the_suite(objects: Objects) {
    block_on(conforms(Arc::clone(&objects)));
    one_of_many_creators_wins(&objects, 20);
    overwriting_is_atomic(&objects);
}

fn no_pause() -> runtree_store::wrappers::Pause {
    Arc::new(|_| Box::pin(std::future::ready(())))
}

fn local() -> (Objects, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    (
        Arc::new(LocalStore::new(directory.path()).unwrap()),
        directory,
    )
}

#[test]
fn the_local_store_conforms() {
    let (objects, _directory) = local();
    runs_the_suite(objects);
}

#[test]
fn the_local_store_conforms_inside_a_runtime() {
    let (objects, _directory) = local();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(conforms(objects));
}

#[test]
fn the_memory_store_conforms() {
    runs_the_suite(Arc::new(InMemory::new()));
}

#[test]
fn a_real_bucket_conforms() {
    let Some((address, settings)) = crate::support::bucket() else {
        return;
    };
    let objects = runtree_store::remote::connect(&address, &settings).unwrap();
    block_on(conforms(Arc::clone(&objects)));
    // The server that the tests start takes seconds for each.
    one_of_many_creators_wins(&objects, 3);
    overwriting_is_atomic(&objects);
}

#[test]
fn a_metered_store_conforms() {
    let (objects, _directory) = local();
    runs_the_suite(Meter::new(objects));
}

#[test]
fn a_retrying_store_conforms() {
    let (objects, _directory) = local();
    runs_the_suite(Retry::new(objects, RetryPolicy::default(), no_pause()));
}

#[test]
fn a_limited_store_conforms() {
    runs_the_suite(Limit::new(Arc::new(InMemory::new())));
}

#[test]
fn a_hedging_store_conforms() {
    runs_the_suite(Hedge::new(Arc::new(InMemory::new()), no_pause()));
}

#[test]
fn a_tower_of_wrappers_conforms() {
    let metered = Meter::new(Arc::new(InMemory::new()));
    let limited = Limit::new(Hedge::new(metered.clone(), no_pause()));
    let retrying = Retry::new(limited, RetryPolicy::default(), no_pause());
    runs_the_suite(Meter::new(retrying));
    assert!(metered.counts().puts > 0);
}

#[test]
fn a_meter_counts_chunks_apart() {
    let meter = Meter::new(Arc::new(InMemory::new()));
    let objects: Objects = meter.clone();
    crate::support::put(&objects, "runs/x", b"12345");
    crate::support::put(&objects, "chunks/ab/x", b"123");
    block_on(objects.get_range(&path("chunks/ab/x"), 0..2)).unwrap();
    block_on(objects.head(&path("chunks/ab/x"))).unwrap();
    let counts = meter.counts();
    assert_eq!((counts.puts, counts.bytes_written), (2, 8));
    assert_eq!((counts.chunk_puts, counts.chunk_bytes_written), (1, 3));
    assert_eq!(
        (counts.chunk_gets, counts.chunk_bytes_read, counts.heads),
        (1, 2, 1)
    );
}
