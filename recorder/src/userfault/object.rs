//! The objects of userfaultfd(2): who has asked for what, and the messages for the program.
//!
//! The program's descriptor is the reading end of a pipe, and the recorder has the writing end. So a program reads, polls and passes on its
//! descriptor as any other, and the recorder learns from the pipe when the last one is closed. Invariant: the pipe holds
//! the messages of waiting tasks, as the kernel would show them: a task that does not wait any more takes its message along.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;

use nix::fcntl::{FcntlArg, fcntl};
use rr_tracee::Tid;

use super::api::{Features, MESSAGE};

/// A message in a pipe, and the task that waits.
#[derive(Clone, Copy, Debug)]
struct Message {
    of: Tid,
    bytes: [u8; MESSAGE],
}

/// An object.
#[derive(Debug)]
pub(crate) struct Object {
    /// The writing end of its pipe, which does not wait.
    writer: File,
    /// The features that the program has asked for. `None` before that.
    pub features: Option<Features>,
    /// The messages that were sent and that may be unread, in order.
    sent: Vec<Message>,
}

impl Object {
    /// An object whose pipe has this writing end.
    pub fn new(writer: File) -> Object {
        Object {
            writer,
            features: None,
            sent: Vec::new(),
        }
    }

    /// Returns whether the program has closed all its descriptors.
    pub fn is_closed(&self) -> bool {
        let mut polled = libc::pollfd {
            fd: self.writer.as_raw_fd(),
            events: 0,
            revents: 0,
        };
        // SAFETY: the kernel writes to the structure alone, and does not wait.
        let found = unsafe { libc::poll(&raw mut polled, 1, 0) };
        found == 1 && polled.revents & libc::POLLERR != 0
    }

    /// Sends a message of a task that waits.
    pub fn send(&mut self, of: Tid, bytes: [u8; MESSAGE]) {
        self.sent.push(Message { of, bytes });
        self.put(&bytes);
    }

    fn put(&mut self, bytes: &[u8]) {
        /// Room for one message of each thread of a large process.
        const LARGE: i32 = 1 << 20;
        // A message is written as a whole or not at all (pipe(7)).
        if self.writer.write_all(bytes).is_err() && !self.is_closed() {
            let grown = fcntl(&self.writer, FcntlArg::F_SETPIPE_SZ(LARGE));
            if grown.is_err() || self.writer.write_all(bytes).is_err() {
                tracing::warn!("too many tasks wait for pages: the program misses a message of userfaultfd");
            }
        }
    }

    /// Takes back the unread messages of these tasks.
    pub fn take_back(&mut self, of: &[Tid]) {
        if !self.sent.iter().any(|message| of.contains(&message.of)) {
            return;
        }
        let unread = self.drain();
        let read = self.sent.len().saturating_sub(unread);
        self.sent.drain(..read);
        self.sent.retain(|message| !of.contains(&message.of));
        for message in self.sent.clone() {
            self.put(&message.bytes);
        }
    }

    /// Empties the pipe. Returns the number of messages that were in it.
    fn drain(&self) -> usize {
        let path = format!("/proc/self/fd/{}", self.writer.as_raw_fd());
        let reader = File::options()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(path);
        let mut bytes = Vec::new();
        // The error at the end is that the pipe is empty.
        let _ = reader.map(|mut reader| reader.read_to_end(&mut bytes));
        bytes.len() / MESSAGE
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::userfault::api::{Cause, message};
    use rr_tracee::Addr;

    fn object() -> (Object, File) {
        let (reader, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_NONBLOCK).unwrap();
        (Object::new(writer.into()), reader.into())
    }

    fn of(tid: i32) -> [u8; MESSAGE] {
        message(Cause::Missing, false, Addr(0x1000), tid as u32)
    }

    #[test]
    fn only_unread_messages_of_waiting_tasks_are_in_the_pipe() {
        let (mut object, mut reader) = object();
        for tid in 1..=4 {
            object.send(Tid(tid), of(tid));
        }
        let mut bytes = [0; MESSAGE];
        reader.read_exact(&mut bytes).unwrap();
        assert_eq!(bytes, of(1));
        object.take_back(&[Tid(1), Tid(3)]);
        let mut rest = Vec::new();
        let _ = reader.read_to_end(&mut rest);
        assert_eq!(rest, [of(2), of(4)].concat());
        object.take_back(&[Tid(2), Tid(4)]);
        assert!(object.sent.is_empty());
    }

    #[test]
    fn the_last_reader_is_missed() {
        let (object, reader) = object();
        let other = reader.try_clone().unwrap();
        drop(reader);
        assert!(!object.is_closed());
        drop(other);
        assert!(object.is_closed());
    }

    #[test]
    fn there_is_room_for_many_messages() {
        let (mut object, mut reader) = object();
        for tid in 0..5000 {
            object.send(Tid(tid), of(tid));
        }
        let mut all = Vec::new();
        let _ = reader.read_to_end(&mut all);
        assert_eq!(all.len(), 5000 * MESSAGE);
    }
}
