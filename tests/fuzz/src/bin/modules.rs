//! Looks for bytes that break [`towline_fuzz::modules`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| towline_fuzz::modules::check(bytes));
