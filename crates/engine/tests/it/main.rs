//! The engine on real stores: real files, real threads, real processes.

mod annotations;
mod creation;
mod folding;
mod forks;
mod live_runs;
mod model;
mod resumes;
mod series;
mod support;

mod export;
mod inspect;
mod load;
mod save;
mod save_support;
