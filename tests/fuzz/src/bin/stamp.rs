//! Looks for bytes that break [`towline_fuzz::stamp`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| towline_fuzz::stamp::check(bytes));
