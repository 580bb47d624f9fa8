//! Stores around a store. Each is a struct over `Arc<dyn ObjectStore>` that must name every method of the trait, so that none is forgotten when the
//! trait grows: a default method that fell back to another one would count twice, or skip what the wrapper is for.

mod hedge;
mod limit;
mod meter;
mod retry;

pub use hedge::Hedge;
pub use limit::Limit;
pub use meter::{Counts, Meter};
pub use retry::{Pause, Retry, RetryPolicy};
