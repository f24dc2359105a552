//! What can go wrong in the server itself. (What goes wrong in a packet is answered to the client.)

use std::io;

/// An error of the server.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No debugger could connect there.
    #[error("cannot listen for a debugger on {place}: {source}")]
    Listen {
        /// Where.
        place: String,
        /// Why not.
        source: io::Error,
    },
    /// No connection could be accepted.
    #[error("cannot accept the debugger's connection: {0}")]
    Accept(#[source] io::Error),
    /// There is no place for the socket or the script.
    #[error("cannot make a private directory for the debugger's socket in {place}: {source}")]
    PrivateDirectory {
        /// Where.
        place: String,
        /// Why not.
        source: io::Error,
    },
}

/// A result of the server.
pub type Result<T> = std::result::Result<T, Error>;
