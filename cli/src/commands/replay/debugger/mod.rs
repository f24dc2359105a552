//! Debugging a replay: the server, and the debugger that it is for.
//!
//! By default rr starts the debugger in the foreground and serves it over a Unix socket that no other user reaches; the
//! debugger's exit ends rr. With `-s` rr only serves, on a TCP port, and says how to connect.

pub mod launch;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use rr_debugger::{Ended, Listener, Target, serve};

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

/// Lets the user debug `target`. With `serve_files` the debugger reads the program's files out of the recording.
pub fn debug(target: &mut dyn Target, options: &DebuggerOptions, serve_files: bool) -> Result<ExitCode> {
    match options.dbgport {
        Some(port) => listen(target, options, port, serve_files),
        None => launch::run(target, options, serve_files),
    }
}

/// Serves every debugger that comes.
fn listen(
    target: &mut dyn Target,
    options: &DebuggerOptions,
    port: u16,
    serve_files: bool,
) -> Result<ExitCode> {
    let host = options.dbghost.as_deref().unwrap_or("127.0.0.1");
    let mut listener = Listener::tcp(host, port)?;
    let server = launch::Server {
        address: &listener.address(),
        program: &target.exec_file(),
        serves_files: serve_files,
    };
    eprintln!(
        "Launch gdb with\n  {}",
        launch::shown(&launch::connecting(options, &server))
    );
    eprintln!("rr: its commands for gdb are in a file made with `rr gdbinit > FILE` (-x FILE)");
    loop {
        let Some(mut connection) = listener.accept(None)? else {
            break;
        };
        if serve(&mut connection, target)? == Ended::Vanished {
            tracing::info!("the debugger went away without a word");
        }
        if !options.keep_listening {
            break;
        }
        drop(connection);
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod terminal_tests;
#[cfg(test)]
mod tests;
