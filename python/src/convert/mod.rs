//! Python objects ↔ `core` values. The one place where conversions live.
//!
//! [`gather`] walks a state tree and says what there is to save; [`build`] makes Python objects of a saved tree; [`json`] turns
//! what the engine answers into dicts. What is particular to a framework (its dtypes, how to get at a tensor's memory) is asked of
//! one Python module per framework ([`Framework::module`](frameworks)), imported only when a leaf of it is met.

pub(crate) mod build;
pub(crate) mod frameworks;
pub(crate) mod gather;
pub(crate) mod json;
mod kinds;
pub(crate) mod media;
pub(crate) mod metrics;
mod pages;
pub(crate) mod select;
pub(crate) mod share;
pub(crate) mod transfer;
