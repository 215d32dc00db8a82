#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| logitcask_cache::fuzzing::manifest(data).expect("a writable folder"));
