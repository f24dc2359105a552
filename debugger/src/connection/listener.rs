//! The place where a debugger connects: a Unix socket that only its user reaches, or a TCP port.
//!
//! One client at a time: while one is connected nothing listens, so that another gets an error and does not wait.

use std::fs::Permissions;
use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::Connection;
use crate::{Error, Result};

/// The length that the path of a Unix socket may have, less the name of rr's own (unix(7)).
const MAX_DIRECTORY: usize = 90;

enum Socket {
    Unix(UnixListener),
    Tcp(TcpListener),
}

enum Place {
    Unix(PathBuf),
    Tcp(SocketAddr),
}

impl Place {
    fn bind(&self) -> Result<Socket> {
        let failed = |place: String| move |source| Error::Listen { place, source };
        match self {
            Place::Unix(path) => UnixListener::bind(path)
                .map(Socket::Unix)
                .map_err(failed(path.display().to_string())),
            Place::Tcp(address) => TcpListener::bind(address)
                .map(Socket::Tcp)
                .map_err(failed(address.to_string())),
        }
    }
}

/// Waits for a debugger.
pub struct Listener {
    place: Place,
    socket: Option<Socket>,
    private: Option<TempDir>,
}

fn private_directory() -> Result<TempDir> {
    let mut place = std::env::temp_dir();
    if place.as_os_str().len() > MAX_DIRECTORY - 20 {
        place = PathBuf::from("/tmp");
    }
    tempfile::Builder::new()
        .prefix("rr-debug-")
        .permissions(Permissions::from_mode(0o700))
        .tempdir_in(&place)
        .map_err(|source| Error::PrivateDirectory {
            place: place.display().to_string(),
            source,
        })
}

impl Listener {
    /// A Unix socket in a directory of its own, which is removed with the listener.
    pub fn private() -> Result<Listener> {
        let private = private_directory()?;
        let place = Place::Unix(private.path().join("gdb"));
        let socket = Some(place.bind()?);
        Ok(Listener {
            place,
            socket,
            private: Some(private),
        })
    }

    /// A TCP port; 0 is one that is free.
    pub fn tcp(host: &str, port: u16) -> Result<Listener> {
        let failed = |source| Error::Listen {
            place: format!("{host}:{port}"),
            source,
        };
        let mut addresses = (host, port).to_socket_addrs().map_err(failed)?;
        let address = addresses
            .next()
            .ok_or_else(|| failed(io::ErrorKind::AddrNotAvailable.into()))?;
        let socket = TcpListener::bind(address).map_err(failed)?;
        let place = Place::Tcp(socket.local_addr().map_err(failed)?);
        Ok(Listener {
            place,
            socket: Some(Socket::Tcp(socket)),
            private: None,
        })
    }

    /// The address for gdb's `target extended-remote`.
    pub fn address(&self) -> String {
        match &self.place {
            Place::Unix(path) => path.display().to_string(),
            Place::Tcp(address) => address.to_string(),
        }
    }

    /// The port, if it is TCP.
    pub fn port(&self) -> Option<u16> {
        match &self.place {
            Place::Unix(_) => None,
            Place::Tcp(address) => Some(address.port()),
        }
    }

    /// The directory that no other user reaches, if it is a Unix socket.
    pub fn directory(&self) -> Option<&Path> {
        self.private.as_ref().map(TempDir::path)
    }

    /// The next client, and no other until it is asked for. None if `or` becomes readable before one comes (a
    /// pidfd of a debugger that ends, for example).
    pub fn accept(&mut self, or: Option<BorrowedFd<'_>>) -> Result<Option<Connection>> {
        let socket = match self.socket.take() {
            Some(socket) => socket,
            None => self.place.bind()?,
        };
        let fd = match &socket {
            Socket::Unix(socket) => socket.as_raw_fd(),
            Socket::Tcp(socket) => socket.as_raw_fd(),
        };
        if !wait(fd, or.map(|or| or.as_raw_fd())).map_err(Error::Accept)? {
            return Ok(None);
        }
        let connection = match &socket {
            Socket::Unix(socket) => Connection::new(Box::new(socket.accept().map_err(Error::Accept)?.0)),
            Socket::Tcp(socket) => {
                let (stream, _) = socket.accept().map_err(Error::Accept)?;
                // Small packets that wait for their answers.
                stream.set_nodelay(true).map_err(Error::Accept)?;
                Connection::new(Box::new(stream))
            }
        };
        drop(socket);
        if let Place::Unix(path) = &self.place {
            std::fs::remove_file(path).map_err(Error::Accept)?;
        }
        Ok(Some(connection))
    }
}

/// Waits until the first is readable; false if only the other is.
fn wait(fd: RawFd, or: Option<RawFd>) -> io::Result<bool> {
    let entry = |fd| libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    };
    // poll(2) passes over negative ones.
    let mut fds = [entry(fd), entry(or.unwrap_or(-1))];
    loop {
        // SAFETY: the array is ours and has two entries.
        if unsafe { libc::poll(fds.as_mut_ptr(), 2, -1) } >= 0 {
            return Ok(fds[0].revents != 0);
        }
        let e = io::Error::last_os_error();
        if e.kind() != io::ErrorKind::Interrupted {
            return Err(e);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_socket_that_nobody_else_reaches() {
        let mut listener = Listener::private().unwrap();
        let directory = listener.directory().unwrap().to_owned();
        let mode = directory.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        let _client = UnixStream::connect(listener.address()).unwrap();
        assert!(listener.accept(None).unwrap().is_some());
        assert!(UnixStream::connect(listener.address()).is_err());
        drop(listener);
        assert!(!directory.exists());
    }

    #[test]
    fn one_client_after_the_other() {
        let mut listener = Listener::tcp("127.0.0.1", 0).unwrap();
        assert_ne!(listener.port(), Some(0));
        for _ in 0..3 {
            let address = listener.address();
            if listener.socket.is_none() {
                listener.socket = Some(listener.place.bind().unwrap());
            }
            let client = TcpStream::connect(&address).unwrap();
            let connection = listener.accept(None).unwrap();
            assert!(connection.is_some());
            assert!(TcpStream::connect(&address).is_err());
            drop((client, connection));
        }
        assert!(Listener::tcp("no such host", 1).is_err());
    }

    #[test]
    fn a_debugger_that_never_connects() {
        let mut listener = Listener::private().unwrap();
        let (a, b) = UnixStream::pair().unwrap();
        drop(b);
        assert!(listener.accept(Some(a.as_fd())).unwrap().is_none());
    }
}
