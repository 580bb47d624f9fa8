//! Directories as trainers write them, and what is left of them when the trainer is killed.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::*;

/// Files by name, written in this order, the first an hour ago.
fn judged(files: &[(&str, &[u8])]) -> Verdict {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), files);
    verdict(&[dir.path()])
}

#[expect(
    clippy::disallowed_methods,
    reason = "times of files are those of the system's clock"
)]
fn write(dir: &Path, files: &[(&str, &[u8])]) {
    let start = SystemTime::now() - Duration::from_secs(3600);
    for (at, (name, bytes)) in files.iter().enumerate() {
        let path = dir.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        let file = fs::OpenOptions::new().append(true).open(&path).unwrap();
        file.set_modified(start + Duration::from_secs(10 * at as u64))
            .unwrap();
    }
}

fn verdict(directories: &[&Path]) -> Verdict {
    let sizes: Vec<Sizes> = directories
        .iter()
        .map(|directory| {
            let mut found = Sizes::new();
            crate::layouts::walk_sizes(directory, "", &mut found).unwrap();
            found
        })
        .collect();
    look(&Looked {
        directories,
        sizes: &sizes,
    })
    .unwrap()
}

fn torn(verdict: Verdict) -> String {
    match verdict {
        Verdict::Torn(why) => why,
        other => panic!("{other:?}"),
    }
}

fn safetensors() -> Vec<u8> {
    let header = br#"{"w":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}"#;
    [&(header.len() as u64).to_le_bytes()[..], header, &[1; 16]].concat()
}

const ZIP: &[u8] = b"PK\x03\x04...PK\x05\x06\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
const METADATA: &[u8] = b"pickle __0_0.distcp __1_0.distcp";

#[test]
fn what_the_trainer_of_hugging_face_wrote_is_whole_with_its_state_alone() {
    let weights = safetensors();
    let all: [(&str, &[u8]); 6] = [
        ("model.safetensors", &weights),
        ("config.json", b"{}"),
        ("optimizer.pt", ZIP),
        ("scheduler.pt", ZIP),
        ("rng_state.pth", ZIP),
        ("trainer_state.json", b"{\"global_step\": 5}"),
    ];
    assert_eq!(judged(&all), Verdict::Whole);
    for count in 1..all.len() {
        let verdict = judged(&all[..count]);
        // Weights alone may be all there is of somebody else's format.
        assert_ne!(verdict, Verdict::Whole, "{count} files");
        assert_eq!(count < 3, verdict == Verdict::Unmarked, "{count} files");
    }
    for (name, cut) in [
        ("model.safetensors", 20),
        ("optimizer.pt", 9),
        ("trainer_state.json", 9),
        ("config.json", 1),
        ("rng_state.pth", 0),
    ] {
        let mut files = all;
        let at = files.iter().position(|(other, _)| *other == name).unwrap();
        files[at].1 = &files[at].1[..cut];
        assert!(torn(judged(&files)).contains(name), "{name}");
    }
    let mut interrupted = all.to_vec();
    interrupted.push(("checkpoint-is-incomplete.txt", b""));
    assert!(torn(judged(&interrupted)).contains("incomplete"));
}

#[test]
fn a_mark_that_is_older_than_other_files_says_nothing() {
    let state: &[u8] = b"{}";
    let stale = |verdict| matches!(verdict, Verdict::Stale(why) if why.contains("newer than"));
    assert!(stale(judged(&[
        ("trainer_state.json", state),
        ("model.bin", ZIP)
    ])));
    assert!(stale(judged(&[("STABLE", b""), ("weights", b"x")])));
    assert_eq!(
        judged(&[("weights", b"x"), ("STABLE", b"")]),
        Verdict::Whole
    );
}

#[test]
fn a_loss_that_was_not_finite_and_a_large_config_are_no_damage() {
    let large = format!("{{\"id2label\": \"{}\"}}", "x".repeat(2 << 20));
    let files: [(&str, &[u8]); 3] = [
        ("config.json", large.as_bytes()),
        ("optimizer.pt", ZIP),
        (
            "trainer_state.json",
            b"{\"log_history\": [{\"loss\": NaN, \"grad_norm\": Infinity}]}",
        ),
    ];
    assert_eq!(judged(&files), Verdict::Whole);
}

#[test]
fn shards_that_an_index_names_must_be_there() {
    let weights = safetensors();
    let index = br#"{"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}"#;
    let one: [(&str, &[u8]); 3] = [
        ("model-00001-of-00002.safetensors", &weights),
        ("model.safetensors.index.json", index),
        ("trainer_state.json", b"{}"),
    ];
    assert!(torn(judged(&one)).contains("model-00002-of-00002.safetensors is missing"));
    let both = [
        ("model-00002-of-00002.safetensors", weights.as_slice()),
        one[0],
        one[1],
        one[2],
    ];
    assert_eq!(judged(&both), Verdict::Whole);
}

#[test]
fn shards_of_torch_are_whole_with_their_metadata_also_in_folders_and_of_several_nodes() {
    let first: (&str, &[u8]) = ("__0_0.distcp", b"x");
    let second: (&str, &[u8]) = ("__1_0.distcp", b"y");
    assert_eq!(
        judged(&[first, second, (".metadata", METADATA)]),
        Verdict::Whole
    );
    assert!(torn(judged(&[first, second])).contains("no .metadata"));
    assert!(torn(judged(&[first, (".metadata", METADATA)])).contains("__1_0.distcp is missing"));
    // As FSDP in the trainer of Hugging Face has them.
    let folder: [(&str, &[u8]); 4] = [
        ("pytorch_model_fsdp_0/__0_0.distcp", b"x"),
        ("pytorch_model_fsdp_0/__1_0.distcp", b"y"),
        ("pytorch_model_fsdp_0/.metadata", METADATA),
        ("trainer_state.json", b"{}"),
    ];
    assert_eq!(judged(&folder), Verdict::Whole);
    assert!(
        torn(judged(&[folder[0], folder[2], folder[3]]))
            .contains("pytorch_model_fsdp_0/__1_0.distcp")
    );
    // Each node has its own shard, the first the metadata.
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write(b.path(), &[second]);
    write(a.path(), &[first, (".metadata", METADATA)]);
    assert_eq!(verdict(&[a.path(), b.path()]), Verdict::Whole);
    assert!(matches!(verdict(&[a.path()]), Verdict::Torn(_)));
}

#[test]
fn what_prime_rl_wrote_needs_the_trainers_part() {
    let orchestrator: (&str, &[u8]) = ("orchestrator/progress.pt", ZIP);
    assert!(torn(judged(&[orchestrator])).contains("only the orchestrator's part"));
    let trainer: [(&str, &[u8]); 3] = [
        ("trainer/__0_0.distcp", b"x"),
        ("trainer/__1_0.distcp", b"y"),
        ("trainer/.metadata", METADATA),
    ];
    assert_eq!(
        judged(&[orchestrator, trainer[0], trainer[1], trainer[2]]),
        Verdict::Whole
    );
    assert!(matches!(
        judged(&[orchestrator, trainer[0], trainer[1]]),
        Verdict::Torn(_)
    ));
}

#[test]
fn nothing_says_of_other_formats_that_they_are_whole() {
    let weights = safetensors();
    let adapter: [(&str, &[u8]); 2] = [
        ("adapter_model.safetensors", &weights),
        ("adapter_config.json", b"{\"r\": 8}"),
    ];
    assert_eq!(judged(&adapter), Verdict::Unmarked);
    assert_eq!(judged(&[("weights.npz", ZIP)]), Verdict::Unmarked);
    assert!(matches!(
        judged(&[("weights.npz", &ZIP[..8])]),
        Verdict::Torn(_)
    ));
    assert_eq!(torn(judged(&[])), "empty");
}
