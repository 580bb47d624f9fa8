use std::collections::BTreeMap;

use proptest::prelude::*;
use runtree_core::float::JsonFloat;
use runtree_core::manifest::{
    Entry, EntryContent, Extent, JournalPosition, PartManifest, Record as _,
};
use runtree_core::state::{
    DictKind, Dtype, Framework, MAX_DEPTH, StateKey, StateNode, TensorLeaf, TensorRecord,
    TensorView,
};
use runtree_core::{
    AttemptNumber, ComponentName, ErrorKind, RunId, SaveKey, Step, Timestamp, WriterId,
};

fn int(digits: &str) -> StateNode {
    StateNode::Int {
        v: digits.to_owned(),
    }
}

fn leaf(tensor: u32, view: Option<TensorView>) -> StateNode {
    StateNode::Tensor(TensorLeaf {
        tensor,
        framework: Framework::Numpy,
        view,
        parameter: true,
        requires_grad: true,
        device: Some("cuda:0".to_owned()),
    })
}

fn record(count: u64) -> TensorRecord {
    TensorRecord {
        name: "w".to_owned(),
        dtype: Dtype::U8,
        shape: vec![count],
        global_shape: None,
        global_offset: None,
        extents: vec![Extent {
            chunk: 0,
            offset: 0,
            bytes: count,
        }],
    }
}

fn refused(node: &StateNode, tensors: &[TensorRecord], blobs: usize) -> String {
    let error = node.check(tensors, blobs).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    error.message().to_owned()
}

/// A node at a depth: so many lists around it.
fn nested(depth: usize, inner: StateNode) -> StateNode {
    (0..depth).fold(inner, |v, _| StateNode::List { v: vec![v] })
}

#[test]
fn leaves_name_what_exists() {
    let one = [record(4)];
    leaf(0, None).check(&one, 0).unwrap();
    insta::assert_snapshot!(refused(&leaf(1, None), &one, 0), @"leaf names tensor 1 of 1");
    insta::assert_snapshot!(refused(&leaf(u32::MAX, None), &one, 0), @"leaf names tensor 4294967295 of 1");
    StateNode::LongStr { blob: 1 }.check(&[], 2).unwrap();
    insta::assert_snapshot!(refused(&StateNode::LongStr { blob: 2 }, &[], 2), @"leaf names blob 2 of 2");
    let bytes = StateNode::LongBytes {
        blob: 0,
        mutable: true,
    };
    insta::assert_snapshot!(refused(&nested(3, bytes), &[], 0), @"leaf names blob 0 of 0");
}

#[test]
fn views_stay_inside_their_storage() {
    let view = |offset, shape: &[u64], strides: &[u64]| {
        let view = TensorView {
            offset,
            shape: shape.to_vec(),
            strides: strides.to_vec(),
        };
        leaf(0, Some(view)).check(&[record(12)], 0)
    };
    for (offset, shape, strides) in [
        (0, &[3, 4][..], &[4, 1][..]),
        (0, &[4, 3], &[1, 4]),
        (11, &[], &[]),
        (0, &[1_000_000], &[0]),
        (99, &[0], &[1]),
        (2, &[2, 2], &[6, 3]),
    ] {
        view(offset, shape, strides).unwrap();
    }
    for (offset, shape, strides) in [
        (1, &[3, 4][..], &[4, 1][..]),
        (12, &[], &[]),
        (u64::MAX, &[2], &[1]),
        (0, &[u64::MAX], &[u64::MAX]),
        (0, &[2], &[u64::MAX]),
    ] {
        let error = view(offset, shape, strides).unwrap_err();
        assert_eq!(error.message(), r#"view of tensor "w" leaves its storage"#);
    }
    let error = view(0, &[2, 2], &[1]).unwrap_err();
    assert_eq!(
        error.message(),
        r#"view of tensor "w" has 2 sizes and 1 strides"#
    );
}

#[test]
fn containers_pair_what_belongs_together() {
    let pair = StateNode::NamedTuple {
        class: "optax:State".to_owned(),
        fields: vec!["mu".to_owned()],
        v: vec![],
    };
    insta::assert_snapshot!(refused(&pair, &[], 0), @"named tuple with 1 fields and 0 values");
    let dict = |kind, k: Vec<StateKey>, v: Vec<StateNode>| StateNode::Dict { kind, k, v };
    let lonely = dict(DictKind::Plain, vec![], vec![StateNode::None]);
    insta::assert_snapshot!(refused(&lonely, &[], 0), @"dict with 0 keys and 1 values");
    let made = |factory: Option<&str>| {
        dict(
            DictKind::Default(factory.map(str::to_owned)),
            vec![],
            vec![],
        )
    };
    made(None).check(&[], 0).unwrap();
    made(Some("list")).check(&[], 0).unwrap();
    insta::assert_snapshot!(refused(&made(Some("os.system")), &[], 0), @r#"defaultdict with the unknown factory "os.system""#);
    let odd = StateNode::Enum {
        class: "m:E".to_owned(),
        name: "A".to_owned(),
        value: Box::new(StateNode::None),
    };
    insta::assert_snapshot!(refused(&odd, &[], 0), @"enum whose value is no text and no integer");
}

#[test]
fn integers_and_scalars_are_what_they_say() {
    for digits in ["0", "-1", &"9".repeat(5000)] {
        int(digits).check(&[], 0).unwrap();
    }
    for digits in ["", "-", "+1", "1.0", "0x1", " 1", "1_0", "__import__('os')"] {
        assert!(refused(&int(digits), &[], 0).ends_with("is not an integer"));
        let key = StateNode::Dict {
            kind: DictKind::Plain,
            k: vec![StateKey::Tuple(vec![StateKey::Int(digits.to_owned())])],
            v: vec![StateNode::None],
        };
        assert!(refused(&key, &[], 0).ends_with("is not an integer"));
    }
    let scalar = |v: &str| StateNode::NumpyScalar {
        dtype: Dtype::F16,
        v: v.to_owned(),
    };
    scalar("AAA=").check(&[], 0).unwrap();
    insta::assert_snapshot!(refused(&scalar("AAAA"), &[], 0), @"f16 scalar has 3 bytes, 2 expected");
    insta::assert_snapshot!(refused(&scalar("!"), &[], 0), @"f16 scalar is not base 64");
}

fn part_with(tree: StateNode) -> PartManifest {
    let component = ComponentName::trainer();
    PartManifest {
        run: RunId::from_parts(1, 1),
        key: SaveKey {
            attempt: AttemptNumber(1),
            step: Step(0),
            k: 0,
        },
        component: component.clone(),
        rank: 0,
        parts: BTreeMap::from([(component, 1)]),
        sharded: false,
        name: None,
        created: Timestamp(0),
        metrics: BTreeMap::new(),
        journal: JournalPosition {
            writer: WriterId::from_bits(0),
            ordinal: 0,
            hash: 0,
        },
        bytes: 0,
        chunks: vec![],
        entries: vec![Entry {
            path: "state".to_owned(),
            content: EntryContent::State {
                tree,
                tensors: vec![TensorRecord {
                    extents: vec![],
                    ..record(0)
                }],
                blobs: vec![],
            },
        }],
    }
}

#[test]
fn the_deepest_tree_that_passes_can_be_read_back() {
    let view = TensorView {
        offset: 0,
        shape: vec![0],
        strides: vec![1],
    };
    let tuples = (0..MAX_DEPTH).fold(StateKey::None, |key, _| StateKey::Tuple(vec![key]));
    let key_depth = |count: usize| {
        let key = (0..count).fold(StateKey::None, |key, _| StateKey::Tuple(vec![key]));
        StateNode::Dict {
            kind: DictKind::Default(Some("int".to_owned())),
            k: vec![key],
            v: vec![StateNode::None],
        }
    };
    for deepest in [
        nested(MAX_DEPTH, leaf(0, Some(view.clone()))),
        nested(
            MAX_DEPTH,
            StateNode::Dict {
                kind: DictKind::Default(None),
                k: vec![],
                v: vec![],
            },
        ),
        key_depth(MAX_DEPTH - 1),
        nested(MAX_DEPTH - 5, key_depth(4)),
    ] {
        let part = part_with(deepest);
        part.check().unwrap();
        let back = PartManifest::load(&part.to_bytes(), "a part").unwrap();
        assert_eq!(back, part);
    }
    for deeper in [
        nested(MAX_DEPTH + 1, leaf(0, Some(view))),
        nested(MAX_DEPTH - 5, key_depth(6)),
        StateNode::Dict {
            kind: DictKind::Plain,
            k: vec![tuples],
            v: vec![StateNode::None],
        },
    ] {
        let error = part_with(deeper).check().unwrap_err();
        assert!(
            error
                .message()
                .ends_with("state tree is nested more than 60 deep"),
            "{error}"
        );
    }
}

#[test]
fn a_tree_of_any_depth_is_an_error_and_not_a_crash() {
    let text = format!(
        "{}{}",
        r#"{"t":"list","v":["#.repeat(100_000),
        "]}".repeat(100_000)
    );
    assert!(serde_json::from_str::<StateNode>(&text).is_err());
}

fn any_node() -> impl Strategy<Value = StateNode> {
    let key = prop_oneof![
        any::<String>().prop_map(StateKey::Str),
        any::<i128>().prop_map(|value| StateKey::Int(value.to_string())),
        any::<bool>().prop_map(StateKey::Bool),
        Just(StateKey::None),
        any::<bool>()
            .prop_map(|value| StateKey::Tuple(vec![StateKey::Bool(value), StateKey::None])),
    ];
    let float = any::<f64>().prop_filter("NaN differs from itself", |value| !value.is_nan());
    let float = prop_oneof![float, Just(f64::INFINITY), Just(-0.0)].prop_map(JsonFloat);
    let leaf = prop_oneof![
        Just(StateNode::None),
        any::<bool>().prop_map(|v| StateNode::Bool { v }),
        any::<i128>().prop_map(|value| int(&value.to_string())),
        float.clone().prop_map(|v| StateNode::Float { v }),
        (float.clone(), float).prop_map(|(re, im)| StateNode::Complex { re, im }),
        any::<String>().prop_map(|v| StateNode::Str { v }),
        prop::collection::vec(any::<i64>(), 0..3).prop_map(|v| StateNode::TorchSize { v }),
        Just(leaf(0, None)),
    ];
    leaf.prop_recursive(5, 60, 6, move |inner| {
        let many = prop::collection::vec(inner.clone(), 0..6);
        prop_oneof![
            many.clone().prop_map(|v| StateNode::List { v }),
            many.clone().prop_map(|v| StateNode::Tuple { v }),
            (any::<Option<u64>>(), many.clone())
                .prop_map(|(maxlen, v)| StateNode::Deque { maxlen, v }),
            (any::<bool>(), many).prop_map(|(frozen, v)| StateNode::Set { frozen, v }),
            prop::collection::vec((key.clone(), inner.clone()), 0..5).prop_map(|pairs| {
                let (k, v) = pairs.into_iter().unzip();
                StateNode::Dict {
                    kind: DictKind::Ordered,
                    k,
                    v,
                }
            }),
            inner.prop_map(|state| StateNode::Stateful {
                class: "a:B".to_owned(),
                state: Box::new(state)
            }),
        ]
    })
}

proptest! {
    #[test]
    fn a_tree_comes_back_from_its_record(tree in any_node()) {
        let part = part_with(tree);
        part.check().unwrap();
        prop_assert_eq!(PartManifest::load(&part.to_bytes(), "a part").unwrap(), part);
    }

    #[test]
    fn any_text_is_a_dtype_that_prints_itself_or_an_error(text in "(numpy:)?[<|>=]?[A-Za-z_]{0,3}[0-9]{0,11}(\\[[a-z0-9]{0,9}\\]?)?") {
        match text.parse::<Dtype>() {
            Ok(dtype) => prop_assert_eq!(dtype.to_string(), text),
            Err(error) => prop_assert_eq!(error.kind(), ErrorKind::Invalid),
        }
    }
}

#[test]
fn dtypes_parse_what_they_print_and_know_their_size() {
    for (text, bytes) in [
        ("bool", 1),
        ("u8", 1),
        ("i8", 1),
        ("u16", 2),
        ("i16", 2),
        ("u32", 4),
        ("i32", 4),
        ("u64", 8),
        ("i64", 8),
        ("f16", 2),
        ("bf16", 2),
        ("f32", 4),
        ("f64", 8),
        ("c32", 4),
        ("c64", 8),
        ("c128", 16),
        ("f8_e4m3fn", 1),
        ("f8_e5m2", 1),
        ("f8_e4m3fnuz", 1),
        ("f8_e5m2fnuz", 1),
        ("f8_e8m0fnu", 1),
        ("numpy:<U5", 20),
        ("numpy:|S3", 3),
        ("numpy:<M8[us]", 8),
        ("numpy:<m8[25s]", 8),
        ("numpy:<M8", 8),
        ("numpy:|V12", 12),
        ("numpy:<f16", 16),
        ("numpy:<c32", 32),
    ] {
        let dtype: Dtype = text.parse().unwrap();
        assert_eq!(
            (dtype.to_string().as_str(), dtype.item_bytes()),
            (text, bytes)
        );
        let json = serde_json::to_string(&dtype).unwrap();
        assert_eq!(serde_json::from_str::<Dtype>(&json).unwrap(), dtype);
    }
    for odd in [
        "",
        "F32",
        "f33",
        "numpy:",
        "numpy:<",
        "numpy:<U",
        "numpy:>U5",
        "numpy:|O8",
        "numpy:<M4",
        "numpy:<M8[us",
        "numpy:<M8[]",
        "numpy:<M8[u s]",
        "numpy:<U+5",
        "numpy:<U99999999999",
        "numpy:<U1073741825",
        "numpy:数5",
        "numpy:[('a', '<i4')]",
    ] {
        assert!(odd.parse::<Dtype>().is_err(), "{odd}");
    }
}
