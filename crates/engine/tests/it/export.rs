//! Export, import, download, materialise: byte for byte, never outside the target, never over anybody's file.

use std::collections::BTreeMap;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use runtree_core::state::{DictKind, Framework, StateKey, StateNode, TensorLeaf};
use runtree_core::{ErrorKind, Step};
use runtree_engine::{EntrySource, ExportLayout, ExportOptions, SaveRequest, TensorSource};
use serde_json::Value;

use crate::save_support::*;

/// Path → (kind, permission bits, content or target).
type Listing = BTreeMap<String, (char, u32, Vec<u8>)>;

fn listing(root: &Path) -> Listing {
    fn walk(root: &Path, at: &Path, found: &mut Listing) {
        for entry in std::fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            let name = path
                .strip_prefix(root)
                .unwrap()
                .to_string_lossy()
                .into_owned();
            let metadata = path.symlink_metadata().unwrap();
            let mode = metadata.permissions().mode() & 0o777;
            if metadata.is_symlink() {
                let target = std::fs::read_link(&path)
                    .unwrap()
                    .to_string_lossy()
                    .into_owned();
                found.insert(name, ('l', 0, target.into_bytes()));
            } else if metadata.is_dir() {
                found.insert(name, ('d', mode, Vec::new()));
                walk(root, &path, found);
            } else {
                found.insert(name, ('f', mode, std::fs::read(&path).unwrap()));
            }
        }
    }
    let mut found = Listing::new();
    walk(root, root, &mut found);
    found
}

fn put(root: &Path, path: &str, mode: u32, content: &[u8]) {
    let path = root.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, content).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// Puts something into a directory.
type Maker<'a> = &'a dyn Fn(&Path);

/// A directory with everything that can be in one.
fn sample(root: &Path) {
    put(root, "config.json", 0o644, b"{}");
    put(root, "run.sh", 0o750, b"#!/bin/sh\n");
    put(root, "secret", 0o600, b"s");
    put(root, "empty.bin", 0o444, b"");
    put(root, "deep/er/model.bin", 0o644, &noise(1, (3 << 20) + 11));
    put(root, "unicode \u{e9}\u{1f600}/x", 0o644, b"x");
    for i in 0..300 {
        put(root, &format!("many/{i}"), 0o644, &noise(i, i as usize));
    }
    std::fs::create_dir(root.join("hollow")).unwrap();
    std::fs::create_dir(root.join("private")).unwrap();
    put(root, "private/key", 0o400, b"k");
    std::fs::set_permissions(root.join("private"), std::fs::Permissions::from_mode(0o700)).unwrap();
    symlink("deep/er/model.bin", root.join("latest")).unwrap();
    symlink("../run.sh", root.join("deep/up")).unwrap();
    symlink("nowhere", root.join("dangling")).unwrap();
}

fn save_dir(bench: &Bench, root: &Path) -> runtree_core::manifest::CheckpointName {
    let pending = bench
        .run()
        .save(at(1, vec![EntrySource::Directory(root.to_owned())]))
        .unwrap();
    pending.wait(None).unwrap();
    pending.name()
}

#[test]
fn a_directory_comes_back_byte_for_byte_with_modes_links_and_empty_directories() {
    let bench = Bench::new();
    let source = bench.dir.path().join("source");
    sample(&source);
    let before = listing(&source);
    let name = save_dir(&bench, &source);
    std::fs::remove_dir_all(&source).unwrap();
    let target = bench.dir.path().join("out/there");
    let report = bench
        .engine
        .export(name, &target, &ExportOptions::default())
        .unwrap();
    assert_eq!(listing(&target), before);
    assert_eq!(
        report.files,
        before.values().filter(|(kind, ..)| *kind != 'd').count() as u64
    );
    let left: Vec<_> = std::fs::read_dir(target.parent().unwrap())
        .unwrap()
        .collect();
    assert_eq!(left.len(), 1, "no temporary directory is left");
}

#[test]
fn the_trainer_may_delete_its_directory_as_soon_as_save_returns() {
    let bench = Bench::new();
    let source = bench.dir.path().join("source");
    put(&source, "w", 0o644, &noise(1, 20 << 20));
    let pending = bench
        .run()
        .save(at(1, vec![EntrySource::Directory(source.clone())]))
        .unwrap();
    std::fs::write(source.join("w"), b"other").unwrap();
    pending.wait(None).unwrap();
    assert_eq!(
        load(&bench.engine, pending.name()).unwrap()["w"],
        noise(1, 20 << 20)
    );
}

#[test]
fn what_can_not_come_back_is_refused_at_once() {
    let bench = Bench::new();
    let run = bench.run();
    let cases: [(&str, Maker); 5] = [
        ("outside", &|root| {
            symlink("/etc/passwd", root.join("x")).unwrap();
        }),
        ("outside", &|root| symlink("../x", root.join("x")).unwrap()),
        ("outside", &|root| {
            symlink("a/../../x", root.join("x")).unwrap();
        }),
        ("pipe", &|root| {
            assert!(
                std::process::Command::new("mkfifo")
                    .arg(root.join("x"))
                    .status()
                    .unwrap()
                    .success()
            );
        }),
        ("can not be saved", &|root| {
            std::fs::write(root.join("a\\b"), b"").unwrap();
        }),
    ];
    for (index, (reason, make)) in cases.iter().enumerate() {
        let root = bench.dir.path().join(format!("case{index}"));
        std::fs::create_dir(&root).unwrap();
        make(&root);
        let error = run
            .save(at(1, vec![EntrySource::Directory(root)]))
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.message().contains(reason), "{error}");
    }
    let absent = run.save(at(
        1,
        vec![EntrySource::Directory(bench.dir.path().join("absent"))],
    ));
    assert_eq!(absent.unwrap_err().kind(), ErrorKind::NotFound);
    let file = bench.dir.path().join("file");
    std::fs::write(&file, b"").unwrap();
    assert_eq!(
        run.save(at(1, vec![EntrySource::Directory(file)]))
            .unwrap_err()
            .kind(),
        ErrorKind::Invalid
    );
}

#[test]
fn nothing_that_is_there_is_overwritten() {
    let bench = Bench::new();
    let name = save(&bench.run(), 1, &[bytes("w", vec![1])]);
    let target = bench.dir.path().join("mine");
    put(&target, "thesis.tex", 0o644, b"years of work");
    let error = bench
        .engine
        .export(name, &target, &ExportOptions::default())
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert_eq!(listing(&target).len(), 1);
    // A file of that name, a link to a directory: neither is ours.
    let file = bench.dir.path().join("file");
    std::fs::write(&file, b"x").unwrap();
    let link = bench.dir.path().join("link");
    symlink("mine", &link).unwrap();
    for target in [file, link] {
        let error = bench
            .engine
            .export(name, &target, &ExportOptions::default())
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
    }
    let empty = bench.dir.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    bench
        .engine
        .export(name, &empty, &ExportOptions::default())
        .unwrap();
}

#[test]
fn a_damaged_checkpoint_leaves_no_directory() {
    let bench = Bench::new();
    let name = save(&bench.run(), 1, &[bytes("w", noise(1, 5000))]);
    bench.damage(&bench.files("chunks")[0], |content| content[9] ^= 1);
    let target = bench.dir.path().join("out");
    let error = bench
        .engine
        .export(name, &target, &ExportOptions::default())
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(!target.exists());
    assert!(bench.engine.materialize(name).is_err());
    let leftovers = std::fs::read_dir(bench.dir.path())
        .unwrap()
        .filter(|entry| {
            entry
                .as_ref()
                .unwrap()
                .file_name()
                .to_string_lossy()
                .starts_with(".out")
        });
    assert_eq!(leftovers.count(), 0);
}

/// Parses a safetensors file by its rules: aligned header, no holes, full coverage.
fn read_safetensors(path: &Path) -> BTreeMap<String, (String, Vec<u64>, Vec<u8>)> {
    let content = std::fs::read(path).unwrap();
    let length = u64::from_le_bytes(content[..8].try_into().unwrap()) as usize;
    assert_eq!(length % 8, 0);
    assert_eq!(content[8], b'{');
    let header: serde_json::Map<String, Value> =
        serde_json::from_slice(&content[8..8 + length]).unwrap();
    let data = &content[8 + length..];
    let mut spans = Vec::new();
    let mut found = BTreeMap::new();
    for (name, value) in header {
        if name == "__metadata__" {
            assert!(value.as_object().unwrap().values().all(Value::is_string));
            continue;
        }
        let offsets: Vec<usize> = serde_json::from_value(value["data_offsets"].clone()).unwrap();
        let shape: Vec<u64> = serde_json::from_value(value["shape"].clone()).unwrap();
        spans.push((offsets[0], offsets[1]));
        let dtype = value["dtype"].as_str().unwrap().to_owned();
        found.insert(name, (dtype, shape, data[offsets[0]..offsets[1]].to_vec()));
    }
    spans.sort_unstable();
    let mut end = 0;
    for (start, stop) in spans {
        assert_eq!(start, end, "no hole");
        end = stop;
    }
    assert_eq!(end, data.len(), "full coverage");
    found
}

#[test]
fn a_state_tree_becomes_safetensors_and_json() {
    let bench = Bench::new();
    let mut tensors = vec![
        bytes("model.w", noise(1, (40 << 20) + 3)),
        floats("model.b", &[1.0, 2.0]),
        bytes("optimizer.empty", Vec::new()),
        Tensor {
            name: "names".to_owned(),
            dtype: "numpy:<U2".parse().unwrap(),
            shape: vec![2],
            data: noise(3, 16),
        },
    ];
    tensors[1].dtype = "bf16".parse().unwrap();
    tensors[1].shape = vec![2, 2];
    let blobs = [noise(9, 70_000)];
    let pending = bench
        .run()
        .save(at(3, vec![state(&tensors, &blobs)]))
        .unwrap();
    pending.wait(None).unwrap();
    let target = bench.dir.path().join("out");
    bench
        .engine
        .export(pending.name(), &target, &ExportOptions::default())
        .unwrap();
    let found = read_safetensors(&target.join("state.safetensors"));
    assert_eq!(
        found["model.w"],
        (
            "U8".to_owned(),
            vec![(40 << 20) + 3],
            tensors[0].data.clone()
        )
    );
    assert_eq!(
        found["model.b"],
        ("BF16".to_owned(), vec![2, 2], tensors[1].data.clone())
    );
    assert_eq!(found["optimizer.empty"].1, [0]);
    assert_eq!(
        found["names"],
        ("U8".to_owned(), vec![2, 8], tensors[3].data.clone())
    );
    assert_eq!(found["__blob__.0"].2, blobs[0]);
    let json: Value =
        serde_json::from_slice(&std::fs::read(target.join("state.json")).unwrap()).unwrap();
    assert_eq!(json["tensors"][3]["dtype"], "numpy:<U2");
    assert_eq!(json["tensors"][3]["stored_as"], "names");
    assert_eq!(json["tree"]["t"], "dict");

    // Only some of it.
    let some = bench.dir.path().join("some");
    let options = ExportOptions {
        keys: Some("model.*".to_owned()),
        ..ExportOptions::default()
    };
    bench
        .engine
        .export(pending.name(), &some, &options)
        .unwrap();
    let found = read_safetensors(&some.join("state.safetensors"));
    assert_eq!(found.keys().collect::<Vec<_>>(), ["model.b", "model.w"]);
    let none = ExportOptions {
        keys: Some("nothing*".to_owned()),
        ..ExportOptions::default()
    };
    let error = bench
        .engine
        .export(pending.name(), &bench.dir.path().join("none"), &none)
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[test]
fn shards_of_several_ranks_are_exported_as_one_model() {
    let bench = Bench::new();
    let ranks = bench.ranks(2);
    let whole: Vec<u8> = (0..48).collect();
    // Columns 0–2 on rank 0, 3–5 on rank 1, of a matrix of 8 × 6.
    let shard = |first: usize| -> &'static [u8] {
        whole
            .chunks(6)
            .flat_map(|row| row[first..first + 3].to_vec())
            .collect::<Vec<u8>>()
            .leak()
    };
    let pending: Vec<_> = ranks
        .iter()
        .enumerate()
        .map(|(rank, run)| {
            let leaf = |tensor| {
                StateNode::Tensor(TensorLeaf {
                    tensor,
                    framework: Framework::Numpy,
                    view: None,
                    parameter: false,
                    requires_grad: false,
                    device: None,
                })
            };
            let dict = |key: &str, value| StateNode::Dict {
                kind: DictKind::Plain,
                k: vec![StateKey::Str(key.to_owned())],
                v: vec![value],
            };
            let (
                StateNode::Dict { mut k, mut v, kind },
                StateNode::Dict {
                    k: more, v: others, ..
                },
            ) = (
                dict("model", dict("w", leaf(0))),
                dict("optimizer", dict("m", leaf(1))),
            )
            else {
                unreachable!()
            };
            k.extend(more);
            v.extend(others);
            let (path, tree) = ("state".to_owned(), StateNode::Dict { kind, k, v });
            let tensor = |name: &str, dtype: &str, data: &'static [u8], offset: u64| TensorSource {
                name: name.to_owned(),
                dtype: dtype.parse().unwrap(),
                shape: vec![8, 3],
                global_shape: Some(vec![8, 6]),
                global_offset: Some(vec![0, offset]),
                data: data.into(),
            };
            let tensors = vec![
                tensor("model.w", "u8", shard(rank * 3), rank as u64 * 3),
                tensor("optimizer.m", "u8", shard(rank * 3), rank as u64 * 3),
            ];
            let entry = EntrySource::State {
                path,
                tree,
                tensors,
                blobs: Vec::new(),
            };
            run.save(SaveRequest {
                sharded: true,
                rank: rank as u32,
                world_size: 2,
                ..at(1, vec![entry])
            })
            .unwrap()
        })
        .collect();
    for pending in &pending {
        pending.wait(None).unwrap();
    }
    let target = bench.dir.path().join("hf");
    let options = ExportOptions {
        layout: ExportLayout::Hf,
        ..ExportOptions::default()
    };
    bench
        .engine
        .export(pending[0].name(), &target, &options)
        .unwrap();
    let found = read_safetensors(&target.join("model.safetensors"));
    assert_eq!(found.len(), 1, "the model alone");
    assert_eq!(found["w"], ("U8".to_owned(), vec![8, 6], whole.clone()));
    // As it was saved: one directory per part.
    let parts = bench.dir.path().join("parts");
    bench
        .engine
        .export(pending[0].name(), &parts, &ExportOptions::default())
        .unwrap();
    assert!(parts.join("trainer-1/state.safetensors").is_file());
}

#[test]
fn a_tar_download_holds_what_an_export_holds() {
    let bench = Bench::new();
    let source = bench.dir.path().join("source");
    sample(&source);
    let name = save_dir(&bench, &source);
    let mut archive = Vec::new();
    bench.engine.write_tar(name, &mut archive).unwrap();
    let path = bench.dir.path().join("x.tar");
    std::fs::write(&path, archive).unwrap();
    let target = bench.dir.path().join("untar");
    std::fs::create_dir(&target).unwrap();
    let status = std::process::Command::new("tar")
        .arg("xpf")
        .arg(&path)
        .arg("-C")
        .arg(&target)
        .status()
        .unwrap();
    assert!(status.success());
    assert_eq!(listing(&target), listing(&source));
}

#[test]
fn a_materialised_checkpoint_is_read_only_and_made_once() {
    let bench = Bench::new();
    let source = bench.dir.path().join("source");
    sample(&source);
    let name = save_dir(&bench, &source);
    let first = bench.engine.materialize(name).unwrap();
    assert!(first.starts_with(bench.dir.path().join("cache")));
    let content = |listing: Listing| -> BTreeMap<String, Vec<u8>> {
        listing
            .into_iter()
            .map(|(path, (_, _, content))| (path, content))
            .collect()
    };
    assert_eq!(content(listing(&first)), content(listing(&source)));
    for (path, (kind, mode, _)) in listing(&first) {
        assert!(kind != 'f' || mode & 0o222 == 0, "{path} can be written");
    }
    // The second time nothing is read: the chunks may be gone.
    bench.remove_below("chunks");
    assert_eq!(bench.engine.materialize(name).unwrap(), first);
}

#[test]
fn a_directory_is_imported_without_a_process() {
    let bench = Bench::new();
    let run = bench.run();
    save(&run, 5, &[bytes("w", vec![1])]);
    run.finish(None, None, None).unwrap();
    let source = bench.dir.path().join("source");
    sample(&source);
    let info = bench
        .engine
        .import_dir(run.run(), &source, Step(5), Some("imported".to_owned()))
        .unwrap();
    assert_eq!((info.step, info.k), (Step(5), 1));
    let name = runtree_core::manifest::CheckpointName {
        run: run.run(),
        key: "1-5-1".parse().unwrap(),
    };
    let target = bench.dir.path().join("out");
    bench
        .engine
        .export(name, &target, &ExportOptions::default())
        .unwrap();
    assert_eq!(listing(&target), listing(&source));
}
