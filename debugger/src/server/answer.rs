//! Answers to packets.

use crate::hex;
use crate::target::TargetError;

/// An answer to a packet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Answer {
    /// A packet.
    Packet(Vec<u8>),
    /// None at all (`k`).
    Nothing,
}

impl Answer {
    /// It is done.
    pub fn ok() -> Answer {
        Answer::text("OK")
    }

    /// The server does not know the packet.
    pub fn unsupported() -> Answer {
        Answer::text("")
    }

    /// These characters.
    pub fn text(text: impl Into<String>) -> Answer {
        Answer::Packet(text.into().into_bytes())
    }

    /// These bytes in hexadecimal.
    pub fn hex(bytes: &[u8]) -> Answer {
        Answer::text(hex::encode(bytes))
    }

    /// The packet makes no sense (EINVAL).
    pub fn invalid() -> Answer {
        Answer::text("E16")
    }

    /// There is no such thread or thing (ESRCH).
    pub fn missing() -> Answer {
        Answer::text("E03")
    }

    /// There is no such memory (EFAULT).
    pub fn fault() -> Answer {
        Answer::text("E0e")
    }

    /// It was not possible, in a form that gdb shows to the user.
    pub fn said(error: &TargetError) -> Answer {
        tracing::debug!("{error}");
        let text: String = error
            .to_string()
            .chars()
            .map(|c| {
                if c.is_ascii_graphic() && !"#$}*".contains(c) {
                    c
                } else {
                    ' '
                }
            })
            .collect();
        Answer::text(format!("E.{text}"))
    }
}
