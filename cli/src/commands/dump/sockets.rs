//! Socket addresses that the kernel told the program (`accept`, `recvfrom` …): they are among the memory that was
//! written. Addresses that the program told the kernel (`connect`, `bind`) are in its own memory and not in the trace.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use rr_trace::event::{Event, MemWrite};
use rr_tracee::{Addr, Registers};

/// The place that the call's address goes to, if the call tells addresses.
fn place(entry: &Registers) -> Option<Addr> {
    let arg = match entry.syscall() {
        libc::SYS_accept | libc::SYS_accept4 | libc::SYS_getsockname | libc::SYS_getpeername => 1,
        libc::SYS_recvfrom => 4,
        _ => return None,
    };
    Some(Addr(entry.arg(arg))).filter(|addr| !addr.is_null())
}

/// The address that a call told.
pub fn told(event: &Event, call: Option<&Registers>) -> Option<String> {
    let addr = place(call?)?;
    let is_there = |w: &&MemWrite| w.addr == addr;
    decode(&event.writes.iter().find(is_there)?.data)
}

/// A `struct sockaddr` as people write it (ip(7), ipv6(7), unix(7)).
fn decode(bytes: &[u8]) -> Option<String> {
    let family = u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?);
    let rest = &bytes[2..];
    let port = || Some(u16::from_be_bytes(rest.get(..2)?.try_into().ok()?));
    match i32::from(family) {
        libc::AF_INET => {
            let ip: [u8; 4] = rest.get(2..6)?.try_into().ok()?;
            Some(SocketAddr::from((Ipv4Addr::from(ip), port()?)).to_string())
        }
        libc::AF_INET6 => {
            let ip: [u8; 16] = rest.get(6..22)?.try_into().ok()?;
            Some(SocketAddr::from((Ipv6Addr::from(ip), port()?)).to_string())
        }
        libc::AF_UNIX => Some(match rest.split_first() {
            None => "unix:".into(),
            Some((0, name)) => format!("unix:@{}", String::from_utf8_lossy(name)),
            Some(_) => {
                let end = rest.iter().position(|b| *b == 0).unwrap_or(rest.len());
                format!("unix:{}", String::from_utf8_lossy(&rest[..end]))
            }
        }),
        other => Some(format!("family {other}")),
    }
}

#[cfg(test)]
mod tests {
    use super::decode;

    #[test]
    fn families() {
        let mut v4 = vec![2, 0, 0x12, 0x34, 127, 0, 0, 1];
        v4.resize(16, 0);
        assert_eq!(decode(&v4).unwrap(), "127.0.0.1:4660");
        let mut v6 = vec![10, 0, 0, 80];
        v6.resize(28, 0);
        v6[23] = 1;
        assert_eq!(decode(&v6).unwrap(), "[::1]:80");
        assert_eq!(decode(b"\x01\0/tmp/s\0\0").unwrap(), "unix:/tmp/s");
        assert_eq!(decode(b"\x01\0\0name").unwrap(), "unix:@name");
        assert_eq!(decode(b"\x01\0").unwrap(), "unix:");
        assert_eq!(decode(b"\x01"), None);
    }
}
