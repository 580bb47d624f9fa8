//! Handlers, by what they are about. Each: typed input, one engine call, typed answer.

pub(crate) mod checkpoints;
pub(crate) mod media;
pub(crate) mod metrics;
pub(crate) mod outlines;
pub(crate) mod runs;
pub(crate) mod series;
pub(crate) mod settings;
pub(crate) mod store;
pub(crate) mod tensors;
