//! Live updates: one poller folds what trainers wrote, every connected browser hears which runs changed.
//!
//! The poller sleeps while nobody is_due. Streams do not queue changes: each remembers the counter it has told of and asks the
//! engine for everything since, so a slow client gets fewer, larger events and never loses one.

use std::convert::Infallible;
use std::time::Duration;

use axum::response::sse::{Event, KeepAlive, Sse};
use futures::stream::{self, Stream};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::bodies::ChangeEvent;
use crate::state::AppState;

/// How often the store is looked at while somebody watches.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// How often it is asked which runs fell silent: they are lost after a minute, so nobody waits for the second.
const SILENCE_INTERVAL: Duration = Duration::from_secs(5);

/// Says nothing, but keeps proxies and `ssh -L` from closing a quiet stream.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(15);

/// Looks at the store until the server stops.
pub(crate) async fn poll(state: AppState) {
    let mut stopping = state.stopping.clone();
    let mut ticks = interval(POLL_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut listened_at: Option<Instant> = None;
    loop {
        tokio::select! {
            _ = stopping.wait_for(|stopping| *stopping) => return,
            _ = ticks.tick() => {}
        }
        if state.changes.receiver_count() == 0 {
            continue;
        }
        let is_due = listened_at.is_none_or(|at| at.elapsed() >= SILENCE_INTERVAL);
        if is_due {
            listened_at = Some(Instant::now());
        }
        // An error here is one the next request meets too and reports; the poller tries again.
        let counter = state
            .call(move |engine| {
                engine.refresh()?;
                if is_due {
                    engine.notice_silence()?;
                }
                Ok(engine.change_counter())
            })
            .await;
        if let Ok(counter) = counter {
            state.changes.send_if_modified(|known| {
                let changed = *known != counter;
                *known = counter;
                changed
            });
        }
    }
}

struct Follower {
    state: AppState,
    changes: watch::Receiver<u64>,
    stopping: watch::Receiver<bool>,
    told: u64,
}

impl Follower {
    /// Waits for the next thing to tell; `None` when the server stops.
    async fn next(mut self) -> Option<(Result<Event, Infallible>, Self)> {
        loop {
            if *self.changes.borrow_and_update() != self.told {
                let told = self.told;
                let news = self
                    .state
                    .call(move |engine| Ok(engine.changes_since(told)))
                    .await;
                if let Ok((counter, runs)) = news {
                    self.told = counter;
                    if !runs.is_empty() {
                        return Some((Ok(event(counter, &runs)), self));
                    }
                }
            }
            tokio::select! {
                _ = self.stopping.wait_for(|stopping| *stopping) => return None,
                changed = self.changes.changed() => changed.ok()?,
            }
        }
    }
}

fn event(counter: u64, runs: &[runtree_core::RunId]) -> Event {
    let body = ChangeEvent {
        runs: runs.iter().map(ToString::to_string).collect(),
    };
    let data = serde_json::to_string(&body).expect("BUG: a list of strings is JSON");
    Event::default()
        .event("change")
        .id(counter.to_string())
        .data(data)
}

/// The stream of one client, from now on.
pub(crate) fn follow(state: AppState) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let follower = Follower {
        told: state.engine().change_counter(),
        changes: state.changes.subscribe(),
        stopping: state.stopping.clone(),
        state,
    };
    Sse::new(stream::unfold(follower, Follower::next))
        .keep_alive(KeepAlive::new().interval(KEEP_ALIVE_INTERVAL).text("alive"))
}
