//! Looks for bytes that break [`towline_fuzz::lanes`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| towline_fuzz::lanes::check(bytes));
