//! A server that fails now and then: what an actor's requests meet on their way.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream;
use runtree_store::object_store::{Error, GetResult, GetResultPayload, PutMode, Result};

use super::Dice;

/// Of so many requests one meets each kind of failure.
const RARITY: usize = 24;

/// What failures say, so that who gives up because of one is known by it.
pub(super) const FAILURE: &str = "the server failed";

/// The weather of one actor; none is fair weather.
#[derive(Debug)]
pub(super) struct Weather(Option<Arc<Mutex<Dice>>>);

fn failure() -> Error {
    Error::Generic {
        store: "simulation",
        source: FAILURE.into(),
    }
}

impl Weather {
    pub(super) fn fair() -> Self {
        Self(None)
    }

    pub(super) fn foul(dice: Dice) -> Self {
        Self(Some(Arc::new(Mutex::new(dice))))
    }

    /// The same weather, for a part of the same actor's requests.
    pub(super) fn another(&self) -> Self {
        Self(self.0.clone())
    }

    fn strikes(&self) -> bool {
        self.0.as_ref().is_some_and(|dice| {
            dice.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .once_in(RARITY)
        })
    }

    /// 500, or no connection: the request was never done.
    pub(super) fn before(&self) -> Result<()> {
        if self.strikes() {
            Err(failure())
        } else {
            Ok(())
        }
    }

    /// 409: two at once, says the server, whether that is so or not.
    pub(super) fn conflict(&self, mode: &PutMode, path: &str) -> Result<()> {
        if *mode == PutMode::Create && self.strikes() {
            return Err(Error::AlreadyExists {
                path: path.to_owned(),
                source: format!("{FAILURE}: somebody else was at it").into(),
            });
        }
        Ok(())
    }

    /// A timeout: the request was done, and its answer is lost.
    pub(super) fn after<T>(&self, answer: Result<T>) -> Result<T> {
        if self.strikes() {
            Err(failure())
        } else {
            answer
        }
    }

    /// A body that breaks off.
    pub(super) async fn body(&self, result: GetResult) -> Result<GetResult> {
        if !self.strikes() {
            return Ok(result);
        }
        let (meta, range) = (result.meta.clone(), result.range.clone());
        let (attributes, extensions) = (result.attributes.clone(), result.extensions.clone());
        let bytes: Bytes = result.bytes().await?;
        let pieces = [Ok(bytes.slice(..bytes.len() / 2)), Err(failure())];
        Ok(GetResult {
            payload: GetResultPayload::Stream(stream::iter(pieces).boxed()),
            meta,
            range,
            attributes,
            extensions,
        })
    }
}
