//! Stores in real buckets: run by `scripts/with-s3`, which starts a server; without one there is nothing here to ask.

use std::sync::Arc;

use futures::executor::block_on;
use object_store::{ObjectStore, ObjectStoreExt as _, PutMode, PutOptions};
use runtree_core::manifest::{CheckpointName, PinRecord};
use runtree_core::{Error, ErrorKind};
use runtree_store::remote::{RemoteAddress, Settings, connect};
use runtree_store::{Mode, ObjectPath, Store};

use crate::support::{NOW, bucket, key, put, run};

fn error_of(result: Result<Store, Error>) -> Error {
    match result {
        Err(error) => error,
        Ok(store) => panic!("opened {store:?}"),
    }
}

fn below(address: &RemoteAddress, name: &str) -> RemoteAddress {
    format!("{address}/{name}").parse().unwrap()
}

fn other_bucket(name: &str) -> RemoteAddress {
    format!("s3://{name}/a").parse().unwrap()
}

/// The same server, asked by somebody who may read one other bucket and nothing else.
fn as_reader(settings: &Settings) -> Settings {
    let mut settings = settings.clone();
    settings.insert("AWS_ACCESS_KEY_ID".to_owned(), "reader".to_owned());
    settings.insert(
        "AWS_SECRET_ACCESS_KEY".to_owned(),
        "readerreader".to_owned(),
    );
    settings
}

#[test]
fn missing_denied_empty_and_something_else_are_four_answers() {
    let Some((address, settings)) = bucket() else {
        return;
    };
    let open = |address: &RemoteAddress, settings: &Settings| {
        error_of(Store::open_remote(address, settings, Mode::ReadOnly))
    };
    let missing = open(&other_bucket("no-such-bucket"), &settings);
    assert_eq!(missing.kind(), ErrorKind::NotFound, "{missing:?}");
    assert!(missing.message().contains("bucket") && missing.message().contains("does not exist"));
    let denied = open(&address, &as_reader(&settings));
    assert_eq!(denied.kind(), ErrorKind::Denied, "{denied:?}");
    let empty = open(&address, &settings);
    assert_eq!(empty.kind(), ErrorKind::NotFound);
    assert!(empty.message().contains("is empty"), "{empty:?}");
    let objects = connect(&address, &settings).unwrap();
    put(&objects, "models/checkpoints/0001/adapter.bin", b"x");
    let other = open(&address, &settings);
    assert!(other.message().contains("something else"), "{other:?}");
    let refused = error_of(Store::create_remote(&address, &settings, NOW));
    assert_eq!(refused.kind(), ErrorKind::Invalid);
    assert!(refused.message().contains("models"), "{refused:?}");
    let texts = [&missing, &denied, &empty, &other].map(|error| error.message().to_owned());
    assert_eq!(
        texts
            .iter()
            .collect::<std::collections::BTreeSet<_>>()
            .len(),
        4
    );
}

#[test]
fn a_bucket_is_never_made() {
    let Some((_, settings)) = bucket() else {
        return;
    };
    let address = other_bucket("nobody-made-this");
    for _ in 0..2 {
        let error = error_of(Store::create_remote(&address, &settings, NOW));
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
        assert!(error.hint().unwrap().contains("never makes a bucket"));
    }
}

#[test]
fn a_reader_reads_and_may_not_write() {
    let Some((_, settings)) = bucket() else {
        return;
    };
    let address: RemoteAddress = format!("s3://open/{}", std::process::id()).parse().unwrap();
    let store = Store::create_remote(&address, &settings, NOW).unwrap();
    let read = Store::open_remote(&address, &as_reader(&settings), Mode::ReadWrite).unwrap();
    assert_eq!(read.id(), store.id());
    let path = ObjectPath::parse("runs/x/run").unwrap();
    let error = read.create_bytes(&path, "x".into()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error:?}");
}

#[test]
fn stores_of_one_bucket_do_not_see_each_other() {
    let Some((address, settings)) = bucket() else {
        return;
    };
    let (one, two) = (below(&address, "one"), below(&address, "two"));
    let first = Store::create_remote(&one, &settings, NOW).unwrap();
    let second = Store::create_remote(&two, &settings, NOW).unwrap();
    assert_ne!(first.id(), second.id());
    let path = ObjectPath::parse("pins/x").unwrap();
    first.overwrite_bytes(&path, "1".into()).unwrap();
    assert_eq!(second.try_read_bytes(&path).unwrap(), None);
    assert_eq!(
        Store::open_remote(&one, &settings, Mode::ReadOnly)
            .unwrap()
            .id(),
        first.id()
    );
}

/// This server keeps a folder as an object of its own when the last thing in it is deleted, as consoles of others make some by hand.
#[test]
fn a_folder_that_was_emptied_is_nothing() {
    let Some((address, settings)) = bucket() else {
        return;
    };
    let place = below(&address, "emptied");
    let objects = connect(&address, &settings).unwrap();
    put(&objects, "emptied/it", b"x");
    block_on(objects.delete(&ObjectPath::parse("emptied/it").unwrap())).unwrap();
    let empty = error_of(Store::open_remote(&place, &settings, Mode::ReadOnly));
    assert!(empty.message().contains("is empty"), "{empty:?}");
    let store = Store::create_remote(&place, &settings, NOW).unwrap();
    for round in 0..3 {
        let pin = PinRecord {
            checkpoint: CheckpointName {
                run: run(1),
                key: key(round),
            },
            reason: String::new(),
            created: NOW,
            ttl_seconds: None,
        };
        store.write_pin("x", &pin).unwrap();
        assert_eq!(store.list_pins().unwrap().len(), 1);
        store.delete_pin("x").unwrap();
        assert_eq!(store.list_pins().unwrap(), []);
    }
    assert!(store.list_rounds().unwrap().numbers.is_empty());
}

#[test]
fn nothing_listens_is_unavailable_and_says_where() {
    let Some((address, mut settings)) = bucket() else {
        return;
    };
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    settings.insert(
        "AWS_ENDPOINT_URL".to_owned(),
        format!("http://127.0.0.1:{port}"),
    );
    let error = error_of(Store::open_remote(&address, &settings, Mode::ReadOnly));
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    assert!(error.message().contains(&address.to_string()));
    settings.insert("AWS_ENDPOINT_URL".to_owned(), "127.0.0.1:9000".to_owned());
    let error = error_of(Store::open_remote(&address, &settings, Mode::ReadOnly));
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error:?}");
}

#[test]
fn many_makers_of_one_store_share_it_and_one_creator_of_a_name_wins() {
    let Some((address, settings)) = bucket() else {
        return;
    };
    let ids: Vec<_> = std::thread::scope(|scope| {
        let makers: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| Store::create_remote(&address, &settings, NOW).unwrap().id()))
            .collect();
        makers
            .into_iter()
            .map(|maker| maker.join().unwrap())
            .collect()
    });
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    let objects = connect(&address, &settings).unwrap();
    let path = ObjectPath::parse("race").unwrap();
    let wins: usize = std::thread::scope(|scope| {
        let racers: Vec<_> = (0..8_u8)
            .map(|racer| {
                let (objects, path) = (Arc::clone(&objects), path.clone());
                scope.spawn(move || {
                    let options = PutOptions::from(PutMode::Create);
                    usize::from(
                        block_on(objects.put_opts(&path, vec![racer].into(), options)).is_ok(),
                    )
                })
            })
            .collect();
        racers.into_iter().map(|racer| racer.join().unwrap()).sum()
    });
    assert_eq!(wins, 1);
    assert_eq!(block_on(objects.head(&path)).unwrap().size, 1);
}

#[test]
fn a_server_that_ignores_conditions_is_refused() {
    let Some((_, mut settings)) = bucket() else {
        return;
    };
    let Some(endpoint) = crate::support::careless_endpoint() else {
        return;
    };
    settings.insert("AWS_ENDPOINT_URL".to_owned(), endpoint);
    let address: RemoteAddress = "s3://careless/store".parse().unwrap();
    let error = error_of(Store::create_remote(&address, &settings, NOW));
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error:?}");
    assert!(
        error.message().contains("of 8 creations of one name won"),
        "{error:?}"
    );
    assert!(error.hint().unwrap().contains("If-None-Match"));
    // Nothing was left that looks like a store.
    let objects: Arc<dyn ObjectStore> = connect(&address, &settings).unwrap();
    let record = ObjectPath::parse("runtree.json").unwrap();
    assert!(block_on(objects.head(&record)).is_err());
}

#[test]
fn a_refusal_is_denied_whatever_was_asked_and_is_not_asked_again() {
    let Some((address, settings)) = bucket() else {
        return;
    };
    let reader = as_reader(&settings);
    // `reader` may list and read the bucket `open` alone.
    let listed = runtree_store::remote::list_objects(&address, &reader).unwrap_err();
    assert_eq!(listed.kind(), ErrorKind::Denied, "{listed:?}");
    let made = error_of(Store::create_remote(
        &below(
            &other_bucket("open"),
            &address.prefix.to_string().replace('/', "-"),
        ),
        &reader,
        NOW,
    ));
    assert_eq!(made.kind(), ErrorKind::Denied, "{made:?}");
    assert!(!made.message().contains("delete probe"), "{made:?}");
}
