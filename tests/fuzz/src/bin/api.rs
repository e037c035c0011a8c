//! Looks for bytes that break [`towline_fuzz::api`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| towline_fuzz::api::check(bytes));
