//! The engine on real stores: real files, real threads, real processes.

#![expect(clippy::unwrap_used, reason = "a test that can not go on has failed")]
#![expect(clippy::float_cmp, reason = "what was logged comes back bit for bit")]
#![expect(
    clippy::default_trait_access,
    reason = "what a default is stands beside it"
)]

mod annotations;
mod bring;
mod corruption;
mod creation;
mod disk_only;
mod encode;
mod folding;
mod foreign;
#[path = "../../../core/tests/it/foreign_files.rs"]
mod foreign_files;
mod forks;
mod gc;
mod gc_files;
mod gc_trash;
mod launches;
mod live_runs;
mod metrics;
mod model;
mod refetch;
mod resumes;
mod retention;
mod sealing;
mod sealing_model;
mod series;
mod ship;
mod support;
mod sync;

mod export;
mod guarded;
mod inspect;
mod load;
mod media;
mod save;
mod save_support;
mod statistics;
mod whole;
