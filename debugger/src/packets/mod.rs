//! One file for each packet or family of packets; here is which packet is which.

mod breakpoints;
mod commands;
mod files;
mod general;
mod memory;
mod options;
mod registers;
mod restart;
mod resume;
mod search;
mod session;
mod symbols;
mod threads;
mod transfer;

use crate::hex;
use crate::server::{Answer, Server};

/// The name of a `q`, `Q` or `v` packet, and what follows it with its separator.
fn named(packet: &[u8]) -> (&[u8], &[u8]) {
    let end = packet
        .iter()
        .position(|b| b":;,?".contains(b))
        .unwrap_or(packet.len());
    packet.split_at(end)
}

/// The argument after a name, without the separator.
fn argument(rest: &[u8]) -> &[u8] {
    rest.get(1..).unwrap_or_default()
}

impl Server<'_> {
    /// Does what a packet says.
    pub(crate) fn answer(&mut self, packet: &[u8]) -> Answer {
        let Some((kind, rest)) = packet.split_first() else {
            return Answer::unsupported();
        };
        match kind {
            b'!' => self.extended_mode(),
            b'?' => self.last_stop(),
            b'H' => self.choose_thread(rest),
            b'T' => self.is_thread_alive(rest),
            b'g' => self.read_registers(),
            b'G' => self.write_registers(rest),
            b'p' => self.read_register(rest),
            b'P' => self.write_register(rest),
            b'm' => self.read_memory(rest),
            b'x' => self.read_memory_binary(rest),
            b'M' => self.write_memory(rest),
            b'X' => self.write_memory_binary(rest),
            b'c' | b'C' => self.old_continue(),
            b's' | b'S' => self.old_step(),
            b'b' => self.backward(rest),
            b'Z' => self.insert_point(rest),
            b'z' => self.remove_point(rest),
            b'D' => self.detach(rest),
            b'k' => self.kill_quietly(),
            b'q' | b'Q' | b'v' => self.answer_named(packet),
            _ => Answer::unsupported(),
        }
    }

    fn answer_named(&mut self, packet: &[u8]) -> Answer {
        let (name, rest) = named(packet);
        match name {
            b"qSupported" => self.supported(argument(rest)),
            b"QStartNoAckMode" => self.no_ack_mode(),
            b"qC" => self.current_thread(),
            b"qfThreadInfo" => self.first_threads(),
            b"qsThreadInfo" => Answer::text("l"),
            b"qThreadExtraInfo" => self.thread_name(argument(rest)),
            b"qAttached" => Answer::text("1"),
            b"qSymbol" => self.symbol(argument(rest)),
            b"qGetTLSAddr" => self.thread_local_address(argument(rest)),
            b"qXfer" => self.transfer(argument(rest)),
            b"qSearch" => self.search(argument(rest)),
            b"qRcmd" => self.monitor(argument(rest)),
            b"qRRCmd" => self.command(argument(rest)),
            b"QPassSignals" => self.pass_signals(argument(rest)),
            b"QCatchSyscalls" => self.catch_syscalls(argument(rest)),
            b"vCont" if rest == b"?" => Answer::text("vCont;c;C;s;S;t;r"),
            b"vCont" => self.resume_threads(argument(rest)),
            b"vKill" => self.kill(argument(rest)),
            b"vRun" => self.run_program(argument(rest)),
            b"vFile" => self.file(argument(rest)),
            // qOffsets, qTStatus, vMustReplyEmpty among them.
            _ => Answer::unsupported(),
        }
    }
}

/// The numbers of a list; None if one of them is none.
fn numbers(list: &[u8], separator: u8) -> Option<Vec<u64>> {
    list.split(|b| *b == separator)
        .filter(|item| !item.is_empty())
        .map(hex::number)
        .collect()
}
