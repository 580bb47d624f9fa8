//! Whatever is logged in whatever order, sealed, killed and collected in between: the history is that of a map from step to the last value.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use runtree_core::{Step, Timestamp};
use runtree_engine::{HistoryQuery, ResumePolicy, RunWriter};
use runtree_testkit::place;

use crate::support::*;

#[derive(Clone, Debug)]
enum Action {
    /// Steps, relative to where the launch may begin, values, and times of their own.
    Log(Vec<(i64, f64, Option<i64>)>),
    Seal,
    /// Killed, launched again: it goes on after its last effective step.
    Kill,
    Finish,
    /// Only looks.
    Fold,
}

fn any_value() -> impl Strategy<Value = f64> {
    prop_oneof![
        3 => any::<f64>(),
        1 => prop::sample::select(vec![f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0, 5e-324]),
        1 => any::<u64>().prop_map(f64::from_bits),
    ]
}

fn any_action() -> impl Strategy<Value = Action> {
    let point = (0_i64..400, any_value(), prop::option::of(0_i64..1 << 50));
    prop_oneof![
        6 => prop::collection::vec(point, 1..200).prop_map(Action::Log),
        3 => Just(Action::Seal),
        1 => Just(Action::Kill),
        1 => Just(Action::Finish),
        1 => Just(Action::Fold),
    ]
}

/// The naive model: for each step the bits of the last value, its time if one was given, and the launch.
type Model = BTreeMap<i64, (u64, Option<i64>, u32)>;

proptest! {
    #![proptest_config(ProptestConfig { cases: place::cases(24, 6), ..ProptestConfig::default() })]

    #[test]
    fn histories_are_what_was_logged_last(actions in prop::collection::vec(any_action(), 1..16)) {
        let bench = Bench::new();
        let launch = || -> Arc<RunWriter> { bench.start(keyed("r", ResumePolicy::Allow)) };
        let mut run = launch();
        let id = run.run();
        let mut start = 0;
        let mut model = Model::new();
        let mut begun = false;
        for action in actions {
            match action {
                Action::Log(points) => {
                    for (step, value, time) in points {
                        // Its first step may lie lower and then begins its history: kept out of the model by beginning at the start.
                        let step = if begun { start + step } else { start };
                        begun = true;
                        let values = [("loss", value)];
                        run.log(Some(Step(step)), time.map(Timestamp), &values, true).unwrap();
                        model.insert(step, (value.to_bits(), time, run.attempt().0));
                    }
                }
                Action::Seal => {
                    run.flush().unwrap();
                    bench.elsewhere("sealer").seal(&[id], &mut |_| {}).unwrap();
                }
                Action::Kill | Action::Finish => {
                    if matches!(action, Action::Finish) {
                        run.finish(None, None, None).unwrap();
                    } else {
                        run.flush().unwrap();
                    }
                    drop(run);
                    run = launch();
                    start = run.next_step().0;
                    begun = false;
                }
                Action::Fold => bench.engine.refresh().unwrap(),
            }
        }
        run.finish(None, None, None).unwrap();
        let check = |engine: &runtree_engine::Engine| {
            if model.is_empty() {
                return;
            }
            let found = engine.history(id, "loss", HistoryQuery::default()).unwrap();
            let steps: Vec<i64> = model.keys().copied().collect();
            assert_eq!(found.steps, steps);
            let launches = found
                .stretches
                .iter()
                .flat_map(|stretch| std::iter::repeat_n(stretch.attempt.0, stretch.points));
            let rows = found.values.iter().zip(&found.timestamps).zip(launches);
            for ((&step, (bits, time, attempt)), ((value, found), launch)) in model.iter().zip(rows) {
                assert_eq!((value.to_bits(), launch), (*bits, *attempt), "step {step}");
                if let Some(time) = time {
                    assert_eq!(found, time, "step {step}");
                }
            }
        };
        check(&bench.engine);
        check(&bench.elsewhere("unsealed"));
        bench.engine.seal(&[id], &mut |_| {}).unwrap();
        check(&bench.elsewhere("sealed"));
        crate::sealing::collect(&bench, &[id]);
        check(&bench.engine);
        check(&bench.elsewhere("collected"));
        let problems = bench.engine.verify(None).unwrap().problems;
        assert!(problems.is_empty(), "{problems:?}");
    }
}
