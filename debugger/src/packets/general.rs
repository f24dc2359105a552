//! `qSupported`, `QStartNoAckMode`, `!`: what both sides can do.

use crate::connection::MAX_PACKET;
use crate::server::{Answer, Features, Server};

/// The features of the server that need to be announced.
const OURS: &str = "QStartNoAckMode+;multiprocess+;swbreak+;hwbreak+;vContSupported+;ConditionalBreakpoints+;\
    QPassSignals+;QCatchSyscalls+;ReverseContinue+;ReverseStep+;fork-events+;vfork-events+;exec-events+;\
    qXfer:features:read+;qXfer:auxv:read+;qXfer:exec-file:read+;qXfer:siginfo:read+;qXfer:threads:read+;binary-upload+";

impl Server<'_> {
    /// `qSupported:FEATURE;…`
    pub(super) fn supported(&mut self, theirs: &[u8]) -> Answer {
        let has = |name: &str| theirs.split(|b| *b == b';').any(|item| item == name.as_bytes());
        self.features = Features {
            multiprocess: has("multiprocess+"),
            swbreak: has("swbreak+"),
            hwbreak: has("hwbreak+"),
            fork_events: has("fork-events+"),
            vfork_events: has("vfork-events+"),
            exec_events: has("exec-events+"),
        };
        self.options.fork_events = self.features.fork_events;
        self.options.vfork_events = self.features.vfork_events;
        self.options.exec_events = self.features.exec_events;
        Answer::text(format!("PacketSize={MAX_PACKET:x};{OURS}"))
    }

    /// `QStartNoAckMode`: the answer to it is not acknowledged any more by what we send.
    pub(super) fn no_ack_mode(&mut self) -> Answer {
        self.connection.stop_acknowledging();
        Answer::ok()
    }

    /// `!`: the connection outlives the program.
    pub(super) fn extended_mode(&mut self) -> Answer {
        self.extended = true;
        Answer::ok()
    }
}
