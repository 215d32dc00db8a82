#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| logitcask_cache::fuzzing::packed_row(data));
