//! Files that hold tensors: cut along them, shared with states and with each other, and byte for byte what they were.

use proptest::prelude::*;
use runtree_core::ErrorKind;
use runtree_core::manifest::{CheckpointName, EntryContent};
use runtree_engine::{EntrySource, ExportOptions, ReadJob};

use crate::foreign_files::{Blob, ZipEntry, append_safetensors, append_zip};
use crate::save_support::*;

const LARGE: usize = 1 << 20;

fn save_files(bench: &Bench, step: i64, files: &[(&str, &[u8])]) -> CheckpointName {
    let root = tempfile::tempdir().unwrap();
    for (path, content) in files {
        let path = root.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    let request = at(step, vec![EntrySource::Directory(root.path().to_owned())]);
    let pending = bench.run().save(request).unwrap();
    pending.wait(None).unwrap();
    pending.name()
}

/// The files of a checkpoint, through an export.
fn exported(bench: &Bench, name: CheckpointName, path: &str) -> Vec<u8> {
    let target = tempfile::tempdir().unwrap();
    let target = target.path().join("out");
    bench
        .engine
        .export(name, &target, &ExportOptions::default())
        .unwrap();
    std::fs::read(target.join(path)).unwrap()
}

fn torch_save(tensors: &[Tensor]) -> Vec<u8> {
    let mut entries = vec![ZipEntry::stored("archive/data.pkl", vec![b'p'; 700])];
    entries.extend(tensors.iter().enumerate().map(|(index, tensor)| {
        ZipEntry::stored(&format!("archive/data/{index}"), tensor.data.clone())
    }));
    let mut file = Vec::new();
    append_zip(&mut file, &entries, 0);
    file
}

/// As DCP writes it: a zip for each tensor.
fn distcp(tensors: &[Tensor]) -> Vec<u8> {
    let mut file = Vec::new();
    for tensor in tensors {
        let entries = [ZipEntry::stored("archive/data/0", tensor.data.clone())];
        append_zip(&mut file, &entries, 0);
    }
    file
}

fn safetensors(tensors: &[Tensor]) -> Vec<u8> {
    let named: Vec<_> = tensors
        .iter()
        .map(|tensor| (tensor.name.clone(), Blob(tensor.data.clone())))
        .collect();
    let mut file = Vec::new();
    append_safetensors(&mut file, &named);
    file
}

#[test]
fn files_of_tensors_that_a_state_has_store_their_headers_alone() {
    let bench = Bench::new();
    let tensors = [
        bytes("a", noise(1, 2 * LARGE + 5)),
        // More than a chunk.
        bytes("b", noise(2, 65 * LARGE)),
        bytes("c", noise(3, LARGE)),
    ];
    save(&bench.run(), 1, &tensors);
    let mut before = bench.chunk_bytes();
    for (step, (path, file)) in [
        ("model.safetensors", safetensors(&tensors)),
        ("optimizer.pt", torch_save(&tensors)),
        ("__0_0.distcp", distcp(&tensors)),
    ]
    .into_iter()
    .enumerate()
    {
        let name = save_files(&bench, step as i64 + 2, &[(path, &file)]);
        let now = bench.chunk_bytes();
        assert!(now - before < 4096, "{path} added {} bytes", now - before);
        assert!(now > before);
        before = now;
        assert!(exported(&bench, name, path) == file);
    }
}

#[test]
fn a_frozen_tensor_is_stored_once_however_files_around_it_change() {
    let bench = Bench::new();
    let frozen = bytes("frozen", noise(1, 3 * LARGE));
    let adapter = |seed| bytes("adapter", noise(seed, 70_000));
    save_files(
        &bench,
        1,
        &[("a.pt", &torch_save(&[adapter(2), frozen.clone()]))],
    );
    let before = bench.chunk_bytes();
    // Its place in the file is another one, too.
    let longer = [adapter(3), adapter(4), frozen];
    save_files(&bench, 2, &[("deeper/b.pt", &torch_save(&longer))]);
    let added = bench.chunk_bytes() - before;
    assert!(added < 150_000, "{added} bytes");
}

#[test]
fn the_names_in_a_safetensors_file_are_tensors_of_its_entry() {
    let bench = Bench::new();
    let tensors = [
        bytes("small", noise(1, 10)),
        bytes("large", noise(2, LARGE + 1)),
        bytes("empty", Vec::new()),
        bytes("small too", noise(3, 300)),
        bytes("last", noise(4, 70 * LARGE)),
    ];
    let file = safetensors(&tensors);
    let name = save_files(&bench, 1, &[("a", b"before"), ("m.safetensors", &file)]);
    let manifest = bench.engine.load_plan(name).unwrap();
    let entry = &manifest.parts[0].entries[1];
    let EntryContent::File {
        tensors: found,
        extents,
        ..
    } = &entry.content
    else {
        panic!("{entry:?} is no file");
    };
    // Header, large, what is between, the last one in two chunks.
    assert_eq!(extents.len(), 5);
    assert_eq!(found.len(), tensors.len());
    for (found, tensor) in found.iter().zip(&tensors) {
        assert_eq!(
            (&found.name, &found.dtype, &found.shape),
            (&tensor.name, &tensor.dtype, &tensor.shape)
        );
        let mut into = vec![0; tensor.data.len()];
        let job = ReadJob {
            part: 0,
            extents: &found.extents,
            what: &found.name,
            into: &mut into,
        };
        bench.engine.read_tensors(&manifest, vec![job], 0).unwrap();
        assert!(into == tensor.data, "{}", tensor.name);
    }
    let shown: Vec<_> = bench.engine.tensors(name).unwrap();
    assert_eq!(
        shown
            .iter()
            .map(|tensor| (tensor.name.as_str(), tensor.entry.as_str(), tensor.bytes))
            .collect::<Vec<_>>(),
        tensors
            .iter()
            .map(|tensor| (
                tensor.name.as_str(),
                "m.safetensors",
                tensor.data.len() as u64
            ))
            .collect::<Vec<_>>()
    );
}

#[test]
fn checkpoints_of_files_differ_by_tensors() {
    let bench = Bench::new();
    let tensors = |seed| {
        let frozen = bytes("frozen", noise(1, LARGE + 9));
        [frozen, bytes("moved", noise(seed, 100))]
    };
    let [a, b] = [2, 3].map(|seed| {
        let file = safetensors(&tensors(seed));
        save_files(&bench, seed as i64, &[("m.safetensors", &file)])
    });
    let diff = bench.engine.diff_checkpoints(a, b).unwrap();
    assert_eq!(diff.equal_tensors, 1);
    let changed: Vec<_> = diff.tensors.iter().map(|each| each.name.as_str()).collect();
    assert_eq!(changed, ["moved"]);
}

#[test]
fn a_single_file_is_refused_with_what_to_do_instead() {
    let bench = Bench::new();
    let file = bench.dir.path().join("model.pt");
    std::fs::write(&file, torch_save(&[bytes("a", noise(1, 100))])).unwrap();
    let error = bench
        .run()
        .save(at(1, vec![EntrySource::Directory(file)]))
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.message().contains("model.pt is a file"), "{error}");
    assert!(error.hint().is_some_and(|hint| hint.contains("log_file")));
}

/// Contents of a few sizes around the one from which on tensors are cut out.
fn content() -> impl Strategy<Value = Vec<u8>> {
    let sizes = prop_oneof![0..2000_usize, LARGE - 1..LARGE + 2000];
    (sizes, any::<u64>()).prop_map(|(size, seed)| noise(seed, size))
}

fn file() -> impl Strategy<Value = Blob> {
    let tensors = || {
        prop::collection::vec(content(), 0..4).prop_map(|contents| {
            let tensor = |(index, data)| bytes(&format!("t{index}"), data);
            contents
                .into_iter()
                .enumerate()
                .map(tensor)
                .collect::<Vec<_>>()
        })
    };
    let damage = prop::option::of((any::<prop::sample::Index>(), any::<u8>(), 0..3_u8));
    let whole = prop_oneof![
        tensors().prop_map(|tensors| safetensors(&tensors)),
        tensors().prop_map(|tensors| torch_save(&tensors)),
        tensors().prop_map(|tensors| distcp(&tensors)),
        (tensors(), tensors()).prop_map(|(a, b)| [distcp(&a), safetensors(&b)].concat()),
        (content(), tensors()).prop_map(|(head, b)| [head, distcp(&b)].concat()),
        content(),
    ];
    (whole, damage).prop_map(|(mut file, damage)| {
        if let Some((place, byte, kind)) = damage
            && !file.is_empty()
        {
            // Where a format says what it is: its first or last few hundred bytes.
            let at = place.index(file.len().min(600));
            match kind {
                0 => file[at] ^= byte,
                1 => {
                    let last = file.len() - 1;
                    file[last - at] ^= byte;
                }
                _ => file.truncate(file.len() - at),
            }
        }
        Blob(file)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn files_come_back_byte_for_byte_whole_or_damaged(files in prop::collection::vec(file(), 1..4)) {
        let bench = Bench::new();
        let names: Vec<String> = (0..files.len()).map(|index| format!("f{index}.bin")).collect();
        let named: Vec<(&str, &[u8])> = names.iter().map(String::as_str).zip(files.iter().map(|file| file.0.as_slice())).collect();
        let name = save_files(&bench, 1, &named);
        let target = tempfile::tempdir().unwrap();
        let target = target.path().join("out");
        bench.engine.export(name, &target, &ExportOptions::default()).unwrap();
        for (path, content) in &named {
            prop_assert!(&std::fs::read(target.join(path)).unwrap() == content, "{}", path);
        }
        prop_assert_eq!(bench.engine.verify(Some(name)).unwrap().problems, Vec::<String>::new());
    }
}
