//! Looks for bytes that break [`towline_fuzz::newc`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| towline_fuzz::newc::check(bytes));
