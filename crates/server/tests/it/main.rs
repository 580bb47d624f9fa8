//! The API over real TCP, on a real store in a temporary directory.

mod access;
mod document;
mod events;
mod fixture;
mod http;
mod routes;
mod ui;
