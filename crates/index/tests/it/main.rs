//! What every index must answer. The suite knows the traits alone; `indexes!` lists the implementations that run it.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::float_cmp,
    reason = "a test fails by panicking, a measurement prints, and values come back bit for bit"
)]

mod annotations;
mod builder;
mod checkpoints;
mod files;
mod lineage;
mod lists;
mod media;
mod model;
mod points;
mod properties;
mod speed;
mod walks;

use runtree_index::{Index, SqliteIndex};
use tempfile::TempDir;

/// An index and the folder it lives in.
struct Fixture {
    index: Box<dyn Index>,
    folder: TempDir,
}

fn sqlite() -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    Fixture {
        index: Box::new(SqliteIndex::open(folder.path()).unwrap()),
        folder,
    }
}

/// Runs tests on every implementation: `indexes! { a_sentence, another }` wants functions that take `&dyn Index`.
macro_rules! indexes {
    ($($name:ident,)*) => {
        mod sqlite {
            $(#[test] fn $name() { super::$name(crate::sqlite().index.as_ref()); })*
        }
    };
}
use indexes;
