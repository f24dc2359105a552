//! The gdb remote server: whatever a client sends, it answers or ignores it, and without much memory.
//!
//! An input is a stream of packets as they travel, `$…#..`; checksums count as right (cfg `fuzzing`), so that
//! `#` and any two bytes end one. What runs is the made-up program of rr-debugger.
//!
//! ```text
//! cargo run -p rr-debugger --features mock --example packets_seeds -- fuzz/corpus/packets
//! cargo +nightly fuzz run packets -- -max_total_time=60 -max_len=16384 -rss_limit_mb=2048
//! ```

#![no_main]

use std::io;

use libfuzzer_sys::fuzz_target;
use rr_debugger::mock::Mock;
use rr_debugger::{Channel, Connection, serve};

/// A client that sends these bytes and then leaves.
struct Client(Vec<u8>, usize);

impl Channel for Client {
    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        assert!(bytes.len() <= 2 * rr_debugger::connection::MAX_PACKET + 4);
        Ok(())
    }

    fn receive(&mut self, buf: &mut [u8], wait: bool) -> io::Result<Option<usize>> {
        // Interrupts come only after the program has run for a while.
        let _ = wait;
        let rest = &self.0[self.1..];
        let n = rest.len().min(buf.len());
        buf[..n].copy_from_slice(&rest[..n]);
        self.1 += n;
        Ok(Some(n))
    }
}

fuzz_target!(|data: &[u8]| {
    let mut connection = Connection::new(Box::new(Client(data.to_vec(), 0)));
    let mut mock = Mock::default();
    let _ = serve(&mut connection, &mut mock);
    assert!(mock.points().is_empty());
});
