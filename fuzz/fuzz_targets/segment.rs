//! `runtree_fuzz::segment` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| runtree_fuzz::segment(bytes));
