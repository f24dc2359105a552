//! The options that every command takes.

use std::ffi::OsString;

/// Options of every command.
#[derive(clap::Args, Clone, Default, Debug)]
pub struct Global {
    /// The log lines that are shown on stderr, for example `warn` or `rr_recorder=debug` (also: $RR_LOG)
    #[arg(long, value_name = "SPEC", global = true)]
    pub log: Option<String>,
    /// Do not warn about the environment (accepted for compatibility)
    #[arg(short = 'S', long, global = true, hide = true)]
    suppress_environment_warnings: bool,
    /// Accepted for compatibility
    #[arg(long, global = true, hide = true)]
    non_interactive: bool,
    /// Accepted for compatibility
    #[arg(long, value_name = "P", global = true, hide = true)]
    resource_path: Option<OsString>,
    /// Put `[rr PID EVENT]` before everything that the program writes to standard output and error, while
    /// recording and in replay
    #[arg(short = 'M', long, global = true)]
    pub mark_stdio: bool,
    /// Check at every event that rr's model of the program's memory is what the kernel says (slow)
    #[arg(short = 'K', long, global = true)]
    pub check_cached_mmaps: bool,
    /// Accepted for compatibility
    #[arg(short = 'E', long, global = true, hide = true)]
    fatal_errors: bool,
    /// Accepted for compatibility
    #[arg(short = 'F', long, global = true, hide = true)]
    force_things: bool,
    /// Accepted for compatibility: rr uses no counters of the processor
    #[arg(short = 'A', long, value_name = "NAME", global = true, hide = true)]
    microarch: Option<OsString>,
    /// Accepted for compatibility: every replay compares registers and outputs, and `rr verify` all memory
    #[arg(short = 'C', long, value_name = "WHEN", global = true, hide = true)]
    checksum: Option<String>,
    /// Record as on a processor that cannot be made to trap on CPUID
    #[arg(long, global = true, hide = true)]
    pub disable_cpuid_faulting: bool,
    /// Accepted for compatibility
    #[arg(
        long = "disable-ptrace-exit_events",
        alias = "disable-ptrace-exit-events",
        global = true,
        hide = true
    )]
    disable_ptrace_exit_events: bool,
    /// Print the version
    #[arg(short = 'N', long, global = true, hide = true)]
    pub version: bool,
    /// Print the commands
    #[arg(short = 'L', long, global = true, hide = true)]
    pub list_commands: bool,
}
