//! How long a save blocks, lasts and loads, beside a plain memory copy and a plain file of the same bytes.
//!
//! `cargo run --release -p runtree-engine --example checkpoint_speed [MiB] [directory]`

#![expect(clippy::print_stdout, reason = "it prints what it measured")]

use std::io::Write as _;
use std::time::{Duration, Instant};

use runtree_core::state::{Dtype, StateNode};
use runtree_core::{Result, Step};
use runtree_engine::{
    Engine, EngineOptions, EntrySource, ReadJob, RunSpec, SaveRequest, TensorSource,
};

const ROUNDS: i64 = 5;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mib: usize = arguments
        .next()
        .and_then(|text| text.parse().ok())
        .unwrap_or(1024);
    let place = arguments
        .next()
        .unwrap_or_else(|| std::env::temp_dir().display().to_string());
    for tensors in [mib.div_ceil(48), 10_000] {
        measure(mib << 20, tensors, &place)?;
    }
    Ok(())
}

fn measure(total: usize, count: usize, place: &str) -> Result<()> {
    let dir = tempfile::tempdir_in(place).expect("a temporary directory");
    let engine = Engine::open(EngineOptions::new(
        dir.path().join("store"),
        dir.path().join("cache"),
    ))?;
    let run = engine.start_run(RunSpec::new("speed".parse()?))?;
    let mut state = vec![0_u8; total / count * count];
    let mut seed = 1_u64;
    for word in state.chunks_exact_mut(8) {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        word.copy_from_slice(&(seed ^ seed >> 29).to_le_bytes());
    }
    let gb = state.len() as f64 / 1e9;
    println!("{count} tensors, {gb:.2} GB:");

    let mut copy = vec![1_u8; state.len()];
    let memcpy = best(|| copy_with_threads(&state, &mut copy));
    let mut file = std::fs::File::create(dir.path().join("plain")).expect("a file");
    let start = Instant::now();
    file.write_all(&state)
        .and_then(|()| file.sync_all())
        .expect("a written file");
    let plain = start.elapsed();
    drop(file);
    println!(
        "  memcpy, same threads {:7.1} ms   {:.2} GB/s",
        millis(memcpy),
        gb / memcpy.as_secs_f64()
    );
    println!(
        "  write + fsync        {:7.1} ms   {:.2} GB/s",
        millis(plain),
        gb / plain.as_secs_f64()
    );

    let mut name = None;
    for step in 0..ROUNDS {
        // Every tensor changes between saves: nothing is a dedup hit.
        for tensor in state.chunks_exact_mut(total / count) {
            tensor[0] = tensor[0].wrapping_add(1);
        }
        let tensors: Vec<TensorSource<'_>> = state
            .chunks_exact(total / count)
            .enumerate()
            .map(|(index, data)| TensorSource {
                name: format!("layers.{index}.weight"),
                dtype: Dtype::U8,
                shape: vec![data.len() as u64],
                global_shape: None,
                global_offset: None,
                data: data.into(),
            })
            .collect();
        let entry = EntrySource::State {
            path: "state".to_owned(),
            tree: StateNode::None,
            tensors,
            blobs: Vec::new(),
        };
        let start = Instant::now();
        let pending = run.save(SaveRequest {
            step: Some(Step(step)),
            ..SaveRequest::of(vec![entry])
        })?;
        let blocked = start.elapsed();
        pending.wait(None)?;
        let durable = start.elapsed();
        println!(
            "  save {step}: blocked     {:7.1} ms   {:.2}x memcpy; durable {:7.1} ms   {:.2} GB/s",
            millis(blocked),
            blocked.as_secs_f64() / memcpy.as_secs_f64(),
            millis(durable),
            gb / durable.as_secs_f64()
        );
        name = Some(pending.name());
    }
    let name = name.expect("there was a save");
    for _ in 0..3 {
        let start = Instant::now();
        let manifest = engine.load_plan(name)?;
        let planned = start.elapsed();
        let runtree_core::manifest::EntryContent::State { tensors, .. } =
            &manifest.parts[0].entries[0].content
        else {
            unreachable!("a state was saved");
        };
        let jobs = tensors
            .iter()
            .zip(copy.chunks_exact_mut(total / count))
            .map(|(tensor, into)| ReadJob {
                part: 0,
                extents: &tensor.extents,
                what: &tensor.name,
                into,
            })
            .collect();
        engine.read_tensors(&manifest, jobs, 0)?;
        let took = start.elapsed();
        println!(
            "  load, verified       {:7.1} ms   {:.2} GB/s (manifest {:.1} ms)",
            millis(took),
            gb / took.as_secs_f64(),
            millis(planned)
        );
    }
    assert!(copy == state, "what was loaded is what was saved");
    let start = Instant::now();
    let again = run.save(SaveRequest {
        step: Some(Step(ROUNDS)),
        ..SaveRequest::of(vec![EntrySource::State {
            path: "state".to_owned(),
            tree: StateNode::None,
            tensors: Vec::new(),
            blobs: vec![std::borrow::Cow::Borrowed(&state[..100])],
        }])
    })?;
    again.wait(None)?;
    println!("  a save of 100 bytes  {:7.1} ms", millis(start.elapsed()));
    run.finish(None, None, None)?;
    Ok(())
}

fn best(mut act: impl FnMut()) -> Duration {
    let once = |act: &mut dyn FnMut()| {
        let start = Instant::now();
        act();
        start.elapsed()
    };
    (0..5).map(|_| once(&mut act)).min().unwrap_or_default()
}

fn copy_with_threads(from: &[u8], to: &mut [u8]) {
    let threads = std::thread::available_parallelism()
        .map_or(1, std::num::NonZero::get)
        .min(8);
    let piece = from.len().div_ceil(threads);
    std::thread::scope(|scope| {
        for (from, to) in from.chunks(piece).zip(to.chunks_mut(piece)) {
            scope.spawn(move || to.copy_from_slice(from));
        }
    });
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
