//! Options of `rr replay` that are about the debugger.

use std::ffi::OsString;
use std::path::PathBuf;

/// Options of `rr replay` that are about the debugger.
#[derive(clap::Args, Debug, Default)]
pub struct DebuggerOptions {
    /// Start no debugger: wait for one on this TCP port (0: one that is free)
    #[arg(short = 's', long, value_name = "PORT")]
    pub dbgport: Option<u16>,
    /// Address to listen on with -s; 127.0.0.1 if omitted
    #[arg(short = 'h', long, value_name = "HOST", requires = "dbgport")]
    pub dbghost: Option<String>,
    /// Accept another debugger after the first (with -s)
    #[arg(short = 'k', long)]
    pub keep_listening: bool,
    /// The debugger to start; gdb if omitted
    #[arg(short = 'd', long, value_name = "PATH")]
    pub debugger: Option<PathBuf>,
    /// Give the debugger this option (can be given several times)
    #[arg(short = 'o', long, value_name = "OPTION", allow_hyphen_values = true)]
    pub debugger_option: Vec<OsString>,
    /// Let the debugger execute the commands in FILE (can be given several times)
    #[arg(short = 'x', long, value_name = "FILE")]
    pub gdb_x: Vec<PathBuf>,
    /// The debugger's interface (mi, for example)
    #[arg(short = 'i', long, value_name = "NAME")]
    pub interpreter: Option<OsString>,
    /// Tell Emacs where the program is
    #[arg(long)]
    pub fullname: bool,
    /// Let the debugger read the program's files out of the recording, not from this machine
    #[arg(long)]
    pub serve_files: bool,
    /// More options for the debugger
    #[arg(last = true, value_name = "DEBUGGER-OPTIONS")]
    pub more: Vec<OsString>,
}
