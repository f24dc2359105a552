//! A connection with a client: packets in and out, acknowledgements, interrupts.
//!
//! The connection never loses a packet: what arrives while the program runs waits until it has stopped. Once the
//! client is gone, or an error of the socket says as much, the connection is closed for good.

mod channel;
mod framing;
mod listener;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

pub use channel::Channel;
pub use framing::{Decoder, Frame, MAX_PACKET, encode};
pub use listener::Listener;

use crate::target::Interrupt;

/// The number of packets that may wait while the program runs: a client that follows the protocol has none.
const MAX_WAITING: usize = 64;

/// The time that an interrupt counts which comes while the program stands. gdb lets programs stop and go on by itself (when
/// libraries are loaded, for example). For the user, the program runs meanwhile, so an interrupt of the user is heard in the
/// next run.
const INTERRUPT_KEPT: Duration = Duration::from_secs(3);

/// The results of [`Connection::next_message`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Message {
    /// A packet.
    Packet(Vec<u8>),
    /// A packet that is too long: only that it came is known.
    Oversize,
}

/// A connection with a client.
pub struct Connection {
    channel: Box<dyn Channel>,
    decoder: Decoder,
    waiting: VecDeque<Message>,
    acknowledges: bool,
    /// The last packet that was sent, for when the client asks for it again.
    last: Vec<u8>,
    /// Nothing more will come.
    closed: bool,
    /// Nothing more can be sent.
    broken: bool,
    /// When an interrupt came that nobody has asked about.
    interrupted: Option<Instant>,
}

impl Connection {
    /// A connection over these bytes.
    pub fn new(channel: Box<dyn Channel>) -> Connection {
        Connection {
            channel,
            decoder: Decoder::default(),
            waiting: VecDeque::new(),
            acknowledges: true,
            last: Vec::new(),
            closed: false,
            broken: false,
            interrupted: None,
        }
    }

    /// Says if the client is gone.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// From now on neither side acknowledges packets (`QStartNoAckMode`).
    pub fn stop_acknowledging(&mut self) {
        self.acknowledges = false;
    }

    /// The next packet; None if the client is gone.
    pub fn next_message(&mut self) -> Option<Message> {
        loop {
            if let Some(message) = self.waiting.pop_front() {
                return Some(message);
            }
            if self.closed {
                return None;
            }
            self.receive(true);
        }
    }

    /// Sends a packet.
    pub fn send(&mut self, content: &[u8]) {
        self.last = encode(content);
        let bytes = std::mem::take(&mut self.last);
        self.send_raw(&bytes);
        self.last = bytes;
    }

    fn send_raw(&mut self, bytes: &[u8]) {
        if !self.broken
            && let Err(e) = self.channel.send(bytes)
        {
            tracing::debug!("the debugger is gone: {e}");
            self.broken = true;
            self.closed = true;
        }
    }

    /// Takes what has arrived.
    fn receive(&mut self, wait: bool) {
        let mut buf = [0; 4096];
        match self.channel.receive(&mut buf, wait) {
            Ok(Some(0)) => self.closed = true,
            Ok(Some(n)) => buf.iter().take(n).for_each(|byte| self.take(*byte)),
            Ok(None) => {}
            Err(e) => {
                tracing::debug!("the debugger is gone: {e}");
                self.closed = true;
            }
        }
    }

    fn take(&mut self, byte: u8) {
        match self.decoder.push(byte) {
            Some(Frame::Packet { sound: false, .. }) if self.acknowledges => self.send_raw(b"-"),
            Some(Frame::Packet { content, .. }) => self.arrived(Message::Packet(content)),
            Some(Frame::Oversize) => self.arrived(Message::Oversize),
            Some(Frame::Resend) if self.acknowledges => {
                let bytes = std::mem::take(&mut self.last);
                self.send_raw(&bytes);
                self.last = bytes;
            }
            Some(Frame::Interrupt) => self.interrupted = Some(Instant::now()),
            Some(Frame::Received | Frame::Resend) | None => {}
        }
    }

    fn arrived(&mut self, message: Message) {
        if self.acknowledges {
            self.send_raw(b"+");
        }
        // A client that follows the protocol waits for its answers.
        if self.waiting.len() < MAX_WAITING {
            self.waiting.push_back(message);
        } else {
            tracing::debug!("a packet is dropped: {MAX_WAITING} wait already");
        }
    }
}

impl Interrupt for Connection {
    /// An interrupt has come, or the client is gone.
    fn is_requested(&mut self) -> bool {
        if !self.closed {
            self.receive(false);
        }
        let interrupted = self
            .interrupted
            .take()
            .is_some_and(|at| at.elapsed() < INTERRUPT_KEPT);
        interrupted || self.closed
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::*;

    fn pair() -> (UnixStream, Connection) {
        let (client, server) = UnixStream::pair().unwrap();
        client
            .set_read_timeout(Some(std::time::Duration::from_secs(10)))
            .unwrap();
        (client, Connection::new(Box::new(server)))
    }

    fn read(client: &mut UnixStream, n: usize) -> String {
        let mut bytes = vec![0; n];
        client.read_exact(&mut bytes).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn acknowledgements_until_they_are_stopped() {
        let (mut client, mut connection) = pair();
        client.write_all(b"$?#00$?#3f").unwrap();
        assert_eq!(connection.next_message(), Some(Message::Packet(b"?".to_vec())));
        connection.send(b"OK");
        client.write_all(b"-+$g#67").unwrap();
        assert_eq!(connection.next_message(), Some(Message::Packet(b"g".to_vec())));
        connection.stop_acknowledging();
        client.write_all(b"$?#00").unwrap();
        assert_eq!(connection.next_message(), Some(Message::Packet(b"?".to_vec())));
        assert_eq!(read(&mut client, 15), "-+$OK#9a$OK#9a+");
    }

    #[test]
    fn interrupts_and_packets_while_the_program_runs() {
        let (mut client, mut connection) = pair();
        assert!(!connection.is_requested());
        client.write_all(b"$?#3f").unwrap();
        assert!(!connection.is_requested());
        client.write_all(b"\x03").unwrap();
        assert!(connection.is_requested());
        assert!(!connection.is_requested());
        assert_eq!(connection.next_message(), Some(Message::Packet(b"?".to_vec())));
        drop(client);
        assert!(connection.is_requested());
        assert_eq!(connection.next_message(), None);
        connection.send(b"OK");
    }

    #[test]
    fn an_interrupt_between_two_runs_counts_for_the_second_if_that_comes_soon() {
        let (mut client, mut connection) = pair();
        client.write_all(b"\x03$?#3f").unwrap();
        assert_eq!(connection.next_message(), Some(Message::Packet(b"?".to_vec())));
        assert!(connection.is_requested());
        assert!(!connection.is_requested());
        client.write_all(b"\x03$?#3f").unwrap();
        assert_eq!(connection.next_message(), Some(Message::Packet(b"?".to_vec())));
        connection.interrupted = connection
            .interrupted
            .and_then(|at| at.checked_sub(INTERRUPT_KEPT));
        assert!(!connection.is_requested());
    }
}
