//! The two directions of bytes below the packets.

use std::io::{self, Write};
use std::net::TcpStream;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// The time that a client may leave the server's answers unread.
const PATIENCE: Duration = Duration::from_secs(60);

/// The way to a client: bytes come from it, and go to it.
pub trait Channel {
    /// Sends all of `bytes`.
    fn send(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Takes what has come: how many bytes, 0 if the client is gone, None if there is nothing and `wait` is false.
    fn receive(&mut self, buf: &mut [u8], wait: bool) -> io::Result<Option<usize>>;
}

fn receive(fd: RawFd, buf: &mut [u8], wait: bool) -> io::Result<Option<usize>> {
    let flags = if wait { 0 } else { libc::MSG_DONTWAIT };
    loop {
        // SAFETY: the buffer is ours and as long as is said.
        let n = unsafe { libc::recv(fd, buf.as_mut_ptr().cast(), buf.len(), flags) };
        if let Ok(n) = usize::try_from(n) {
            return Ok(Some(n));
        }
        let e = io::Error::last_os_error();
        match e.kind() {
            io::ErrorKind::Interrupted => {}
            io::ErrorKind::WouldBlock if !wait => return Ok(None),
            _ => return Err(e),
        }
    }
}

impl Channel for UnixStream {
    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.set_write_timeout(Some(PATIENCE))?;
        self.write_all(bytes)
    }

    fn receive(&mut self, buf: &mut [u8], wait: bool) -> io::Result<Option<usize>> {
        receive(self.as_raw_fd(), buf, wait)
    }
}

impl Channel for TcpStream {
    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.set_write_timeout(Some(PATIENCE))?;
        self.write_all(bytes)
    }

    fn receive(&mut self, buf: &mut [u8], wait: bool) -> io::Result<Option<usize>> {
        receive(self.as_raw_fd(), buf, wait)
    }
}
