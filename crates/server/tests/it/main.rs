//! The API over real TCP, on a real store in a temporary directory.

mod document;
