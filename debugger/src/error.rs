//! The errors of the server itself. (A packet that fails is answered to the client.)

use std::io;

/// An error of the server.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No debugger could connect there.
    #[error("cannot listen for a debugger on {place}: {source}")]
    Listen {
        /// The address.
        place: String,
        /// The system's answer.
        source: io::Error,
    },
    /// No connection could be accepted.
    #[error("cannot accept the debugger's connection: {0}")]
    Accept(#[source] io::Error),
    /// There is no place for the socket or the script.
    #[error("cannot make a private directory for the debugger's socket in {place}: {source}")]
    PrivateDirectory {
        /// The address.
        place: String,
        /// The system's answer.
        source: io::Error,
    },
}

/// A result of the server.
pub type Result<T> = std::result::Result<T, Error>;
