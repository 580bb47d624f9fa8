//! The API over real TCP, on a real store in a temporary directory.

#![expect(clippy::unwrap_used, reason = "a test that can not go on panics")]

mod access;
mod document;
mod events;
mod fixture;
mod http;
mod routes;
mod ui;
