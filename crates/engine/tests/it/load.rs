//! Loading: exactly the saved bytes, or an error that names what is hurt. Whatever was changed in the store.

use std::path::PathBuf;

use runtree_core::ErrorKind;
use runtree_core::manifest::CheckpointName;
use runtree_engine::SaveRequest;

use crate::save_support::*;

/// Saved by a process that ended well: its journal says that the commit was written.
fn saved() -> (Bench, CheckpointName, Vec<Tensor>) {
    let bench = Bench::new();
    let tensors = vec![
        bytes("model.weight", noise(1, (2 << 20) + 77)),
        bytes("model.bias", noise(2, 300)),
        floats("optimizer.step", &[3.0]),
    ];
    let run = bench.run();
    let name = save(&run, 7, &tensors);
    run.finish(None, None, None).unwrap();
    (bench, name, tensors)
}

fn file_of(bench: &Bench, kind: &str) -> PathBuf {
    let found = bench
        .files("runs")
        .into_iter()
        .find(|path| path.to_string_lossy().contains(&format!("/{kind}/")));
    found.unwrap()
}

#[test]
fn a_flipped_bit_in_any_chunk_names_the_tensor_and_the_chunk() {
    let (bench, name, tensors) = saved();
    for path in bench.files("chunks") {
        let length = bench.size(&path) as usize;
        let hash = path.file_name().unwrap().to_string_lossy()[..64].to_owned();
        for at in [0, 1, length / 3, length / 2, length - 1] {
            bench.damage(&path, |content| content[at] ^= 1 << (at % 8));
            let error = load(&bench.engine, name).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt);
            let text = error.chain();
            let tensor = if length > 10_000 {
                "model.weight"
            } else {
                "model.bias"
            };
            let named =
                text.contains(&hash) && (text.contains(tensor) || text.contains("optimizer.step"));
            assert!(named, "byte {at} of {length}: {text}");
            bench.damage(&path, |content| content[at] ^= 1 << (at % 8));
        }
    }
    assert_eq!(
        load(&bench.engine, name).unwrap(),
        expected(&tensors, &[]),
        "undamaged again"
    );
}

#[test]
fn a_flipped_bit_anywhere_in_a_part_or_a_commit_is_noticed() {
    let (bench, name, tensors) = saved();
    for kind in ["parts", "commits"] {
        let path = file_of(&bench, kind);
        let length = bench.size(&path) as usize;
        // Two puts and a load for each: in a bucket some bytes stand for all, others for each length of a manifest.
        let step = if bench.is_bucket() {
            length / 40 + 1
        } else {
            1
        };
        for at in (0..length).step_by(step) {
            for bit in [0, 3, 6] {
                bench.damage(&path, |content| content[at] ^= 1 << bit);
                let error = match load(&bench.engine, name) {
                    Err(error) => error,
                    // Two spellings of one record can say the same; nothing else may load.
                    Ok(loaded) => {
                        assert_eq!(kind, "commits", "a part's bytes are hashed");
                        assert_eq!(loaded, expected(&tensors, &[]));
                        bench.damage(&path, |content| content[at] ^= 1 << bit);
                        continue;
                    }
                };
                let kind_is_right =
                    matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Unsupported);
                assert!(kind_is_right, "{kind} byte {at}: {}", error.chain());
                assert!(
                    error.chain().contains(&name.key.to_string()) || error.chain().contains(kind),
                    "{}",
                    error.chain()
                );
                bench.damage(&path, |content| content[at] ^= 1 << bit);
            }
        }
    }
    assert_eq!(load(&bench.engine, name).unwrap(), expected(&tensors, &[]));
}

#[test]
fn truncated_and_missing_files_are_noticed() {
    let (bench, name, tensors) = saved();
    let mut files = bench.files("chunks");
    files.push(file_of(&bench, "parts"));
    files.push(file_of(&bench, "commits"));
    for path in files {
        let whole = bench.read(&path);
        for length in [0, whole.len() / 2, whole.len() - 1] {
            bench.write(&path, &whole[..length]);
            let error = load(&bench.engine, name).unwrap_err();
            assert_eq!(
                error.kind(),
                ErrorKind::Corrupt,
                "{}: {}",
                path.display(),
                error.chain()
            );
        }
        bench.remove(&path);
        let error = load(&bench.engine, name).unwrap_err();
        // A commit that its writer journaled, too.
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{}", error.chain());
        bench.write(&path, whole);
    }
    assert_eq!(load(&bench.engine, name).unwrap(), expected(&tensors, &[]));
}

#[test]
fn another_object_of_the_same_content_serves_for_a_damaged_one() {
    let (bench, name, tensors) = saved();
    for path in bench.files("chunks") {
        let text = path.to_string_lossy().into_owned();
        let spare = format!("{}0000000000001", &text[..text.len() - 13]);
        bench.copy(&path, spare);
        bench.damage(&path, |content| content[0] ^= 1);
    }
    assert_eq!(load(&bench.engine, name).unwrap(), expected(&tensors, &[]));
}

#[test]
fn one_process_goes_back_to_the_newest_good_checkpoint_and_says_so() {
    let bench = Bench::new();
    let run = bench.run();
    let tensors: Vec<[Tensor; 1]> = (0..4).map(|step| [bytes("w", noise(step, 5000))]).collect();
    let names: Vec<_> = (0..4)
        .map(|step| save(&run, step as i64, &tensors[step]))
        .collect();
    for broken in [3, 2] {
        let hash = bench.engine.load_plan(names[broken]).unwrap().parts[0].chunks[0]
            .hash
            .to_string();
        let path = bench
            .files("chunks")
            .into_iter()
            .find(|path| path.to_string_lossy().contains(&hash))
            .unwrap();
        bench.damage(&path, |content| content[17] ^= 4);
    }
    let (loaded, fallback) = bench
        .engine
        .load_or_fall_back(run.run(), names[3], 1, |manifest| {
            read_all(&bench.engine, manifest)
        })
        .unwrap();
    assert_eq!(loaded, expected(&tensors[1], &[]));
    let fallback = fallback.unwrap();
    assert_eq!((fallback.wanted, fallback.used), (names[3], names[1]));
    assert!(
        fallback.message.contains("step 1 instead of step 3"),
        "{}",
        fallback.message
    );

    // An undamaged one is loaded without a word.
    let (_, fallback) = bench
        .engine
        .load_or_fall_back(run.run(), names[1], 1, |manifest| {
            read_all(&bench.engine, manifest)
        })
        .unwrap();
    assert!(fallback.is_none());
}

#[test]
fn several_ranks_never_go_back_by_themselves() {
    let bench = Bench::new();
    let ranks = bench.ranks(4);
    let data: Vec<[Tensor; 1]> = (0..4).map(|rank| [bytes("w", noise(rank, 5000))]).collect();
    for step in [1, 2] {
        let pending: Vec<_> = ranks
            .iter()
            .enumerate()
            .map(|(rank, run)| {
                let tensors: &'static [Tensor] =
                    vec![bytes("w", noise(rank as u64 * 10 + step, 5000))].leak();
                run.save(SaveRequest {
                    sharded: true,
                    rank: rank as u32,
                    world_size: 4,
                    ..at(step as i64, vec![state(tensors, &[])])
                })
                .unwrap()
            })
            .collect();
        for pending in pending {
            pending.wait(None).unwrap();
        }
    }
    drop(data);
    let name = CheckpointName {
        run: ranks[0].run(),
        key: "1-2-0".parse().unwrap(),
    };
    let hash = bench.engine.load_plan(name).unwrap().parts[3].chunks[0]
        .hash
        .to_string();
    let path = bench
        .files("chunks")
        .into_iter()
        .find(|path| path.to_string_lossy().contains(&hash))
        .unwrap();
    bench.damage(&path, |content| content[0] ^= 1);
    let error = bench
        .engine
        .load_or_fall_back(name.run, name, 4, |manifest| {
            read_all(&bench.engine, manifest)
        })
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.chain().contains("trainer-3"), "{}", error.chain());
}

#[test]
fn a_checkpoint_that_does_not_exist_is_not_found() {
    let (bench, name, _) = saved();
    let absent = CheckpointName {
        key: "1-8-0".parse().unwrap(),
        ..name
    };
    assert_eq!(
        bench.engine.load_plan(absent).unwrap_err().kind(),
        ErrorKind::NotFound
    );
}
