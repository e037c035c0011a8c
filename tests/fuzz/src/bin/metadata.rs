//! Looks for bytes that break [`towline_fuzz::metadata`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| towline_fuzz::metadata::check(bytes));
