//! `runtree._native`: the engine for Python.
//!
//! Registration only. Each class holds one `inner` and does three things: validate, call the engine with the interpreter free,
//! convert. What a call means for a user is decided in the Python layer above or the engine below, never here.

mod bucket;
mod command;
mod convert;
mod engine;
mod errors;
mod experiment;
mod guarded;
mod inspect;
mod pending;
mod plan;
mod prune;
mod remote;
mod requests;
mod runtime;
mod staging;
mod sync;
mod table;
mod whole;
mod writer;

use pyo3::prelude::*;

/// The native half of runtree. Private: use `runtree`.
#[pymodule]
mod _native {
    #[pymodule_export]
    use crate::bucket::{bucket_fetch, bucket_list, check_address};
    #[pymodule_export]
    use crate::command::main;
    #[pymodule_export]
    use crate::convert::gather::check_state;
    #[pymodule_export]
    use crate::convert::json::plain_config;
    #[pymodule_export]
    use crate::engine::{Engine, discover_store, leave_staging};
    #[pymodule_export]
    use crate::experiment::{clear_head, head, set_head, sweep, views};
    #[pymodule_export]
    use crate::guarded::GuardedMemory;
    #[pymodule_export]
    use crate::pending::PendingSave;
    #[pymodule_export]
    use crate::plan::Plan;
    #[pymodule_export]
    use crate::prune::{
        PrunePlan, describe_policy, plan_prune, prune_live, retention, set_retention,
    };
    #[pymodule_export]
    use crate::remote::{ship, wait_remote};
    #[pymodule_export]
    use crate::runtime::after_fork_in_child;
    #[pymodule_export]
    use crate::staging::{Lease, StagingArena};
    #[pymodule_export]
    use crate::sync::{bring, split_reference, sync_stores};
    #[pymodule_export]
    use crate::whole::Whole;
    #[pymodule_export]
    use crate::writer::RunWriter;

    use pyo3::prelude::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
