//! `logitcask`: run a teacher once, keep its logits, and train students from the cache as often as you like.
mod answers;
mod args;
mod caches;
mod commands;
mod comparison_report;
mod datasets;
mod devices;
mod experiment;
mod inputs;
mod logging;
mod models;
mod option_names;
mod output;
mod parts;
mod paths;
mod pins;
mod plain_words;
mod progress;
mod recipe;
mod recipe_check;
mod recipe_file;
mod recipe_of_cache;
mod recipe_teacher;
mod server_teacher;
mod stop;
mod student;
mod summary;
mod tail_atoms;
mod taught;
mod teacher_source;
mod tokenizers;

use std::process::ExitCode;

/// Large tensors are allocated at every step. mimalloc reuses their memory; the system's allocator returns it to
/// the kernel.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    quieten_graphics();
    let args = args::Args::read();
    logging::start(args.verbosity);
    match commands::run(args.command) {
        Ok(()) => output::exit_code(),
        Err(error) => {
            output::error(format_args!("{error:#}"));
            // 130 is what a shell reports for a program ended by Ctrl-C.
            if stop::was_asked() { ExitCode::from(130) } else { ExitCode::FAILURE }
        }
    }
}

/// Sets a variable without which graphics libraries print a warning on machines without a desktop.
fn quieten_graphics() {
    let name = "XDG_RUNTIME_DIR";
    if std::env::var_os(name).is_none() {
        // SAFETY: no other thread exists yet that could read the environment meanwhile.
        unsafe { std::env::set_var(name, std::env::temp_dir()) };
    }
}
