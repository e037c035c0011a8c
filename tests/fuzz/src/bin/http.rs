//! Looks for bytes that break [`towline_fuzz::http`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| towline_fuzz::http::check(bytes));
