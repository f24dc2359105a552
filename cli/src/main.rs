//! The `rr` binary: argument parsing, and one file per command.
//!
//! Keeps the command line of the original rr where a user would notice.

mod budget;
mod claimed;
mod command_line;
mod commands;
mod compatibility;
mod duration;
mod echo;
mod error_text;
mod global;
mod interrupt;
mod interval;
mod keep_last;
mod log;
mod mapped;
mod outcome;
mod progress;
mod registers;
mod secrets;
mod separate_debug;
mod signals;
mod size;
mod started;
mod traces;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use rr_tracee::tsc::Measurement;
use tracing_subscriber::EnvFilter;

use global::Global;

/// Records a run of a program (a tree of processes), and replays it exactly as often as you like.
///
/// `rr PROG ARGS...` is short for `rr record PROG ARGS...`, `rr TRACE` for `rr replay TRACE`, a trace being a directory
/// or a file that `rr pack` has made.
#[derive(Parser)]
#[command(
    name = "rr",
    disable_version_flag = true,
    subcommand_required = true,
    arg_required_else_help = true
)]
#[command(after_help = "rr -N, --version prints the version; rr -L, --list-commands the commands.")]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Record(commands::record::Options),
    Ci(commands::ci::Options),
    Replay(commands::replay::Options),
    Rerun(commands::rerun::Options),
    Verify(commands::verify::Options),
    CreateCheckpoints(commands::create_checkpoints::Options),
    Checkpoints(commands::checkpoints::Options),
    Backtrace(commands::backtrace::Options),
    Pack(commands::pack::Options),
    Unpack(commands::unpack::Options),
    Snapshot(commands::snapshot::Options),
    Doctor(commands::doctor::Options),
    Dump(commands::dump::Options),
    Ps(commands::ps::Options),
    /// List the recordings in the trace directory
    Ls(commands::ls::Options),
    /// Delete recordings
    Rm(commands::rm::Options),
    Mv(commands::mv::Options),
    Filename(commands::filename::Options),
    Buildid(commands::buildid::Options),
    Sources(commands::sources::Options),
    ExplicitSources(commands::sources::ExplicitOptions),
    Gdbinit(commands::gdbinit::Options),
    Completions(commands::completions::Options),
    Man(commands::man::Options),
    Timeline(commands::timeline::Options),
    /// Print what is known about a recording, as JSON
    Traceinfo(commands::traceinfo::Options),
}

/// The names of all commands, without `help`, which clap adds when it parses.
fn names(command: &clap::Command) -> impl Iterator<Item = &str> {
    command.get_subcommands().map(clap::Command::get_name)
}

/// Parses the command line.
fn parse(mut command: clap::Command, args: Vec<OsString>) -> Result<Cli, clap::Error> {
    let mut matches = command.try_get_matches_from_mut(args)?;
    Cli::from_arg_matches_mut(&mut matches).map_err(|e| e.format(&mut command))
}

/// Keeps memory that was freed for the next frame of a trace, up to a limit: to give it back and fetch it anew, page by page,
/// costs a tenth of a replay.
fn keep_memory() {
    // SAFETY: plain numbers; there is one thread yet.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 16 << 20);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 64 << 20);
    }
}

fn main() -> ExitCode {
    keep_memory();
    let measurement = Measurement::begin();
    // Made once: it takes as long as a small recording's trace.
    let command = Cli::command();
    let known: Vec<&str> = names(&command).chain(["help"]).collect();
    let args = command_line::with_command_word(std::env::args_os().collect(), &known);
    // A question about rr itself needs no command.
    let about = |names: [&str; 2]| {
        let options = args
            .iter()
            .skip(1)
            .take_while(|arg| arg.as_encoded_bytes().starts_with(b"-"));
        options
            .into_iter()
            .any(|arg| names.iter().any(|name| arg == name))
    };
    if about(["-L", "--list-commands"]) {
        return list_commands(&command);
    }
    if about(["-N", "--version"]) {
        return print_version();
    }
    let cli = match parse(command, args) {
        Ok(cli) => cli,
        Err(e) => {
            // Nowhere to print to is no reason to fail differently.
            let _ = e.print();
            return if e.use_stderr() {
                ExitCode::FAILURE
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    if cli.global.list_commands {
        return list_commands(&Cli::command());
    }
    if cli.global.version {
        return print_version();
    }
    start_log(cli.global.log.as_deref());
    if cli.global.disable_cpuid_faulting {
        rr_tracee::cpuid::do_without_faulting();
    }
    if matches!(
        cli.command,
        Command::Dump(_)
            | Command::Ps(_)
            | Command::Ls(_)
            | Command::Traceinfo(_)
            | Command::Checkpoints(_)
            | Command::Filename(_)
            | Command::Buildid(_)
            | Command::Rerun(_)
            | Command::Sources(_)
            | Command::ExplicitSources(_)
            | Command::Gdbinit(_)
            | Command::Completions(_)
    ) {
        // Like other tools that list: `rr ps | head` ends when nobody reads any more. (Rust ignores the signal.)
        // SAFETY: setting a disposition to the default runs no code of ours.
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    }
    let result = match cli.command {
        Command::Record(options) => commands::record::run(options, &cli.global, measurement),
        Command::Ci(options) => commands::ci::run(options, measurement),
        Command::Replay(options) => commands::replay::run(&options, &cli.global),
        Command::Rerun(options) => commands::rerun::run(&options),
        Command::Verify(options) => commands::verify::run(&options),
        Command::CreateCheckpoints(options) => commands::create_checkpoints::run(&options),
        Command::Checkpoints(options) => commands::checkpoints::run(&options),
        Command::Backtrace(options) => commands::backtrace::run(&options),
        Command::Pack(options) => commands::pack::run(&options),
        Command::Unpack(options) => commands::unpack::run(&options),
        Command::Snapshot(options) => commands::snapshot::run(&options),
        Command::Doctor(options) => commands::doctor::run(&options),
        Command::Dump(options) => commands::dump::run(&options),
        Command::Ps(options) => commands::ps::run(&options),
        Command::Ls(options) => commands::ls::run(&options),
        Command::Rm(options) => commands::rm::run(&options),
        Command::Mv(options) => commands::mv::run(&options),
        Command::Filename(options) => commands::filename::run(&options),
        Command::Buildid(_) => commands::buildid::run(),
        Command::Sources(options) => commands::sources::run(&options),
        Command::ExplicitSources(options) => commands::sources::run_explicit(&options),
        Command::Gdbinit(options) => commands::gdbinit::run(&options),
        Command::Completions(options) => commands::completions::run(&options, Cli::command()),
        Command::Man(options) => commands::man::run(&options, Cli::command()),
        Command::Timeline(options) => commands::timeline::run(&options),
        Command::Traceinfo(options) => commands::traceinfo::run(&options),
    };
    result.unwrap_or_else(|e| {
        if !is_broken_pipe(&e) {
            eprintln!("rr: {}", error_text::of(&e));
        }
        ExitCode::FAILURE
    })
}

fn is_broken_pipe(e: &anyhow::Error) -> bool {
    e.chain()
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
}

fn list_commands(command: &clap::Command) -> ExitCode {
    names(command).for_each(|name| println!("{name}"));
    ExitCode::SUCCESS
}

fn print_version() -> ExitCode {
    let commit = env!("RR_COMMIT");
    let build = if commit.is_empty() {
        String::new()
    } else {
        format!(" ({commit})")
    };
    println!("rr version {}{build}", env!("CARGO_PKG_VERSION"));
    ExitCode::SUCCESS
}

fn start_log(spec: Option<&str>) {
    let spec = spec
        .map(str::to_owned)
        .or_else(|| std::env::var("RR_LOG").ok())
        .unwrap_or_else(|| "warn".into());
    let filter = EnvFilter::try_new(log::directives(&spec)).unwrap_or_else(|_| {
        eprintln!("rr: cannot understand the log specification {spec:?}; logging warnings");
        EnvFilter::new("warn")
    });
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .event_format(log::Plain)
        .init();
}
