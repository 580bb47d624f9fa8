//! How long a chain of forks takes: to read the timeline, to stitch a metric along it, to chart it, to resolve where a step belongs.
//!
//! `cargo run --release -p runtree-engine --example lineage_speed -- 1000`

use std::time::Instant;

use runtree_core::{Result, Step, wire};
use runtree_engine::{
    CheckpointScope, Engine, EngineOptions, ForkChoice, HistoryQuery, OpenMode, RunSpec,
};

/// Steps that every run of the chain logs.
const STEPS: i64 = 10;
/// How often everything is asked; the fastest answer counts.
const ROUNDS: usize = 5;

fn main() -> Result<()> {
    let depth: i64 = std::env::args()
        .nth(1)
        .map_or(Ok(1000), |text| text.parse())
        .unwrap_or(1000);
    let dir = tempfile::tempdir().map_err(|error| {
        runtree_core::Error::unavailable("no temporary directory").with_source(error)
    })?;
    let options = EngineOptions::new(dir.path().join("store"), dir.path().join("cache"));
    let engine = Engine::open(options.clone().with_mode(OpenMode::Create))?;
    let mut run = None;
    let start = Instant::now();
    for generation in 0..depth {
        let fork = run.map_or(ForkChoice::None, |parent: runtree_core::RunId| {
            ForkChoice::RunAndStep {
                run: parent.to_string(),
                step: Step(generation * STEPS - 1),
            }
        });
        let writer = engine.start_run(RunSpec {
            fork,
            ..RunSpec::new("chain".parse()?)
        })?;
        for step in generation * STEPS..(generation + 1) * STEPS {
            writer.log(Some(Step(step)), None, &[("loss", step as f64)], true)?;
        }
        writer.finish(None, None, None)?;
        run = Some(writer.run());
    }
    report("built", start);
    drop(engine);
    let Some(run) = run else { return Ok(()) };
    let start = Instant::now();
    let engine = Engine::open(options.with_mode(OpenMode::ReadOnly))?;
    engine.refresh()?;
    report("first refresh of a cold process", start);

    fastest("refresh", || engine.refresh())?;
    fastest("timeline", || {
        let timeline = engine.timeline(run)?;
        assert_eq!(timeline.segments().len() as i64, depth);
        Ok(())
    })?;
    fastest("history", || {
        let history = engine.history(run, "loss", HistoryQuery::default())?;
        assert_eq!(history.steps.len() as i64, depth * STEPS);
        Ok(())
    })?;
    fastest("chart", || {
        let response = engine.series(&wire::SeriesRequest {
            series: vec![wire::SeriesSelector {
                run: run.to_string(),
                metric: "loss".to_owned(),
                attempt: None,
                from: None,
            }],
            x: wire::XAxis::Step,
            x_metric: None,
            from: None,
            to: None,
            pixels: 1000,
            inherited: true,
        })?;
        assert_eq!(response.series[0].points as i64, depth * STEPS);
        Ok(())
    })?;
    fastest("checkpoints", || {
        let scope = CheckpointScope {
            inherited: true,
            ..CheckpointScope::default()
        };
        engine.checkpoints(run, scope).map(drop)
    })?;
    fastest("lineage page", || engine.lineage(run).map(drop))
}

fn fastest(what: &str, mut work: impl FnMut() -> Result<()>) -> Result<()> {
    let mut best = f64::INFINITY;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        work()?;
        best = best.min(start.elapsed().as_secs_f64());
    }
    print(what, best);
    Ok(())
}

fn report(what: &str, start: Instant) {
    print(what, start.elapsed().as_secs_f64());
}

#[expect(clippy::print_stdout, reason = "this is what the example is for")]
fn print(what: &str, seconds: f64) {
    println!("{what:<34} {:9.2} ms", seconds * 1e3);
}
