use std::collections::BTreeMap;

use runtree_core::manifest::{
    BLOCK_BYTES, BlockChecksums, ChunkRecord, Entry, EntryContent, Extent, JournalPosition,
    MAX_CHUNK_BYTES, PartManifest, Record as _,
};
use runtree_core::state::{Dtype, Framework, StateNode, TensorLeaf, TensorRecord};
use runtree_core::{
    AttemptNumber, ChunkHash, ComponentName, ErrorKind, RunId, SaveKey, Step, Timestamp, WriterId,
};

fn chunk(bytes: u64) -> ChunkRecord {
    let hash = ChunkHash::of(&bytes.to_le_bytes());
    ChunkRecord {
        hash,
        bytes,
        crc64: BlockChecksums(vec![7; bytes.div_ceil(BLOCK_BYTES) as usize]),
        object: format!("{hash}.0000000000001"),
    }
}

fn extent(chunk: u32, offset: u64, bytes: u64) -> Extent {
    Extent {
        chunk,
        offset,
        bytes,
    }
}

fn file(path: &str, extents: Vec<Extent>, bytes: u64) -> Entry {
    Entry {
        path: path.to_owned(),
        content: EntryContent::File {
            extents,
            bytes,
            mode: 0o644,
            tensors: Vec::new(),
        },
    }
}

fn link(path: &str, target: &str) -> Entry {
    Entry {
        path: path.to_owned(),
        content: EntryContent::Symlink {
            target: target.to_owned(),
        },
    }
}

fn state(tensors: Vec<TensorRecord>, blobs: Vec<Vec<Extent>>) -> Entry {
    let leaf = |tensor| {
        StateNode::Tensor(TensorLeaf {
            tensor,
            framework: Framework::Torch,
            view: None,
            parameter: false,
            requires_grad: false,
            device: None,
        })
    };
    Entry {
        path: "state".to_owned(),
        content: EntryContent::State {
            tree: StateNode::List {
                v: (0..tensors.len() as u32).map(leaf).collect(),
            },
            tensors,
            blobs,
        },
    }
}

fn tensor(shape: &[u64], extents: Vec<Extent>) -> TensorRecord {
    TensorRecord {
        name: "model.weight".to_owned(),
        dtype: Dtype::F32,
        shape: shape.to_vec(),
        global_shape: None,
        global_offset: None,
        extents,
    }
}

fn part(chunks: Vec<ChunkRecord>, entries: Vec<Entry>) -> PartManifest {
    let component = ComponentName::trainer();
    PartManifest {
        run: RunId::from_parts(1, 1),
        key: SaveKey {
            attempt: AttemptNumber(1),
            step: Step(500),
            k: 0,
        },
        component: component.clone(),
        rank: 0,
        parts: BTreeMap::from([(component, 2)]),
        sharded: false,
        name: None,
        created: Timestamp(5),
        metrics: BTreeMap::from([("loss".to_owned(), f64::INFINITY)]),
        journal: JournalPosition {
            writer: WriterId::from_bits(9),
            ordinal: 3,
            hash: u64::MAX,
        },
        bytes: 0,
        chunks,
        entries,
    }
}

fn refused(part: &PartManifest) -> String {
    let error = part.check().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    let context = "part trainer-0 of 1-500-0 of run 00000000010000000000000001: ";
    let message = error.message().strip_prefix(context);
    message.unwrap_or_else(|| panic!("{error}")).to_owned()
}

#[test]
fn a_sound_part_passes_and_comes_back_from_its_bytes() {
    let part = part(
        vec![chunk(3 * BLOCK_BYTES), chunk(40), chunk(MAX_CHUNK_BYTES)],
        vec![
            state(
                vec![
                    tensor(&[10], vec![extent(1, 0, 40)]),
                    tensor(&[0, 1 << 63, 1 << 63], vec![]),
                    tensor(&[], vec![extent(0, 4, 2), extent(0, 90, 2)]),
                ],
                vec![vec![extent(2, 0, MAX_CHUNK_BYTES)], vec![]],
            ),
            file(
                "model/a-1 数学.bin",
                vec![extent(0, BLOCK_BYTES, 2 * BLOCK_BYTES)],
                2 * BLOCK_BYTES,
            ),
            file("empty", vec![], 0),
            Entry {
                path: "model/sub".to_owned(),
                content: EntryContent::Directory { mode: 0o700 },
            },
            file("model/sub/b", vec![], 0),
            link("model/sub/current", "../../empty"),
            link("latest", "model/./a-1 数学.bin"),
        ],
    );
    part.check().unwrap();
    let back = PartManifest::load(&part.to_bytes(), "a part").unwrap();
    assert_eq!(back, part);
    assert_eq!(back.to_bytes(), part.to_bytes());
}

#[test]
fn chunks_have_bounded_sizes_and_a_checksum_for_each_block() {
    let mut short = chunk(2 * BLOCK_BYTES);
    short.crc64.0.pop();
    let mut empty = chunk(1);
    empty.bytes = 0;
    for chunk in [short, empty, chunk(MAX_CHUNK_BYTES + 1), {
        let mut long = chunk(5);
        long.bytes = u64::MAX;
        long
    }] {
        let message = refused(&part(vec![chunk], vec![]));
        assert!(message.contains("block checksums"), "{message}");
    }
}

#[test]
fn extents_stay_inside_their_chunk_and_add_up() {
    let with = |extents: Vec<Extent>, bytes| {
        refused(&part(vec![chunk(100)], vec![file("f", extents, bytes)]))
    };
    insta::assert_snapshot!(with(vec![extent(1, 0, 1)], 1), @r#"entry "f": extent 0+1 is outside chunk 1 of 1"#);
    insta::assert_snapshot!(with(vec![extent(0, 1, 100)], 100), @r#"entry "f": extent 1+100 is outside chunk 0 of 1"#);
    insta::assert_snapshot!(with(vec![extent(0, u64::MAX, 2)], 2), @r#"entry "f": extent 18446744073709551615+2 is outside chunk 0 of 1"#);
    insta::assert_snapshot!(with(vec![extent(0, 0, 100)], 101), @r#"entry "f": extents hold 100 bytes, 101 expected"#);
    insta::assert_snapshot!(with(vec![], u64::MAX), @r#"entry "f": extents hold 0 bytes, 18446744073709551615 expected"#);
}

#[test]
fn tensors_are_covered_exactly_and_shards_lie_inside_the_whole() {
    let with =
        |tensor: TensorRecord| refused(&part(vec![chunk(100)], vec![state(vec![tensor], vec![])]));
    insta::assert_snapshot!(with(tensor(&[10], vec![extent(0, 0, 36)])), @r#"entry "state": tensor "model.weight": extents hold 36 bytes, 40 expected"#);
    insta::assert_snapshot!(with(tensor(&[1 << 40, 1 << 40], vec![])), @r#"entry "state": tensor 0 "model.weight": shape [1099511627776, 1099511627776] of f32 overflows"#);
    insta::assert_snapshot!(with(tensor(&[1 << 62], vec![])), @r#"entry "state": tensor 0 "model.weight": shape [4611686018427387904] of f32 overflows"#);
    let shard = |global: Option<Vec<u64>>, offset: Option<Vec<u64>>| TensorRecord {
        global_shape: global,
        global_offset: offset,
        ..tensor(&[10], vec![extent(0, 0, 40)])
    };
    insta::assert_snapshot!(with(shard(Some(vec![19]), Some(vec![10]))), @r#"entry "state": tensor 0 "model.weight": shard [10] at [10] is outside [19]"#);
    insta::assert_snapshot!(with(shard(Some(vec![20]), Some(vec![u64::MAX]))), @r#"entry "state": tensor 0 "model.weight": shard [10] at [18446744073709551615] is outside [20]"#);
    insta::assert_snapshot!(with(shard(Some(vec![20, 1]), Some(vec![0]))), @r#"entry "state": tensor 0 "model.weight": global shape and offset do not fit the shape"#);
    insta::assert_snapshot!(with(shard(Some(vec![20]), None)), @r#"entry "state": tensor 0 "model.weight": global shape and offset do not fit the shape"#);
    let sound = shard(Some(vec![20]), Some(vec![10]));
    part(vec![chunk(100)], vec![state(vec![sound], vec![])])
        .check()
        .unwrap();
    let blob = vec![extent(0, 0, u64::MAX), extent(0, 0, u64::MAX)];
    insta::assert_snapshot!(refused(&part(vec![chunk(100)], vec![state(vec![], vec![blob])])), @r#"entry "state": blob 0 is larger than 2^64"#);
}

#[test]
fn no_path_leaves_its_directory_on_any_platform() {
    for odd in [
        "",
        "/etc/passwd",
        "..",
        "../x",
        "a/../x",
        "a//b",
        "./a",
        "a/.",
        "a\\b",
        "C:x",
        "a\0b",
        "a/",
        &"x".repeat(4097),
    ] {
        let message = refused(&part(vec![], vec![file(odd, vec![], 0)]));
        assert!(message.ends_with("leaves its directory"), "{message}");
    }
    let mut named = state(vec![], vec![]);
    named.path = "../../state".to_owned();
    assert!(refused(&part(vec![], vec![named])).ends_with("leaves its directory"));
}

#[test]
fn no_link_leaves_its_directory() {
    for (path, target) in [
        ("l", "/etc/passwd"),
        ("l", ".."),
        ("l", "../x"),
        ("a/l", "../../x"),
        // Through a link to a deeper directory this climbs out of wherever that is.
        ("a/b/l", "other/../../../x"),
        ("a/b/l", "other/.."),
        ("l", ""),
        ("l", "C:\\x"),
        ("l", "x\0"),
        ("l", &"x".repeat(4097)),
    ] {
        let message = refused(&part(vec![], vec![link(path, target)]));
        assert!(
            message.ends_with("outside its directory"),
            "{target}: {message}"
        );
    }
    part(vec![], vec![link("a/b/l", "../../x//./y")])
        .check()
        .unwrap();
}

#[test]
fn nothing_is_written_through_a_link_or_twice() {
    let below = part(vec![], vec![link("a", "b"), file("a/x/f", vec![], 0)]);
    insta::assert_snapshot!(refused(&below), @r#"entry path "a/x/f" is below "a", which is no directory"#);
    let in_file = part(vec![], vec![file("a/x", vec![], 0), file("a", vec![], 0)]);
    insta::assert_snapshot!(refused(&in_file), @r#"entry path "a/x" is below "a", which is no directory"#);
    let twice = part(vec![], vec![link("a", "b"), file("a", vec![], 0)]);
    insta::assert_snapshot!(refused(&twice), @r#"entry path "a" stands twice"#);
}

#[test]
fn a_part_is_one_of_those_it_declares() {
    let mut beyond = part(vec![], vec![]);
    beyond.rank = 2;
    let error = beyond.check().unwrap_err();
    insta::assert_snapshot!(error, @"part trainer-2 of 1-500-0 of run 00000000010000000000000001: the save declares 2 parts of trainer");
    let mut other = part(vec![], vec![]);
    other.parts = BTreeMap::from([("orchestrator".parse().unwrap(), 1)]);
    insta::assert_snapshot!(refused(&other), @"the save declares 0 parts of trainer");
}
