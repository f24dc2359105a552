//! Serves the made-up program on a TCP port, for trying things with a debugger: `mock_server PORT`.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use rr_debugger::mock::Mock;
use rr_debugger::{Listener, serve};

fn main() {
    let port = std::env::args()
        .nth(1)
        .and_then(|port| port.parse().ok())
        .unwrap_or(0);
    let mut listener = Listener::tcp("127.0.0.1", port).expect("no port");
    println!("target extended-remote {}", listener.address());
    let mut connection = listener.accept(None).unwrap().unwrap();
    println!("{:?}", serve(&mut connection, &mut Mock::default()).unwrap());
}
