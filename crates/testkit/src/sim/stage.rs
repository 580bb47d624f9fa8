//! Who moves: actors on threads of their own, of which exactly one runs at any time.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, Thread};

use super::Dice;

/// Nobody's turn.
const NOBODY: usize = usize::MAX;
/// Longest stretch of calls that one actor makes alone, as a power of two: long enough that somebody stands still while another collects from beginning to end.
const LONGEST_STRETCH: usize = 8;
/// Calls that an actor sleeps through at most: long enough that others come to the end of what they do.
const LONGEST_NAP: usize = 256;
/// Calls of the whole world before which its power is cut, if it is.
const LONGEST_POWER: usize = 1_000;
/// Calls after which an actor that is to die has died.
const LONGEST_LIFE: usize = 160;

/// What an actor may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Its call.
    Go,
    /// Its call, of which it never hears: it is killed meanwhile.
    Last,
    /// Nothing: it was killed.
    Dead,
}

/// The actors' turns.
#[derive(Debug)]
pub(super) struct Stage {
    current: AtomicUsize,
    threads: Vec<OnceLock<Thread>>,
    play: Mutex<Play>,
}

#[derive(Debug)]
struct Play {
    dice: Dice,
    on_stage: Vec<bool>,
    stretch: usize,
    /// Calls of others that each actor sleeps through. In every second world nobody sleeps: there those meet who are close together.
    naps: Vec<usize>,
    is_sleepy: bool,
    /// Calls that each actor still makes before it is killed.
    lives: Vec<Option<usize>>,
    /// Calls until the power is cut.
    power: Option<usize>,
    over: bool,
}

impl Stage {
    pub(super) fn new(actors: usize, mut dice: Dice) -> Self {
        let lives = (0..actors)
            .map(|_| dice.once_in(3).then(|| dice.below(LONGEST_LIFE)))
            .collect();
        let is_sleepy = dice.once_in(2);
        Self {
            current: AtomicUsize::new(NOBODY),
            threads: (0..actors).map(|_| OnceLock::new()).collect(),
            play: Mutex::new(Play {
                dice,
                on_stage: vec![true; actors],
                stretch: 0,
                naps: vec![0; actors],
                is_sleepy,
                lives,
                power: None,
                over: false,
            }),
        }
    }

    /// Has the power cut in the midst of the play.
    pub(super) fn cut_power(&self, dice: &mut Dice) {
        self.play().power = Some(dice.below(LONGEST_POWER));
    }

    fn play(&self) -> MutexGuard<'_, Play> {
        self.play.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says which thread an actor is on.
    pub(super) fn register(&self, me: usize) {
        let _ = self.threads[me].set(thread::current());
    }

    /// Lets the first actor move. All are registered.
    pub(super) fn begin(&self) {
        let first = self.play().next();
        self.hand_over(first);
    }

    /// Waits for the first turn.
    pub(super) fn wait(&self, me: usize) {
        while self.current.load(Ordering::Acquire) != me {
            thread::park();
        }
    }

    /// Called before each call of the store: others may move first.
    pub(super) fn turn(&self, me: usize) -> Turn {
        let next = {
            let mut play = self.play();
            for nap in &mut play.naps {
                *nap = nap.saturating_sub(1);
            }
            if play.stretch > 0 {
                play.stretch -= 1;
                me
            } else {
                if play.is_sleepy && play.dice.once_in(4) {
                    play.naps[me] = play.dice.below(LONGEST_NAP);
                }
                play.next()
            }
        };
        if next != me {
            self.hand_over(next);
            self.wait(me);
        }
        let mut play = self.play();
        match &mut play.power {
            None => {}
            Some(0) => play.over = true,
            Some(left) => *left -= 1,
        }
        if play.over {
            return Turn::Dead;
        }
        let may_hear = play.dice.once_in(2);
        match &mut play.lives[me] {
            None => Turn::Go,
            Some(0) => Turn::Dead,
            Some(left) => {
                *left -= 1;
                if *left == 0 && may_hear {
                    Turn::Last
                } else {
                    Turn::Go
                }
            }
        }
    }

    /// Leaves for good.
    pub(super) fn leave(&self, me: usize) {
        let next = {
            let mut play = self.play();
            play.on_stage[me] = false;
            play.next()
        };
        self.hand_over(next);
    }

    /// Ends the play: nobody does anything any more.
    pub(super) fn end(&self) {
        self.play().over = true;
    }

    fn hand_over(&self, next: usize) {
        self.current.store(next, Ordering::Release);
        if let Some(thread) = self.threads.get(next).and_then(OnceLock::get) {
            thread.unpark();
        }
    }
}

impl Play {
    /// Who moves next, and for how long.
    fn next(&mut self) -> usize {
        let there: Vec<usize> = (0..self.on_stage.len())
            .filter(|&actor| self.on_stage[actor])
            .collect();
        if there.is_empty() {
            return NOBODY;
        }
        let longest = 1 << self.dice.below(LONGEST_STRETCH);
        self.stretch = self.dice.below(longest);
        let is_awake = |actor: &usize| self.naps[*actor] == 0;
        let mut awake: Vec<usize> = there.iter().copied().filter(is_awake).collect();
        if awake.is_empty() {
            // Whoever would sleep least is woken.
            awake.extend(there.into_iter().min_by_key(|&actor| self.naps[actor]));
        }
        awake[self.dice.below(awake.len())]
    }
}
