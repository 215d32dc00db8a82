#![no_main]
// The reader catches panics of the Parquet decoder on damaged pages; libfuzzer-sys' own hook would end the process before
// it can. What nobody catches, and any panic in our own code, still does.
libfuzzer_sys::fuzz_target!(
    init: std::panic::set_hook(Box::new(|panic| {
        if panic.location().is_none_or(|at| !at.file().contains("registry")) {
            eprintln!("{panic}");
            std::process::abort();
        }
    })),
    |data: &[u8]| logitcask_cache::fuzzing::plain(data)
);
