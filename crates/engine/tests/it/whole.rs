//! States that several ranks saved, as one: any shards into any box, leaves that differ, and launches that clean up after their predecessors.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use runtree_core::manifest::Outcome;
use runtree_core::state::index::TensorIndex;
use runtree_core::state::region::{Region, row_major};
use runtree_core::state::{Dtype, Framework, StateKey, StateNode, TensorLeaf};
use runtree_core::{ErrorKind, Step};
use runtree_engine::{
    CheckpointScope, DISTRIBUTED_STATE, Engine, EntrySource, LaunchKey, LoadedManifest,
    PendingSave, ResumePolicy, RunSpec, SaveRequest, TensorSource, WholeRequest,
};
use runtree_testkit::place;

use crate::save_support::{Bench, failure, noise};

/// A shard of a tensor of bytes.
struct Shard {
    name: String,
    global: Vec<u64>,
    region: Region,
    data: Vec<u8>,
}

/// The bytes of a box of a tensor.
fn cut(whole: &[u8], global: &[u64], region: &Region) -> Vec<u8> {
    let strides = row_major(global);
    let mut bytes = Vec::new();
    for at in 0..region.elements() {
        let place: u64 = row_major(&region.shape)
            .iter()
            .zip(&region.shape)
            .zip(&region.offset)
            .zip(&strides)
            .map(|(((own, size), offset), stride)| (at / own % size + offset) * stride)
            .sum();
        bytes.push(whole[place as usize]);
    }
    bytes
}

fn leaf(tensor: usize) -> StateNode {
    StateNode::Tensor(TensorLeaf {
        tensor: tensor as u32,
        framework: Framework::Numpy,
        view: None,
        parameter: false,
        requires_grad: false,
        device: None,
    })
}

fn dict(items: impl IntoIterator<Item = (StateKey, StateNode)>) -> StateNode {
    let (k, v) = items.into_iter().unzip();
    StateNode::Dict {
        kind: runtree_core::state::DictKind::Plain,
        k,
        v,
    }
}

fn key(name: &str) -> StateKey {
    StateKey::Str(name.to_owned())
}

/// A rank's tree: its shards by name, and whatever else it has.
fn entry(shards: &[Shard], more: Vec<(StateKey, StateNode)>, spread: bool) -> EntrySource<'_> {
    let items = shards
        .iter()
        .enumerate()
        .map(|(index, shard)| (key(&shard.name), leaf(index)));
    let mut tree = dict(items.chain(more));
    if spread {
        tree = StateNode::Stateful {
            class: DISTRIBUTED_STATE.to_owned(),
            state: Box::new(tree),
        };
    }
    EntrySource::State {
        path: "state".to_owned(),
        tree,
        tensors: shards
            .iter()
            .map(|shard| TensorSource {
                name: shard.name.clone(),
                dtype: Dtype::U8,
                shape: shard.region.shape.clone(),
                global_shape: Some(shard.global.clone()),
                global_offset: Some(shard.region.offset.clone()),
                data: shard.data.as_slice().into(),
            })
            .collect(),
        blobs: Vec::new(),
    }
}

fn request(rank: usize, ranks: usize, step: i64, entry: EntrySource<'_>) -> SaveRequest<'_> {
    SaveRequest {
        step: Some(Step(step)),
        rank: rank as u32,
        world_size: ranks as u32,
        sharded: true,
        ..SaveRequest::of(vec![entry])
    }
}

/// Saves one tree per rank.
fn saved(bench: &Bench, trees: Vec<EntrySource<'_>>) -> LoadedManifest {
    let ranks = bench.ranks(trees.len() as u32);
    let count = trees.len();
    let pending: Vec<PendingSave> = trees
        .into_iter()
        .enumerate()
        .map(|(rank, tree)| ranks[rank].save(request(rank, count, 1, tree)).unwrap())
        .collect();
    for each in &pending {
        each.wait(None).unwrap();
    }
    bench.engine.load_plan(pending[0].name()).unwrap()
}

fn whole(
    engine: &Engine,
    manifest: &LoadedManifest,
    own: Option<u32>,
) -> runtree_engine::WholeState {
    let request = WholeRequest {
        own_rank: own,
        choices: BTreeMap::new(),
    };
    engine
        .whole_state(manifest, "trainer", "state", &request)
        .unwrap()
}

fn int(value: i64) -> StateNode {
    StateNode::Int {
        v: value.to_string(),
    }
}

/// Cuts of one axis into as many stretches as there are ranks.
fn bands(size: u64, cuts: &[u64]) -> Vec<(u64, u64)> {
    let mut borders: Vec<u64> = cuts.iter().map(|cut| cut % (size + 1)).collect();
    borders.extend([0, size]);
    borders.sort_unstable();
    borders
        .windows(2)
        .map(|pair| (pair[0], pair[1] - pair[0]))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(place::cases(24, 8)))]
    #[test]
    fn any_box_of_any_shards_is_read_exactly(
        shape in proptest::collection::vec(1_u64..200, 1..4),
        cuts in proptest::collection::vec(0_u64..200, 1..4),
        axis in 0_usize..3,
        boxes in proptest::collection::vec(proptest::collection::vec((0_u64..200, 0_u64..200), 3), 1..4),
        seed in 1_u64..1000,
    ) {
        // Up to 8 MB: several blocks of a chunk, and rows that lie across their borders.
        let bytes: u64 = shape.iter().product();
        let data = noise(seed, bytes as usize);
        let axis = axis % shape.len();
        let shards: Vec<Vec<Shard>> = bands(shape[axis], &cuts).into_iter().map(|(start, size)| {
            let mut region = Region::whole(&shape);
            region.offset[axis] = start;
            region.shape[axis] = size;
            let data = cut(&data, &shape, &region);
            vec![Shard { name: "w".to_owned(), global: shape.clone(), region, data }]
        }).collect();
        let bench = Bench::new();
        let manifest = saved(&bench, shards.iter().map(|own| entry(own, Vec::new(), false)).collect());
        let state = whole(&bench.engine, &manifest, None);
        let tensor = state.tensor("w").unwrap();
        prop_assert_eq!(&tensor.shape, &shape);
        for wanted in boxes {
            let (offset, size) = shape.iter().zip(wanted).map(|(whole, (at, size))| {
                let at = at % whole;
                (at, 1 + size % (whole - at))
            }).unzip();
            let region = Region { offset, shape: size };
            let mut into = vec![0; region.elements() as usize];
            bench.engine.read_region(&manifest, tensor, &region, &mut into).unwrap();
            prop_assert_eq!(into, cut(&data, &shape, &region));
        }
    }
}

#[test]
fn a_slice_reads_its_own_blocks_alone() {
    // A rank's shard of 24 MiB, and one row in the middle of it: damage everywhere else goes unseen, so nothing else was read.
    let bench = Bench::new();
    let rows = 24;
    let global = vec![rows, 1 << 20];
    let shard = [Shard {
        name: "w".to_owned(),
        global: global.clone(),
        region: Region::whole(&global),
        data: noise(3, (rows << 20) as usize),
    }];
    let manifest = saved(&bench, vec![entry(&shard, Vec::new(), false)]);
    let state = whole(&bench.engine, &manifest, Some(0));
    let [file] = bench.files("chunks").try_into().unwrap();
    bench.damage(&file, |bytes| {
        for row in (0..rows as usize).filter(|row| *row != 11) {
            bytes[(row << 20) + 5] ^= 1;
        }
    });
    let read = |row: u64| {
        let region = Region {
            offset: vec![row, 100],
            shape: vec![1, 1000],
        };
        let mut into = vec![0; 1000];
        let tensor = state.tensor("w").unwrap();
        bench
            .engine
            .read_region(&manifest, tensor, &region, &mut into)
            .map(|()| into)
    };
    assert_eq!(read(11).unwrap(), shard[0].data[(11 << 20) + 100..][..1000]);
    assert_eq!(read(12).unwrap_err().kind(), ErrorKind::Corrupt);
}

#[test]
fn leaves_that_differ_are_named_and_chosen() {
    let bench = Bench::new();
    let none: [Shard; 0] = [];
    let tree = |rank: i64| {
        let float = StateNode::Float {
            v: runtree_core::float::JsonFloat(f64::NAN),
        };
        let loader = StateNode::Stateful {
            class: "a:Loader".to_owned(),
            state: Box::new(dict([(key("at"), int(rank)), (key("of"), int(9))])),
        };
        let more = vec![
            (key("step"), int(5)),
            (key("nan"), float),
            (key("loader"), loader),
            (
                key("seeds"),
                StateNode::List {
                    v: vec![int(1), int(rank)],
                },
            ),
            (key(&format!("only{rank}")), int(rank)),
        ];
        entry(&none, more, false)
    };
    let manifest = saved(&bench, vec![tree(0), tree(1)]);
    let state = whole(&bench.engine, &manifest, None);
    let paths: Vec<&str> = state
        .differing
        .iter()
        .map(|leaf| leaf.path.as_str())
        .collect();
    assert_eq!(paths, ["loader", "seeds.1"], "a loader is one leaf");
    assert_eq!(state.differing[0].ranks, [0, 1]);
    // A rank's own state is exactly what it saved.
    let own = whole(&bench.engine, &manifest, Some(1));
    assert!(own.differing.is_empty());
    let Some(StateNode::Dict { k, .. }) = &own.tree else {
        panic!("a dict was saved")
    };
    let names: Vec<String> = k.iter().map(StateKey::path_part).collect();
    assert_eq!(names, ["step", "nan", "loader", "seeds", "only1"]);
    let chosen = WholeRequest {
        own_rank: None,
        choices: BTreeMap::from([("loader".to_owned(), None), ("seeds.1".to_owned(), Some(1))]),
    };
    let state = bench
        .engine
        .whole_state(&manifest, "trainer", "state", &chosen)
        .unwrap();
    assert!(state.differing.is_empty());
    let Some(StateNode::Dict { k, v, .. }) = &state.tree else {
        panic!("a dict was saved")
    };
    let names: Vec<String> = k.iter().map(StateKey::path_part).collect();
    assert_eq!(names, ["step", "nan", "seeds", "only0", "only1"]);
    assert_eq!(
        v[2],
        StateNode::List {
            v: vec![int(1), int(1)]
        }
    );
}

#[test]
fn what_ranks_divided_among_them_is_one_state_and_a_sequence_again() {
    let bench = Bench::new();
    let none: [Shard; 0] = [];
    let tree = |rank: i64| {
        // Rank 0 wrote item 1, rank 1 items 0 and 2.
        let mine: &[i64] = if rank == 0 { &[1] } else { &[0, 2] };
        let items = mine
            .iter()
            .map(|&at| (StateKey::Int(at.to_string()), int(at * 10)));
        entry(&none, vec![(key("items"), dict(items))], true)
    };
    let manifest = saved(&bench, vec![tree(0), tree(1)]);
    for own in [None, Some(0), Some(1)] {
        let state = whole(&bench.engine, &manifest, own);
        let Some(StateNode::Stateful { state, .. }) = state.tree else {
            panic!("a marked root was saved")
        };
        let items = StateNode::List {
            v: vec![int(0), int(10), int(20)],
        };
        assert_eq!(*state, dict([(key("items"), items)]));
    }
}

#[test]
fn shards_of_different_tensors_under_one_name_are_refused() {
    let bench = Bench::new();
    let shard = |rows: u64| {
        [Shard {
            name: "w".to_owned(),
            global: vec![rows, 2],
            region: Region::whole(&[1, 2]),
            data: vec![1, 2],
        }]
    };
    let (one, other) = (shard(2), shard(3));
    let manifest = saved(
        &bench,
        vec![
            entry(&one, Vec::new(), false),
            entry(&other, Vec::new(), false),
        ],
    );
    let error = bench
        .engine
        .whole_state(&manifest, "trainer", "state", &WholeRequest::default())
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(
        error.message().contains("on rank 0") && error.message().contains("on rank 1"),
        "{error}"
    );
}

/// The launch `key` of a run, rank 0 of 2.
fn launch(bench: &Bench, key: &str) -> std::sync::Arc<runtree_engine::RunWriter> {
    bench
        .engine
        .start_run(RunSpec {
            key: Some("run".to_owned()),
            resume: ResumePolicy::Allow,
            launch_key: LaunchKey::Named(key.to_owned()),
            world_size: 2,
            ..RunSpec::new("digits".parse().unwrap())
        })
        .unwrap()
}

fn wait_for(bench: &Bench, suffix: &str) {
    while !bench
        .files("runs")
        .iter()
        .any(|path| path.ends_with(suffix))
    {
        std::thread::yield_now();
    }
}

#[test]
fn an_unfinished_save_is_given_up_by_a_much_later_launch() {
    let bench = Bench::on_disk();
    let none: [Shard; 0] = [];
    let first = launch(&bench, "one");
    let pending = first
        .save(request(
            0,
            2,
            3,
            entry(&none, vec![(key("a"), int(1))], false),
        ))
        .unwrap();
    wait_for(&bench, "trainer-0.ok");
    let listed = |pending| {
        let scope = CheckpointScope {
            pending,
            ..CheckpointScope::default()
        };
        let found = bench.engine.checkpoints(first.run(), scope).unwrap();
        found.len()
    };
    assert_eq!((listed(false), listed(true)), (0, 1));
    // The next launch, a moment later: somebody may still wait for the other part.
    drop(launch(&bench, "two"));
    assert!(
        bench
            .engine
            .store()
            .read_commit(first.run(), pending.key())
            .unwrap()
            .is_none()
    );
    // One that comes long after.
    for path in bench.files("runs") {
        if path.to_string_lossy().contains("/parts/") {
            let path = bench.store_dir().join(path);
            let file = std::fs::File::options().write(true).open(&path);
            let file = file.or_else(|_| std::fs::File::open(&path)).unwrap();
            let written = file.metadata().unwrap().modified().unwrap();
            file.set_modified(written - Duration::from_secs(3600))
                .unwrap();
        }
    }
    drop(launch(&bench, "three"));
    let commit = bench
        .engine
        .store()
        .read_commit(first.run(), pending.key())
        .unwrap();
    assert_eq!(commit.unwrap().outcome, Outcome::Abandoned);
    assert_eq!(listed(false), 0);
}

#[test]
fn a_save_that_lacks_nothing_but_its_commit_is_what_the_next_launch_resumes_from() {
    let bench = Bench::new();
    let none: [Shard; 0] = [];
    let ranks: Vec<_> = (0..2_u32)
        .map(|rank| {
            bench
                .engine
                .start_run(RunSpec {
                    key: Some("run".to_owned()),
                    resume: ResumePolicy::Allow,
                    launch_key: LaunchKey::Named("one".to_owned()),
                    rank,
                    world_size: 2,
                    ..RunSpec::new("digits".parse().unwrap())
                })
                .unwrap()
        })
        .collect();
    let pending: Vec<_> = ranks
        .iter()
        .enumerate()
        .map(|(rank, run)| {
            run.save(request(rank, 2, 3, entry(&none, Vec::new(), false)))
                .unwrap()
        })
        .collect();
    for each in &pending {
        each.wait(None).unwrap();
    }
    // As if both had died just before the commit.
    let commit = bench
        .files("runs")
        .into_iter()
        .find(|path| path.to_string_lossy().contains("/commits/"))
        .unwrap();
    bench.remove(&commit);
    let next = launch(&bench, "two");
    assert_eq!(next.resumed_from(), Some(pending[0].name()));
    assert!(bench.exists(&commit));
}

#[test]
fn ranks_learn_at_once_that_another_can_not_write_its_part() {
    let bench = Bench::on_disk();
    let none: [Shard; 0] = [];
    let ranks = bench.ranks(2);
    let first = ranks[0]
        .save(request(
            0,
            2,
            1,
            entry(&none, vec![(key("a"), int(1))], false),
        ))
        .unwrap();
    wait_for(&bench, "trainer-0.ok");
    // Rank 1 can not: there is no place for chunks any more.
    let chunks = bench.store_dir().join("chunks");
    assert!(!chunks.exists(), "nobody saved a tensor yet");
    std::fs::write(&chunks, b"a file").unwrap();
    let global = vec![4];
    let shard = [Shard {
        name: "w".to_owned(),
        region: Region::whole(&global),
        global,
        data: vec![1, 2, 3, 4],
    }];
    let second = ranks[1]
        .save(request(1, 2, 1, entry(&shard, Vec::new(), false)))
        .unwrap();
    let own = failure(&second);
    let theirs = failure(&first);
    assert!(!own.message().contains("given up"), "{own}");
    assert!(
        theirs.message().contains("given up by another process"),
        "{theirs}"
    );
    assert!(first.wait_part(Duration::ZERO).is_err());
}

#[test]
fn a_save_that_was_killed_before_its_first_part_is_no_obstacle_to_a_launch() {
    let bench = Bench::on_disk();
    let first = launch(&bench, "one");
    first.finish(None, None, None).unwrap();
    // What is left when a process dies between making the directory and naming the part in it.
    let directory = format!("runs/{}/parts/1-105-0", first.run());
    std::fs::create_dir_all(bench.store_dir().join(directory)).unwrap();
    let again = launch(&bench, "two");
    assert_eq!(again.attempt(), first.attempt().next());
}

#[test]
fn a_name_means_the_whole_tensor_and_with_its_part_one_shard() {
    let bench = Bench::new();
    let global = vec![4, 3];
    let shards: Vec<[Shard; 1]> = (0..2_u64)
        .map(|rank| {
            let region = Region {
                offset: vec![2 * rank, 0],
                shape: vec![2, 3],
            };
            let first = 6 * rank as u8;
            [Shard {
                name: "w".to_owned(),
                global: global.clone(),
                region,
                data: (first..first + 6).collect(),
            }]
        })
        .collect();
    let trees = shards.iter().map(|own| entry(own, Vec::new(), false));
    let manifest = saved(&bench, trees.collect());
    let cat = |name: &str, index: &str| {
        let found = manifest.find_tensor(name).unwrap();
        let index: TensorIndex = index.parse().unwrap();
        let selection = index.select(&found.tensor.shape).unwrap();
        let mut bytes = Vec::new();
        let read =
            bench
                .engine
                .read_selection(&manifest, &found.tensor, &selection, u64::MAX, |piece| {
                    bytes.extend_from_slice(piece);
                    Ok(())
                });
        read.unwrap();
        (found.parts.join(" "), bytes)
    };
    let both = "trainer-0 trainer-1".to_owned();
    assert_eq!(cat("w", "[1:3, 1]"), (both.clone(), vec![4, 7]));
    assert_eq!(cat("state:w", "[::3]"), (both, vec![0, 1, 2, 9, 10, 11]));
    let second = "trainer-1".to_owned();
    assert_eq!(cat("trainer-1:w", "[0]"), (second.clone(), vec![6, 7, 8]));
    assert_eq!(cat("trainer-1:state:w", "[-1, -1]"), (second, vec![11]));
    for name in ["v", "trainer-2:w", "state", "trainer-0:v"] {
        assert!(manifest.find_tensor(name).is_none(), "{name}");
    }
}
