//! Lineage against a naive model: every attempt keeps the whole history it shows, point by point, and every point that is logged is
//! carried at once into every attempt that is built on it. No walk, no segment, no interval: dictionaries only.

use std::collections::BTreeMap;

use proptest::prelude::*;
use runtree_core::Step;
use runtree_core::lineage::{AttemptId, Timeline, resolve_owner};

use crate::lineage::{Tree, facts, id};

/// What a trainer or a user does.
#[derive(Clone, Debug)]
enum Act {
    /// A new root.
    Start,
    /// A new run built on an attempt at a step.
    Fork { of: usize, at: i64, resolved: bool },
    /// The next attempt of that attempt's run, built on it.
    Resume { of: usize, at: i64 },
    /// Its own history starts lower, before its first point.
    Lower { of: usize, to: i64 },
    /// Some steps of a metric.
    Log {
        of: usize,
        metric: u8,
        from: i64,
        count: i64,
    },
    /// A point at exactly the attempt's own base step.
    LogAtBase { of: usize, metric: u8 },
}

fn any_act() -> impl Strategy<Value = Act> {
    let of = 0_usize..64;
    let step = -5_i64..60;
    prop_oneof![
        1 => Just(Act::Start),
        3 => (of.clone(), step.clone(), any::<bool>()).prop_map(|(of, at, resolved)| Act::Fork { of, at, resolved }),
        3 => (of.clone(), step.clone()).prop_map(|(of, at)| Act::Resume { of, at }),
        2 => (of.clone(), step.clone()).prop_map(|(of, to)| Act::Lower { of, to }),
        8 => (of.clone(), 0_u8..2, step, 1_i64..20)
            .prop_map(|(of, metric, from, count)| Act::Log { of, metric, from, count }),
        2 => (of, 0_u8..2).prop_map(|(of, metric)| Act::LogAtBase { of, metric }),
    ]
}

type Key = (u8, i64);

/// Whose point it is, and the how-manieth that was logged.
type Entry = (AttemptId, u64);

struct Attempt {
    id: AttemptId,
    base: Option<(usize, i64)>,
    lowered: Option<i64>,
    children: Vec<usize>,
    logged: bool,
    /// Everything it shows.
    shows: BTreeMap<Key, Entry>,
    /// Everything that was ever delivered under its name, counted or not.
    delivered: BTreeMap<Key, u64>,
}

impl Attempt {
    /// Whether it takes what its base has at a step.
    fn inherits(&self, step: i64) -> bool {
        let below_base = self.base.is_some_and(|(_, base)| step <= base);
        below_base && self.lowered.is_none_or(|lowered| step < lowered)
    }

    fn logs(&self, step: i64) -> bool {
        let Some((_, base)) = self.base else {
            return true;
        };
        step >= base || self.lowered.is_some_and(|lowered| step >= lowered)
    }
}

#[derive(Default)]
struct World {
    attempts: Vec<Attempt>,
    runs: u128,
    clock: u64,
}

impl World {
    fn act(&mut self, act: &Act) {
        let pick = |of: usize| of % self.attempts.len().max(1);
        match *act {
            Act::Start => {
                self.runs += 1;
                self.add(id(self.runs, 1), None);
            }
            _ if self.attempts.is_empty() => {}
            Act::Fork { of, at, resolved } => {
                let mut of = pick(of);
                // What the engine does: it builds upon the owner of the step. The tree must hold without that, too.
                if resolved {
                    of = self.owner(of, at);
                }
                self.runs += 1;
                self.add(id(self.runs, 1), Some((of, at)));
            }
            Act::Resume { of, at } => {
                let of = pick(of);
                let run = self.attempts[of].id.run;
                let of_run = self.attempts.iter().filter(|attempt| attempt.id.run == run);
                let attempt = of_run.map(|attempt| attempt.id.attempt).max().unwrap();
                let next = AttemptId {
                    run,
                    attempt: attempt.next(),
                };
                self.add(next, Some((of, at)));
            }
            Act::Lower { of, to } => self.lower(pick(of), to),
            Act::Log {
                of,
                metric,
                from,
                count,
            } => {
                let of = pick(of);
                (from..from + count).for_each(|step| self.log(of, metric, step));
            }
            Act::LogAtBase { of, metric } => {
                let of = pick(of);
                if let Some((_, step)) = self.attempts[of].base {
                    self.log(of, metric, step);
                }
            }
        }
    }

    fn add(&mut self, id: AttemptId, base: Option<(usize, i64)>) {
        let index = self.attempts.len();
        let shows = base.map_or_else(BTreeMap::new, |(base, step)| {
            self.attempts[base].children.push(index);
            let shown = self.attempts[base].shows.iter();
            shown
                .filter(|((_, at), _)| *at <= step)
                .map(|(key, entry)| (*key, *entry))
                .collect()
        });
        self.attempts.push(Attempt {
            id,
            base,
            lowered: None,
            children: Vec::new(),
            logged: false,
            shows,
            delivered: BTreeMap::new(),
        });
    }

    fn log(&mut self, of: usize, metric: u8, step: i64) {
        self.clock += 1;
        let attempt = &mut self.attempts[of];
        attempt.logged = true;
        attempt.delivered.insert((metric, step), self.clock);
        if attempt.logs(step) {
            let entry = (attempt.id, self.clock);
            self.show(of, (metric, step), entry);
        }
    }

    /// Shows a point in an attempt and in all that inherit it from there.
    fn show(&mut self, of: usize, key: Key, entry: Entry) {
        self.attempts[of].shows.insert(key, entry);
        for child in self.attempts[of].children.clone() {
            let child_attempt = &self.attempts[child];
            let own = child_attempt
                .shows
                .get(&key)
                .is_some_and(|(owner, _)| *owner == child_attempt.id);
            if child_attempt.inherits(key.1) && !own {
                self.show(child, key, entry);
            }
        }
    }

    fn lower(&mut self, of: usize, to: i64) {
        let attempt = &self.attempts[of];
        if attempt.base.is_none() || attempt.logged || attempt.lowered.is_some() {
            return;
        }
        let gone: Vec<Key> = attempt
            .shows
            .keys()
            .copied()
            .filter(|(_, step)| *step >= to)
            .collect();
        for key in gone {
            self.hide(of, key);
        }
        self.attempts[of].lowered = Some(to);
    }

    /// Hides an inherited point in an attempt and in all that inherit it from there.
    fn hide(&mut self, of: usize, key: Key) {
        self.attempts[of].shows.remove(&key);
        for child in self.attempts[of].children.clone() {
            let child_attempt = &self.attempts[child];
            let own = child_attempt
                .shows
                .get(&key)
                .is_some_and(|(owner, _)| *owner == child_attempt.id);
            if child_attempt.inherits(key.1) && !own {
                self.hide(child, key);
            }
        }
    }

    /// Whose history holds a step, by the rule as the seed words it: up, while the step is at or below what is inherited.
    fn owner(&self, mut of: usize, step: i64) -> usize {
        while let Some((base, _)) = self.attempts[of]
            .base
            .filter(|_| self.attempts[of].inherits(step))
        {
            of = base;
        }
        of
    }

    /// Whether the way from `leaf` up to `of` inherits a step all along, and `of` itself counts there.
    fn holds(&self, leaf: usize, of: usize, step: i64) -> bool {
        let mut at = leaf;
        while at != of {
            match self.attempts[at].base {
                Some((base, _)) if self.attempts[at].inherits(step) => at = base,
                _ => return false,
            }
        }
        self.attempts[of].logs(step)
    }

    fn tree(&self) -> Tree {
        let with_facts = |attempt: &Attempt| {
            let base = attempt
                .base
                .map(|(base, step)| (self.attempts[base].id, step));
            (attempt.id, facts(base, attempt.lowered))
        };
        self.attempts.iter().map(with_facts).collect()
    }

    /// What a timeline shows: every segment's own points, later segments over earlier ones.
    fn stitched(&self, timeline: &Timeline) -> BTreeMap<Key, Entry> {
        let mut shown = BTreeMap::new();
        for segment in timeline.segments() {
            let attempt = self
                .attempts
                .iter()
                .find(|attempt| attempt.id == segment.id)
                .unwrap();
            for (&(metric, step), &entry) in &attempt.delivered {
                if segment.first.0 <= step && step <= segment.last.0 {
                    shown.insert((metric, step), (segment.id, entry));
                }
            }
        }
        shown
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn every_attempt_of_any_tree_shows_what_the_dictionaries_hold(
        acts in prop::collection::vec(any_act(), 1..60),
        cut in -5_i64..60,
    ) {
        let mut world = World::default();
        world.act(&Act::Start);
        for act in &acts {
            world.act(act);
        }
        let tree = world.tree();
        for (leaf, attempt) in world.attempts.iter().enumerate() {
            let timeline = Timeline::of(&tree, attempt.id).unwrap();
            prop_assert_eq!(&world.stitched(&timeline), &attempt.shows, "{:?} {:?}", attempt.id, timeline);

            let mut up_to = attempt.shows.clone();
            up_to.retain(|(_, step), _| *step <= cut);
            let short = Timeline::up_to(&tree, attempt.id, Step(cut)).unwrap();
            prop_assert_eq!(world.stitched(&short), up_to);

            for step in [i64::MIN, -6, 1000, i64::MAX].into_iter().chain(-5..85) {
                let owner = world.attempts[world.owner(leaf, step)].id;
                prop_assert_eq!(resolve_owner(&tree, attempt.id, Step(step)).unwrap(), owner);
                prop_assert_eq!(timeline.owner_at(Step(step)), Some(owner));
                for (other, candidate) in world.attempts.iter().enumerate() {
                    prop_assert_eq!(
                        timeline.holds(candidate.id, Step(step)),
                        world.holds(leaf, other, step),
                        "{:?} at {} on {:?}", candidate.id, step, timeline
                    );
                }
            }
        }
    }

    #[test]
    fn segments_ascend_and_neighbours_share_at_most_their_base_step(
        acts in prop::collection::vec(any_act(), 1..60),
    ) {
        let mut world = World::default();
        world.act(&Act::Start);
        for act in &acts {
            world.act(act);
        }
        let tree = world.tree();
        for attempt in &world.attempts {
            let timeline = Timeline::of(&tree, attempt.id).unwrap();
            let segments = timeline.segments();
            prop_assert_eq!(segments[0].first, Step::MIN);
            prop_assert_eq!(segments[segments.len() - 1].last, Step::MAX);
            prop_assert_eq!(timeline.leaf().unwrap().id, attempt.id);
            prop_assert!(segments.iter().all(|segment| segment.first <= segment.last));
            for pair in segments.windows(2) {
                let meets = pair[1].first == pair[0].last || pair[1].first == pair[0].last.next();
                prop_assert!(meets, "{:?}", segments);
            }
        }
    }
}
