//! Looks for bytes that break [`towline_fuzz::plan`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| towline_fuzz::plan::check(bytes));
