//! The JSON API and the web UI of one store.
//!
//! [`Server::bind`] listens, [`Server::run`] answers until it is told to stop. Every route stands once in `router`; a handler takes
//! typed input (`extract`), calls the engine on a thread that may block (`state`), and gives back a type of
//! [`runtree_core::wire`]. Errors have one envelope (`error`), strangers are kept out in one place (`guard`). `updates` tells
//! browsers which runs changed; `ui` is the embedded bundle. Nothing here decides anything about runs: the engine does.
//!
//! The API is described by [`openapi_json`], which `web/openapi.json` is a snapshot of; the UI uses nothing else.

mod bodies;
mod download;
mod error;
mod extract;
mod guard;
mod options;
mod report;
mod router;
mod routes;
mod serve;
mod state;
mod ui;
mod updates;

pub use bodies::{ChangeEvent, Health, PinRequest, RunPatch, ViewRequest};
pub use options::{Answered, DEFAULT_PORT, ServeOptions, Token};
pub use report::report_page;
pub use router::openapi_json;
pub use serve::{Server, serve};
