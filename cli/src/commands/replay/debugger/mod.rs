//! Debugging a replay: the server, and the debugger that it is for.
//!
//! By default rr starts the debugger in the foreground and serves it over a Unix socket that no other user reaches; the
//! debugger's exit ends rr. With `-s` rr only serves, on a TCP port, and says how to connect.

pub mod launch;
mod options;

use std::process::ExitCode;

use anyhow::Result;
use rr_debugger::{Ended, Listener, Target, serve};

pub use options::DebuggerOptions;

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
