//! Random families of runs through the real engine, against a naive model: dictionaries and recursion.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use runtree_core::{AttemptNumber, RunId, Step};
use runtree_engine::{Engine, ForkSpec, HistoryQuery, ResumePolicy, RunSpec, RunWriter};
use runtree_testkit::place;

use crate::support::*;

/// What a test does; numbers are taken modulo what there is.
#[derive(Clone, Debug)]
enum Act {
    /// A root of its own.
    Start,
    /// Logs the next few steps.
    Log { run: usize, count: i64 },
    /// Logs a step again that this launch logged.
    Again { run: usize, back: i64 },
    /// Saves the last step.
    Save { run: usize },
    /// The process dies and is launched again.
    Crash { run: usize },
    /// The process dies, and the next one's first step lies lower than it was asked to begin.
    CrashLow { run: usize, down: i64 },
    /// Goes back in the process.
    Rewind { run: usize, at: i64 },
    /// Forks, with a process or without.
    Fork { run: usize, at: i64, idle: bool },
    /// Logs the fork step itself in a fork that has logged nothing.
    AtForkStep { run: usize },
}

fn act() -> impl Strategy<Value = Act> {
    let run = 0_usize..8;
    prop_oneof![
        1 => Just(Act::Start),
        5 => (run.clone(), 1_i64..12).prop_map(|(run, count)| Act::Log { run, count }),
        2 => (run.clone(), 0_i64..6).prop_map(|(run, back)| Act::Again { run, back }),
        3 => run.clone().prop_map(|run| Act::Save { run }),
        2 => run.clone().prop_map(|run| Act::Crash { run }),
        1 => (run.clone(), 0_i64..8).prop_map(|(run, down)| Act::CrashLow { run, down }),
        2 => (run.clone(), 0_i64..64).prop_map(|(run, at)| Act::Rewind { run, at }),
        4 => (run.clone(), 0_i64..64, any::<bool>()).prop_map(|(run, at, idle)| Act::Fork { run, at, idle }),
        1 => run.prop_map(|run| Act::AtForkStep { run }),
    ]
}

#[derive(Debug)]
struct Attempt {
    run: usize,
    number: AttemptNumber,
    base: Option<(usize, i64)>,
    lowered: Option<i64>,
    own: BTreeMap<i64, f64>,
    saves: Vec<i64>,
    resumed: bool,
}

struct Run {
    id: RunId,
    key: String,
    writer: Option<Arc<RunWriter>>,
    newest: usize,
    fork_step: Option<i64>,
}

struct Family {
    bench: Bench,
    runs: Vec<Run>,
    attempts: Vec<Attempt>,
    value: f64,
}

impl Family {
    fn new() -> Self {
        let mut family = Self {
            bench: Bench::new(),
            runs: Vec::new(),
            attempts: Vec::new(),
            value: 0.0,
        };
        family.start();
        family
    }

    // --- the model

    fn last_inherited(&self, attempt: usize) -> Option<i64> {
        let (_, step) = self.attempts[attempt].base?;
        Some(match self.attempts[attempt].lowered {
            Some(lowered) if lowered <= step => lowered - 1,
            _ => step,
        })
    }

    /// Effective (step → value, attempt) of a launch.
    fn effective(&self, attempt: usize) -> BTreeMap<i64, (f64, usize)> {
        let mut points = BTreeMap::new();
        if let Some((base, _)) = self.attempts[attempt].base {
            let last = self.last_inherited(attempt).unwrap();
            points = self.effective(base);
            points.retain(|step, _| *step <= last);
        }
        for (step, value) in &self.attempts[attempt].own {
            points.insert(*step, (*value, attempt));
        }
        points
    }

    /// Effective (step, attempt) of complete checkpoints, the one that counts last.
    fn effective_saves(&self, attempt: usize) -> Vec<(i64, usize)> {
        let mut saves = Vec::new();
        if let Some((base, step)) = self.attempts[attempt].base {
            saves = self.effective_saves(base);
            let last = self.last_inherited(attempt).unwrap().min(step);
            saves.retain(|(step, _)| *step <= last);
        }
        saves.extend(
            self.attempts[attempt]
                .saves
                .iter()
                .map(|step| (*step, attempt)),
        );
        saves.sort_by_key(|(step, _)| *step);
        saves
    }

    /// Whose own history holds a step.
    fn owner(&self, attempt: usize, step: i64) -> usize {
        match self.last_inherited(attempt) {
            Some(last) if step <= last => self.owner(self.attempts[attempt].base.unwrap().0, step),
            _ => attempt,
        }
    }

    fn range(&self, run: usize) -> Option<(i64, i64)> {
        let newest = self.runs[run].newest;
        let points = self.effective(newest);
        let saves = self.effective_saves(newest);
        let steps = points
            .keys()
            .copied()
            .chain(saves.iter().map(|(step, _)| *step));
        let steps: Vec<i64> = steps.collect();
        Some((*steps.iter().min()?, *steps.iter().max()?))
    }

    fn last_logged(&self, run: usize) -> Option<i64> {
        let points = self.effective(self.runs[run].newest);
        points.keys().next_back().copied()
    }

    fn expected_next(&self, attempt: usize) -> i64 {
        let facts = &self.attempts[attempt];
        match (facts.own.keys().next_back(), facts.base) {
            (Some(last), _) => last + 1,
            (None, Some((_, step))) => step + 1,
            (None, None) => 0,
        }
    }

    // --- the acts

    fn fresh(&mut self) -> f64 {
        self.value += 1.0;
        self.value
    }

    fn spec(&self, run: usize) -> RunSpec {
        keyed(&self.runs[run].key, ResumePolicy::Allow)
    }

    fn adopt(
        &mut self,
        id: RunId,
        key: String,
        base: Option<(usize, i64)>,
        writer: Option<Arc<RunWriter>>,
    ) {
        self.attempts.push(Attempt {
            run: self.runs.len(),
            number: AttemptNumber(1),
            base,
            lowered: None,
            own: BTreeMap::new(),
            saves: Vec::new(),
            resumed: false,
        });
        self.runs.push(Run {
            id,
            key,
            writer,
            newest: self.attempts.len() - 1,
            fork_step: base.map(|(_, step)| step),
        });
    }

    fn start(&mut self) {
        let key = format!("run-{}", self.runs.len());
        let writer = self.bench.start(keyed(&key, ResumePolicy::Allow));
        self.adopt(writer.run(), key, None, Some(writer));
    }

    /// The live process of a run; launched if there is none.
    fn writer(&mut self, run: usize) -> Arc<RunWriter> {
        if self.runs[run].writer.is_none() {
            let newest = self.runs[run].newest;
            let fork_step = self.runs[run].fork_step;
            let latest = self.effective_saves(newest).pop();
            let base = match (latest, fork_step) {
                (Some((step, owner)), _) if self.attempts[owner].run == run => Some((owner, step)),
                (Some(_), Some(fork_step)) => Some((newest, fork_step)),
                _ => self
                    .last_logged(run)
                    .max(fork_step)
                    .map(|last| (newest, last)),
            };
            let writer = self.bench.start(self.spec(run));
            self.attempts.push(Attempt {
                run,
                number: writer.attempt(),
                base,
                lowered: None,
                own: BTreeMap::new(),
                saves: Vec::new(),
                resumed: true,
            });
            self.runs[run].newest = self.attempts.len() - 1;
            self.runs[run].writer = Some(writer);
        }
        Arc::clone(self.runs[run].writer.as_ref().unwrap())
    }

    fn crash(&mut self, run: usize) {
        if let Some(writer) = self.runs[run].writer.take() {
            writer.flush().unwrap();
        }
    }

    fn perform(&mut self, act: &Act) {
        let count = self.runs.len();
        match *act {
            Act::Start => {
                if count < 4 {
                    self.start();
                }
            }
            Act::Log { run, count: steps } => {
                let run = run % count;
                let writer = self.writer(run);
                let attempt = self.runs[run].newest;
                for _ in 0..steps {
                    let next = self.expected_next(attempt);
                    assert_eq!(writer.next_step(), Step(next));
                    let value = self.fresh();
                    writer.log(None, None, &[("loss", value)], true).unwrap();
                    self.attempts[attempt].own.insert(next, value);
                }
            }
            Act::Again { run, back } => {
                let run = run % count;
                let writer = self.writer(run);
                let attempt = self.runs[run].newest;
                let own = &self.attempts[attempt].own;
                let Some((first, last)) = own.keys().next().zip(own.keys().next_back()) else {
                    return;
                };
                let step = (last - back).max(*first);
                let value = self.fresh();
                log(&writer, step, value).unwrap();
                self.attempts[attempt].own.insert(step, value);
            }
            Act::Save { run } => {
                let run = run % count;
                let writer = self.writer(run);
                let attempt = self.runs[run].newest;
                if let Some(last) = self.attempts[attempt].own.keys().next_back().copied() {
                    save(&writer, last);
                    self.attempts[attempt].saves.push(last);
                }
            }
            Act::Crash { run } => {
                let run = run % count;
                self.crash(run);
                self.writer(run);
            }
            Act::CrashLow { run, down } => {
                let run = run % count;
                self.crash(run);
                let writer = self.writer(run);
                let attempt = self.runs[run].newest;
                let floor = self.runs[run].fork_step.unwrap_or(i64::MIN);
                let Some((_, base)) = self.attempts[attempt].base else {
                    return;
                };
                let step = (base - down).max(floor);
                let value = self.fresh();
                log(&writer, step, value).unwrap();
                self.attempts[attempt].own.insert(step, value);
                self.attempts[attempt].lowered = Some(step);
            }
            Act::Rewind { run, at } => {
                let run = run % count;
                let writer = self.writer(run);
                let Some((first, last)) = self.range(run) else {
                    return;
                };
                let first = first.max(self.runs[run].fork_step.unwrap_or(i64::MIN));
                if first > last {
                    return;
                }
                let step = first + at % (last - first + 1);
                let newest = self.runs[run].newest;
                writer.rewind(Step(step)).unwrap();
                self.attempts.push(Attempt {
                    run,
                    number: writer.attempt(),
                    base: Some((newest, step)),
                    lowered: None,
                    own: BTreeMap::new(),
                    saves: Vec::new(),
                    resumed: false,
                });
                self.runs[run].newest = self.attempts.len() - 1;
            }
            Act::Fork { run, at, idle } => {
                let run = run % count;
                if count >= 8 {
                    return;
                }
                if let Some(writer) = &self.runs[run].writer {
                    writer.flush().unwrap();
                }
                let Some((first, last)) = self.range(run) else {
                    return;
                };
                let last = last.max(self.last_logged(run).map_or(i64::MIN, |last| last + 1));
                let step = first + at % (last - first + 1);
                let owner = self.owner(self.runs[run].newest, step);
                let key = format!("run-{count}");
                let parent = self.runs[run].id;
                let (id, writer) = if idle {
                    let spec = ForkSpec {
                        key: Some(key.clone()),
                        ..ForkSpec::new(at_step(parent, step))
                    };
                    (self.bench.engine.fork(spec).unwrap(), None)
                } else {
                    let writer = self.bench.start(RunSpec {
                        key: Some(key.clone()),
                        ..fork_of(parent, step)
                    });
                    (writer.run(), Some(writer))
                };
                let summary = self.bench.engine.summary(id).unwrap();
                let owner_run = self.runs[self.attempts[owner].run].id;
                assert_eq!(summary.owner.unwrap().id, owner_run.to_string());
                assert_eq!(summary.parent.unwrap().id, parent.to_string());
                self.adopt(id, key, Some((owner, step)), writer);
            }
            Act::AtForkStep { run } => {
                let run = run % count;
                let attempt = self.runs[run].newest;
                let facts = &self.attempts[attempt];
                let (Some(step), true, false) = (
                    self.runs[run].fork_step,
                    facts.own.is_empty(),
                    facts.resumed,
                ) else {
                    return;
                };
                if facts.number != AttemptNumber(1) || self.runs[run].writer.is_none() {
                    return;
                }
                let writer = self.writer(run);
                let value = self.fresh();
                log(&writer, step, value).unwrap();
                self.attempts[attempt].own.insert(step, value);
            }
        }
    }

    // --- what must hold

    fn check(&self, engine: &Engine) {
        for run in &self.runs {
            let expected = self.effective(run.newest);
            let detail = engine.run(run.id).unwrap();
            assert_eq!(
                detail.summary.last_step.map(|step| step.0),
                expected.keys().next_back().copied()
            );
            if expected.is_empty() {
                assert!(detail.metrics.is_empty());
                continue;
            }
            let history = engine
                .history(run.id, "loss", HistoryQuery::default())
                .unwrap();
            let found: Vec<(i64, f64)> = history
                .steps
                .iter()
                .copied()
                .zip(history.values.iter().copied())
                .collect();
            let wanted: Vec<(i64, f64)> = expected
                .iter()
                .map(|(step, (value, _))| (*step, *value))
                .collect();
            assert_eq!(found, wanted, "run {}", run.key);
            let mut whose = Vec::new();
            for stretch in &history.stretches {
                whose.extend(std::iter::repeat_n(
                    (stretch.run, stretch.attempt),
                    stretch.points,
                ));
            }
            for ((_, attempt), found) in expected.values().zip(&whose) {
                let attempt = &self.attempts[*attempt];
                assert_eq!(*found, (self.runs[attempt.run].id, attempt.number));
            }
            assert_eq!(detail.metrics[0].points, expected.len() as u64);
            assert_eq!(detail.metrics[0].last.value.0, wanted.last().unwrap().1);
            let smallest = wanted
                .iter()
                .map(|(_, value)| *value)
                .fold(f64::INFINITY, f64::min);
            assert_eq!(detail.metrics[0].min.as_ref().unwrap().value.0, smallest);
        }
        for attempt in &self.attempts {
            if attempt.own.is_empty() {
                continue;
            }
            let query = HistoryQuery {
                attempt: Some(attempt.number),
                ..HistoryQuery::default()
            };
            let own = engine
                .history(self.runs[attempt.run].id, "loss", query)
                .unwrap();
            let own: BTreeMap<i64, f64> = own.steps.into_iter().zip(own.values).collect();
            assert_eq!(own, attempt.own);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: place::cases(24, 4), max_shrink_iters: 200, ..ProptestConfig::default() })]
    #[test]
    fn random_families_show_what_a_naive_model_says(acts in proptest::collection::vec(act(), 1..28)) {
        let mut family = Family::new();
        for act in &acts {
            family.perform(act);
        }
        for run in &family.runs {
            if let Some(writer) = &run.writer {
                writer.flush().unwrap();
            }
        }
        family.check(&family.bench.engine);
        // Another machine that folds it all at once; and again with every second run deleted.
        family.check(&family.bench.elsewhere("fresh"));
        for run in family.runs.iter().step_by(2) {
            family.bench.engine.delete_run(run.id).unwrap();
        }
        family.check(&family.bench.engine);
    }
}
