//! Packets in a stream of bytes: `$`, the content, `#`, a checksum of two digits.
//!
//! The decoder takes any bytes and keeps at most [`MAX_PACKET`] of them.

use crate::hex;

/// The longest packet that is taken, and that `qSupported` announces.
pub const MAX_PACKET: usize = 0x20000;

/// The parts of the stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Frame {
    /// A packet: its content without escapes, and whether its checksum is right.
    Packet {
        /// The content.
        content: Vec<u8>,
        /// True if the checksum is right.
        sound: bool,
    },
    /// A packet longer than [`MAX_PACKET`].
    Oversize,
    /// `+`
    Received,
    /// `-`
    Resend,
    /// Byte 3 between packets.
    Interrupt,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Between,
    Content,
    Sum,
    LastDigit(u8),
}

/// Takes bytes as they come and gives frames.
#[derive(Debug, Default)]
pub struct Decoder {
    state: State,
    content: Vec<u8>,
    sum: u8,
    escaped: bool,
    oversize: bool,
}

impl Decoder {
    /// Takes one byte; gives a frame if it ends one.
    pub fn push(&mut self, byte: u8) -> Option<Frame> {
        match self.state {
            State::Between => match byte {
                b'$' => self.begin(),
                b'+' => return Some(Frame::Received),
                b'-' => return Some(Frame::Resend),
                3 => return Some(Frame::Interrupt),
                _ => {}
            },
            // Never part of a packet: the rest of the one before was lost.
            State::Content if byte == b'$' => self.begin(),
            State::Content if byte == b'#' => self.state = State::Sum,
            State::Content => self.add(byte),
            State::Sum => self.state = State::LastDigit(byte),
            State::LastDigit(first) => {
                self.state = State::Between;
                return Some(self.end(first, byte));
            }
        }
        None
    }

    fn begin(&mut self) {
        *self = Decoder {
            state: State::Content,
            ..Decoder::default()
        };
    }

    fn add(&mut self, byte: u8) {
        self.sum = self.sum.wrapping_add(byte);
        if self.escaped {
            self.escaped = false;
            self.keep(byte ^ 0x20);
        } else if byte == b'}' {
            self.escaped = true;
        } else {
            self.keep(byte);
        }
    }

    fn keep(&mut self, byte: u8) {
        if self.content.len() < MAX_PACKET {
            self.content.push(byte);
        } else {
            self.oversize = true;
        }
    }

    fn end(&mut self, first: u8, second: u8) -> Frame {
        let content = std::mem::take(&mut self.content);
        if self.oversize {
            return Frame::Oversize;
        }
        let digits = hex::digit(first).zip(hex::digit(second));
        // A fuzzer is not to spend its time on sums.
        let sound = cfg!(fuzzing) || digits.is_some_and(|(a, b)| a << 4 | b == self.sum);
        Frame::Packet { content, sound }
    }
}

/// A packet as it is sent. Bytes that mean something to the protocol are escaped.
pub fn encode(content: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(content.len() + 4);
    bytes.push(b'$');
    for &byte in content {
        if matches!(byte, b'$' | b'#' | b'}' | b'*') {
            bytes.extend([b'}', byte ^ 0x20]);
        } else {
            bytes.push(byte);
        }
    }
    let sum = bytes[1..].iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
    bytes.push(b'#');
    bytes.extend(hex::encode(&[sum]).bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(bytes: &[u8]) -> Vec<Frame> {
        let mut decoder = Decoder::default();
        bytes.iter().filter_map(|b| decoder.push(*b)).collect()
    }

    fn packet(content: &[u8], sound: bool) -> Frame {
        Frame::Packet {
            content: content.to_vec(),
            sound,
        }
    }

    #[test]
    fn packets_acknowledgements_and_interrupts() {
        assert_eq!(
            frames(b"+$g#67\x03junk-$g#68$#00"),
            [
                Frame::Received,
                packet(b"g", true),
                Frame::Interrupt,
                Frame::Resend,
                packet(b"g", false),
                packet(b"", true)
            ]
        );
        // One that lost its end, bad digits, and 3 inside of a packet.
        assert_eq!(
            frames(b"$abc$g#67$g#zz$\x03#03"),
            [packet(b"g", true), packet(b"g", false), packet(b"\x03", true)]
        );
    }

    #[test]
    fn escapes() {
        let content: Vec<u8> = (0..=255).collect();
        assert_eq!(frames(&encode(&content)), [packet(&content, true)]);
    }

    #[test]
    fn oversize() {
        let long = encode(&vec![b'a'; MAX_PACKET + 1]);
        let mut bytes = long.clone();
        bytes.extend(b"$g#67");
        assert_eq!(frames(&bytes), [Frame::Oversize, packet(b"g", true)]);
        assert!(matches!(
            frames(&encode(&vec![b'a'; MAX_PACKET]))[..],
            [Frame::Packet { .. }]
        ));
    }
}
