//! Runs to an event, and prints the value of a variable of the first program there.
//!
//! `cargo run -p rr-replayer --example variable -- TRACE EVENT NAME`
//!
//! The replay starts at the nearest checkpoint before the event.

mod common;

use rr_replayer::cpu_for_replay;
use rr_trace::EventNumber;
use rr_tracee::cpus::Cpus;

fn main() -> common::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [path, event, name] = &args[..] else {
        return Err("usage: variable TRACE EVENT NAME".into());
    };
    let (reader, program) = common::open(path)?;
    let cpu = cpu_for_replay(&Cpus::survey(), &reader);
    let mut timeline = common::timeline_at(&reader, &program, EventNumber(event.parse()?), cpu)?;
    let (addr, size) = common::symbol(&timeline, name, &program.path)?;
    let mut bytes = vec![0; size.clamp(1, 64) as usize];
    let process = timeline.process();
    let read = timeline.session_mut().read_memory(process, addr, &mut bytes);
    if read < bytes.len() {
        return Err(format!("the memory at {addr} cannot be read").into());
    }
    match <[u8; 8]>::try_from(&bytes[..]) {
        Ok(word) => println!("{name} = {} (8 bytes at {addr})", i64::from_le_bytes(word)),
        Err(_) => match <[u8; 4]>::try_from(&bytes[..]) {
            Ok(word) => println!("{name} = {} (4 bytes at {addr})", i32::from_le_bytes(word)),
            Err(_) => println!("{name} = {bytes:?} ({size} bytes at {addr})"),
        },
    }
    Ok(())
}
