//! A store as large as a team's after years, and how long the engine takes to answer what a page of it asks.
//!
//! 100,000 runs with configs, tags and three metrics, four fifths of them forks; one run with 10,000 metrics; a series of 10 M points over a
//! chain of 20 forks; 20 runs of 1 M points each.
//!
//! `cargo run --release -p runtree-engine --example big_store -- make DIR RUNS POINTS` makes it, `… -- ask DIR` asks.
//! `make` wants a DIR in memory: on a disk, 100,000 births wait for their fsyncs.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use runtree_core::event::RunStatus;
use runtree_core::{Clock as _, Error, Result, RunId, Step, Timestamp, wire};
use runtree_engine::{
    Engine, EngineOptions, ForkChoice, MetricFilter, OpenMode, RunQuery, RunSpec, RunWriter,
    SystemClock,
};
use serde_json::json;

/// Runs of a family: a root, and forks of the one before.
const FAMILY: usize = 5;
/// Families that are made at once.
const THREADS: usize = 16;
/// Metrics of the wide run.
const METRICS: usize = 10_000;
/// Runs that the long series goes over.
const FORKS: i64 = 20;
/// Runs that are compared.
const SIBLINGS: i64 = 20;
/// What sweeps choose among.
const OPTIMIZERS: [&str; 4] = ["adamw", "lion", "muon", "sgd"];
/// Time of a step of the long series.
const STEP_MICROS: i64 = 10_000;
/// Rows that are logged before what is queued is waited for.
const FLUSH_EVERY: i64 = 200_000;
/// How often a question is asked.
const ROUNDS: usize = 11;

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["make", dir, runs, points] => make(Path::new(dir), number(runs)?, number(points)? as i64),
        ["ask", dir] => ask(Path::new(dir)),
        _ => Err(Error::invalid("big_store make DIR RUNS POINTS | ask DIR")),
    }
}

fn number(text: &str) -> Result<usize> {
    text.parse()
        .map_err(|_| Error::invalid(format!("{text:?} is not a number")))
}

fn options(dir: &Path) -> EngineOptions {
    // The name that the command gives it below its cache folder: the server finds it there.
    EngineOptions::new(dir.join("store"), dir.join("runtree"))
}

// ---- Making.

fn make(dir: &Path, runs: usize, points: i64) -> Result<()> {
    let engine = Engine::open(options(dir).with_mode(OpenMode::Create))?;
    let start = Instant::now();
    let wide = make_wide(&engine)?;
    let long = make_long(&engine, points / FORKS)?;
    let siblings = make_siblings(&engine, points / 10)?;
    print("points made", start);
    let names = json!({ "wide": wide.to_string(), "long": long.to_string(), "siblings": siblings });
    let start = Instant::now();
    make_runs(&engine, runs)?;
    print("runs made", start);
    let start = Instant::now();
    engine.refresh()?;
    print("folded", start);
    // Last: whoever finds it finds all of it.
    std::fs::write(names_path(dir), names.to_string())
        .map_err(|error| Error::unavailable("the names can not be written").with_source(error))
}

fn names_path(dir: &Path) -> PathBuf {
    dir.join("names.json")
}

/// Families of runs as sweeps leave them, some at once.
fn make_runs(engine: &Arc<Engine>, runs: usize) -> Result<()> {
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(None));
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let first = next.fetch_add(FAMILY, Ordering::Relaxed);
                    if first >= runs {
                        return;
                    }
                    if let Err(error) = make_family(engine, first) {
                        *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                        next.store(runs, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    failed.map_or(Ok(()), Err)
}

fn make_family(engine: &Arc<Engine>, first: usize) -> Result<()> {
    let mut parent: Option<RunId> = None;
    for number in first..first + FAMILY {
        let rank = (number - first) as i64;
        let config = json!({
            "lr": 10_f64.powf(-1.0 - (number % 700) as f64 / 100.0),
            "model": { "depth": number % 13, "width": 64 * (1 + number % 7), "name": format!("net-{}", number % 11) },
            "seed": number,
            "optimizer": OPTIMIZERS[number % 4],
        });
        let writer = engine.start_run(RunSpec {
            config: Some(config),
            tags: vec![
                format!("sweep-{}", number / 100),
                format!("t{}", number % 5),
            ],
            ..spec("big", parent, 2 + rank)?
        })?;
        for step in 3 + rank..7 + rank {
            let noise =
                (number as i64 * 48_271 + step * 40_503).rem_euclid(100_003) as f64 / 100_003.0;
            let values = [
                ("train/loss", noise + 5.0 / step as f64),
                ("val/loss", noise),
                ("val/acc", 1.0 - noise),
            ];
            writer.log(Some(Step(step)), None, &values, true)?;
        }
        let failed = number % 17 == 3;
        let status = failed.then_some(RunStatus::Failed);
        writer.finish(status, failed.then(|| "out of memory".to_owned()), None)?;
        parent = Some(writer.run());
    }
    Ok(())
}

fn make_wide(engine: &Arc<Engine>) -> Result<RunId> {
    let writer = engine.start_run(spec("wide", None, 0)?)?;
    let name = |i: usize| {
        let kind = ["grad_norm", "weight_norm"][i % 2];
        format!("layers/{}/{kind}/{}", i / 100, i / 2 % 50)
    };
    let names: Vec<String> = (0..METRICS).map(name).collect();
    for step in 0..10 {
        let value = |i: usize| (i + step) as f64;
        let values: Vec<(&str, f64)> = (0..METRICS)
            .map(|i| (names[i].as_str(), value(i)))
            .collect();
        writer.log(Some(Step(step as i64)), None, &values, true)?;
    }
    end(&writer)
}

fn make_long(engine: &Arc<Engine>, each: i64) -> Result<RunId> {
    let mut parent = None;
    for k in 0..FORKS {
        let writer = engine.start_run(spec("long", parent, k * each - 1)?)?;
        log_walk(&writer, k * each, each)?;
        parent = Some(end(&writer)?);
    }
    parent.ok_or_else(|| Error::invalid("no forks"))
}

fn make_siblings(engine: &Arc<Engine>, each: i64) -> Result<Vec<String>> {
    let sibling = |_| {
        let writer = engine.start_run(spec("siblings", None, 0)?)?;
        log_walk(&writer, 0, each)?;
        end(&writer).map(|run| run.to_string())
    };
    (0..SIBLINGS).map(sibling).collect()
}

fn spec(project: &str, parent: Option<RunId>, fork_step: i64) -> Result<RunSpec> {
    Ok(RunSpec {
        fork: parent.map_or(ForkChoice::None, |parent| ForkChoice::RunAndStep {
            run: parent.to_string(),
            step: Step(fork_step),
        }),
        ..RunSpec::new(project.parse()?)
    })
}

/// A random walk of float32-born values, one a step and ten milliseconds, up to now.
fn log_walk(writer: &RunWriter, first: i64, count: i64) -> Result<()> {
    let (mut state, mut value) = (first as u64 + 1, 0.0_f64);
    let end = SystemClock.now().0;
    for step in first..first + count {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        value += (state >> 40) as f64 / f64::from(1 << 23) - 1.0;
        writer.log(
            Some(Step(step)),
            Some(Timestamp(end - (first + count - step) * STEP_MICROS)),
            &[("loss", f64::from(value as f32))],
            true,
        )?;
        if step % FLUSH_EVERY == FLUSH_EVERY - 1 {
            writer.flush()?;
        }
    }
    Ok(())
}

fn end(writer: &Arc<RunWriter>) -> Result<RunId> {
    let report = writer.finish(None, None, None)?;
    if report.dropped_points.is_empty() {
        Ok(writer.run())
    } else {
        Err(Error::unavailable(
            "points were dropped while the store was made",
        ))
    }
}

// ---- Asking.

fn ask(dir: &Path) -> Result<()> {
    let names = std::fs::read_to_string(names_path(dir))
        .map_err(|error| Error::not_found("no store was made there").with_source(error))?;
    let names: serde_json::Value = serde_json::from_str(&names)
        .map_err(|error| Error::corrupt("the names can not be read").with_source(error))?;
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let siblings: Vec<String> = names["siblings"]
        .as_array()
        .into_iter()
        .flatten()
        .map(text)
        .collect();

    let start = Instant::now();
    let engine = Engine::open(options(dir).with_mode(OpenMode::ReadOnly))?;
    let page = engine.runs(&RunQuery {
        limit: 100,
        ..big()
    })?;
    print("open, first page", start);

    ask_for_runs(&engine, page.total)?;

    let long = text(&names["long"]);
    let points = engine.series(&chart(std::slice::from_ref(&long)))?.series[0].points as i64;
    time("chart: stitched, 20 forks", || {
        engine.series(&chart(std::slice::from_ref(&long))).map(drop)
    })?;
    let middle = wire::SeriesRequest {
        from: Some(points / 3),
        to: Some(points / 3 + points / 7),
        ..chart(std::slice::from_ref(&long))
    };
    time("chart: stitched, zoomed", || {
        engine.series(&middle).map(drop)
    })?;
    let close = wire::SeriesRequest {
        from: Some(points / 3),
        to: Some(points / 3 + 5000),
        ..chart(&[long])
    };
    time("chart: stitched, zoomed to 5000 steps", || {
        engine.series(&close).map(drop)
    })?;
    time("chart: 20 runs", || {
        engine.series(&chart(&siblings)).map(drop)
    })?;
    let relative = wire::SeriesRequest {
        x: wire::XAxis::Relative,
        ..chart(&siblings)
    };
    time("chart: 20 runs, relative time", || {
        engine.series(&relative).map(drop)
    })?;

    let wide: RunId = text(&names["wide"]).parse()?;
    for pattern in [
        "grad_norm/7$",
        "^layers/1.*weight.*3",
        "nothing at all",
        ".",
    ] {
        time(&format!("wide run: metrics that match {pattern}"), || {
            engine
                .metrics(wide, &MetricFilter::Matching(pattern.to_owned()))
                .map(drop)
        })?;
    }
    time("wide run: its page", || engine.run(wide).map(drop))
}

fn big() -> RunQuery {
    RunQuery {
        project: Some("big".to_owned()),
        limit: 100,
        ..RunQuery::default()
    }
}

fn ask_for_runs(engine: &Arc<Engine>, total: u64) -> Result<()> {
    let list = |what: &str, query: RunQuery| {
        time(&format!("runs: {what}"), || {
            let page = engine.runs(&query)?;
            if page.runs.is_empty() {
                return Err(Error::invalid(format!("no runs: {what}")));
            }
            Ok(())
        })
    };
    list("newest", big())?;
    list(
        "of all projects",
        RunQuery {
            project: None,
            ..big()
        },
    )?;
    for sort in [
        "name",
        "display_id",
        "status",
        "last_activity",
        "last_step",
        "metric:val/loss",
        "min:val/loss",
        "config:lr",
        "config:optimizer",
    ] {
        list(
            &format!("by {sort}"),
            RunQuery {
                sort: sort.parse()?,
                descending: false,
                ..big()
            },
        )?;
    }
    for filter in [
        "config.lr < 1e-6",
        "config.optimizer = lion",
        "min(val/loss) < 0.01",
        "val/loss > 0.2 config.model.depth = 7",
        "status = failed",
        "tag = t3",
        "tag = sweep-77",
        "net-5",
        "created > -7d",
    ] {
        list(
            filter,
            RunQuery {
                filter: filter.parse()?,
                ..big()
            },
        )?;
        list(
            &format!("{filter}, by metric"),
            RunQuery {
                filter: filter.parse()?,
                sort: "metric:val/loss".parse()?,
                ..big()
            },
        )?;
    }
    for (what, sort) in [
        ("newest", "created"),
        ("by metric", "metric:val/loss"),
        ("by config", "config:lr"),
    ] {
        let deep = RunQuery {
            cursor: Some((total - total / 10).to_string()),
            sort: sort.parse()?,
            ..big()
        };
        list(&format!("{what}, page at nine tenths"), deep)?;
    }
    list(
        "no metrics",
        RunQuery {
            metrics: Some(Vec::new()),
            ..big()
        },
    )
}

fn chart(runs: &[String]) -> wire::SeriesRequest {
    let series = runs.iter().map(|run| wire::SeriesSelector {
        run: run.clone(),
        metric: "loss".to_owned(),
        attempt: None,
        from: None,
    });
    wire::SeriesRequest {
        series: series.collect(),
        x: wire::XAxis::Step,
        x_metric: None,
        from: None,
        to: None,
        pixels: 1000,
        inherited: true,
    }
}

/// Median and minimum of several rounds, after one that warms.
fn time(what: &str, mut work: impl FnMut() -> Result<()>) -> Result<()> {
    let mut seconds = Vec::with_capacity(ROUNDS);
    for _ in 0..=ROUNDS {
        let start = Instant::now();
        work()?;
        seconds.push(start.elapsed().as_secs_f64());
    }
    let first = seconds.remove(0);
    seconds.sort_by(f64::total_cmp);
    tell(what, &[seconds[ROUNDS / 2], seconds[0], first]);
    Ok(())
}

fn print(what: &str, start: Instant) {
    tell(what, &[start.elapsed().as_secs_f64()]);
}

#[expect(clippy::print_stdout, reason = "this is what the example is for")]
fn tell(what: &str, seconds: &[f64]) {
    let times: Vec<String> = seconds
        .iter()
        .map(|seconds| format!("{:.2}", seconds * 1e3))
        .collect();
    println!("{what}\t{}", times.join("\t"));
}
