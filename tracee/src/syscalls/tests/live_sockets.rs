//! Sockets and terminals.

use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

use super::harness::*;

#[test]
fn addresses() {
    // The sockets that this call makes stay open until the process ends.
    writes("socketpair", |l| args([1, 1, 0, l.out(8)]));
    // There are no pairs of internet sockets. The descriptors have been written before the call fails.
    fails("socketpair", libc::EOPNOTSUPP, |l| args([2, 1, 0, l.out(8)]));
    fails("socketpair", libc::EPROTONOSUPPORT, |l| {
        args([1, 1, 77, l.out(8)])
    });
    fails("socketpair", libc::EINVAL, |l| args([1, 0xffff, 0, l.out(8)]));

    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = tcp.local_addr().unwrap();
    let (a, b) = UnixStream::pair().unwrap();
    let dir = Dir::new();
    let named = UnixListener::bind(dir.name("a socket with a name")).unwrap();
    for room in [0, 1, 4, 16, 110, 4000] {
        for socket in [tcp.as_raw_fd(), a.as_raw_fd(), named.as_raw_fd()] {
            ok("getsockname", |l| {
                args([socket as u64, l.out(4000), l.u32s(&[room])])
            });
        }
        ok("getpeername", |l| args([fd(&b), l.out(4000), l.u32s(&[room])]));
    }
    fails("getsockname", libc::EINVAL, |l| {
        args([fd(&a), l.out(100), l.u32s(&[u32::MAX])])
    });
    fails("getpeername", libc::ENOTCONN, |l| {
        args([fd(&tcp), l.out(100), l.u32s(&[100])])
    });

    let clients = std::cell::RefCell::new(Vec::new());
    let connect = || clients.borrow_mut().push(TcpStream::connect(address).unwrap());
    take(writes("accept", |l| {
        connect();
        args([fd(&tcp), l.out(100), l.u32s(&[100])])
    }));
    take(writes("accept4", |l| {
        connect();
        args([fd(&tcp), l.out(100), l.u32s(&[5]), libc::SOCK_CLOEXEC as u64])
    }));
    take(ok("accept", |_| {
        connect();
        args([fd(&tcp)])
    }));
    tcp.set_nonblocking(true).unwrap();
    fails("accept", libc::EAGAIN, |l| {
        args([fd(&tcp), l.out(100), l.u32s(&[100])])
    });
}

#[test]
fn options() {
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = TcpStream::connect(tcp.local_addr().unwrap()).unwrap();
    let (local, _peer) = UnixStream::pair().unwrap();
    let socket = libc::SOL_SOCKET as u64;
    // ERROR, TYPE, RCVBUF, LINGER, PEERCRED, RCVTIMEO, PEERSEC, PEERGROUPS, COOKIE, MEMINFO
    for option in [4, 3, 8, 13, 17, 20, 31, 59, 57, 55] {
        for room in [0, 1, 3, 4, 8, 400] {
            for fd in [stream.as_raw_fd(), local.as_raw_fd()] {
                check("getsockopt", |l| {
                    args([fd as u64, socket, option, l.out(400), l.u32s(&[room])])
                });
            }
        }
    }
    // TCP_INFO, TCP_MAXSEG, TCP_CONGESTION
    for option in [11, 2, 13] {
        writes("getsockopt", |l| {
            args([fd(&stream), 6, option, l.out(400), l.u32s(&[400])])
        });
    }
    // IP_TTL, IP_OPTIONS, IP_MTU
    for option in [2, 4, 14] {
        ok("getsockopt", |l| {
            args([fd(&stream), 0, option, l.out(400), l.u32s(&[400])])
        });
    }
    fails("getsockopt", libc::ENOPROTOOPT, |l| {
        args([fd(&stream), socket, 9999, l.out(400), l.u32s(&[400])])
    });
}

/// Every option on every kind of socket that is available.
#[test]
fn all_options() {
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = TcpStream::connect(tcp.local_addr().unwrap()).unwrap();
    let six = UdpSocket::bind("[::1]:0");
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (local, _peer) = UnixStream::pair().unwrap();
    // SO_ATTACH_FILTER with struct sock_fprog, of two instructions: its length counts instructions.
    let code: [u64; 2] = [0x0006, 0xffff_ffff_0000_0006];
    ok("setsockopt", |l| {
        let code = l.u64s(&code);
        args([fd(&udp), 1, 26, l.u64s(&[2, code]), 16])
    });
    writes("getsockopt", |l| {
        args([fd(&udp), 1, 26, l.out(400), l.u32s(&[10])])
    });
    let mut sockets = vec![fd(&tcp), fd(&stream), fd(&udp), fd(&local)];
    sockets.extend(six.iter().map(fd));
    let others: Vec<_> = [(16, 3, 0), (17, 3, 0), (2, 3, 255), (10, 3, 58)]
        .into_iter()
        .map(|(family, kind, protocol)| raw("socket", args([family, kind, protocol])))
        .filter(|result| *result >= 0)
        .map(take)
        .collect();
    sockets.extend(others.iter().map(fd));
    // SOL_IP, SOL_SOCKET, SOL_TCP, SOL_UDP, SOL_IPV6, SOL_ICMPV6, SOL_RAW, SOL_PACKET, SOL_NETLINK
    for level in [0, 1, 6, 17, 41, 58, 255, 263, 270] {
        for option in 0..140 {
            if level == 6 && [35, 41].contains(&option) {
                continue; // refused
            }
            for socket in &sockets {
                let mut value = [0u64; 500];
                let mut len = 4000u32;
                let (value, len) = (value.as_mut_ptr() as u64, &raw mut len as u64);
                let asked = raw("getsockopt", args([*socket, level, option, value, len]));
                if [-i64::from(libc::ENOPROTOOPT), -i64::from(libc::EOPNOTSUPP)].contains(&asked) {
                    continue;
                }
                for room in [8, 400] {
                    check("getsockopt", |l| {
                        // Lists of sources: the value says how many there is room for.
                        let sources = [0, 41].contains(&level) && [41, 48].contains(&option);
                        let value = if sources { l.put(&[0; 4000]) } else { l.out(4000) };
                        args([*socket, level, option, value, l.u32s(&[room])])
                    });
                }
            }
        }
    }
}

/// Requests about an interface, with a name of maximum length, whose last byte the kernel makes zero.
#[test]
fn interfaces() {
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let name = |rest: u64| {
        let mut request = [b'x'; 40];
        request[..3].copy_from_slice(b"lo\0");
        request[16..24].copy_from_slice(&rest.to_le_bytes());
        request
    };
    let asked = [
        0x8910, 0x8913, 0x8915, 0x8917, 0x8919, 0x891b, 0x891d, 0x891f, 0x8921, 0x8925, 0x8927, 0x8929,
        0x8933, 0x8935, 0x8938, 0x8940, 0x8942, 0x8947, 0x8948, 0x894c, 0x8970, 0x8993, 0x8994, 0x89b1,
        0x89e0, 0x89e1,
    ];
    for request in asked {
        check("ioctl", |l| {
            let data = l.out(100);
            args([fd(&udp), request, l.put(&name(data))])
        });
    }
    // ETHTOOL_GDRVINFO, GLINK, GSTRINGS, GFEATURES …
    for command in [
        0x1u32, 0x3, 0xa, 0x10, 0x14, 0x18, 0x1b, 0x1d, 0x25, 0x37, 0x3a, 0x3c, 0x41, 0x44,
    ] {
        check("ioctl", |l| {
            let data = l.put(&[&command.to_le_bytes()[..], &[0; 5000]].concat());
            args([fd(&udp), 0x8946, l.put(&name(data))])
        });
    }
    // BRCTL_GET_VERSION, BRCTL_GET_BRIDGES
    for command in [0, 1] {
        check("ioctl", |l| {
            let list = l.out(64);
            args([fd(&udp), 0x8940, l.u64s(&[command, list, 16, 0])])
        });
    }
}

#[test]
fn receiving_datagrams() {
    let (a, b) = (
        UdpSocket::bind("127.0.0.1:0").unwrap(),
        UdpSocket::bind("127.0.0.1:0").unwrap(),
    );
    b.connect(a.local_addr().unwrap()).unwrap();
    let send = |n: usize| assert_eq!(b.send(&vec![1; n]).unwrap(), n);
    let flags = libc::MSG_TRUNC as u64;
    for (n, room, flags) in [
        (50, 100, 0),
        (100, 50, 0),
        (100, 50, flags),
        (0, 50, 0),
        (50, 0, flags),
    ] {
        ok("recvfrom", |l| {
            send(n);
            args([fd(&a), l.out(100), room, flags, l.out(100), l.u32s(&[100])])
        });
    }
    writes("recvfrom", |l| {
        send(50);
        args([fd(&a), l.out(100), 100, 0, l.out(100), l.u32s(&[3])])
    });
    fails("recvfrom", libc::EAGAIN, |l| {
        args([
            fd(&a),
            l.out(100),
            100,
            libc::MSG_DONTWAIT as u64,
            l.out(100),
            l.u32s(&[100]),
        ])
    });
    let mut stream = UnixStream::pair().unwrap();
    assert_eq!(
        writes("recvfrom", |l| {
            std::io::Write::write_all(&mut &stream.0, b"hello").unwrap();
            args([fd(&stream.1), l.out(100), 100, 0, l.out(100), l.u32s(&[100])])
        }),
        5
    );
    writes("ioctl", |l| {
        std::io::Write::write_all(&mut &stream.0, b"hello").unwrap();
        args([fd(&stream.1), 0x541b, l.out(4)])
    });
    stream.0.shutdown(std::net::Shutdown::Both).unwrap();
    std::io::copy(&mut stream.1, &mut std::io::sink()).unwrap();
    assert_eq!(
        ok("recvfrom", |l| args([fd(&stream.1), l.out(100), 100, 0, 0, 0])),
        0
    );
}

/// A msghdr with a name, two buffers and room for control messages.
fn message(l: &mut Layout, name: u64, room: [u64; 2], control: u64) -> [u64; 7] {
    let vectors = [l.out(room[0] as usize), room[0], l.out(room[1] as usize), room[1]];
    let vectors = l.u64s(&vectors);
    [
        l.out(name as usize),
        name,
        vectors,
        2,
        l.out(control as usize),
        control,
        0,
    ]
}

#[test]
fn receiving_messages() {
    let (a, b) = (
        UdpSocket::bind("127.0.0.1:0").unwrap(),
        UdpSocket::bind("127.0.0.1:0").unwrap(),
    );
    b.connect(a.local_addr().unwrap()).unwrap();
    for (name, room, control) in [(100, [5, 100], 0), (4, [5, 7], 100), (0, [0, 100], 100)] {
        let result = writes("recvmsg", |l| {
            b.send(&[1; 50]).unwrap();
            let m = message(l, name, room, control);
            args([fd(&a), l.u64s(&m), 0])
        });
        assert_eq!(result as u64, 50.min(room[0] + room[1]));
    }
    fails("recvmsg", libc::EAGAIN, |l| {
        let m = message(l, 100, [10, 10], 100);
        args([fd(&a), l.u64s(&m), libc::MSG_DONTWAIT as u64])
    });
    fails("recvmsg", libc::EMSGSIZE, |l| {
        args([fd(&a), l.u64s(&[0, 0, 8, 5000, 0, 0, 0]), 0])
    });

    // With credentials, a time stamp and a descriptor; with too little room for them.
    let (from, to) = UnixDatagram::pair().unwrap();
    let on = 1u32;
    for option in [16, 29] {
        // SO_PASSCRED, SO_TIMESTAMP
        let value = std::ptr::from_ref(&on) as u64;
        assert_eq!(raw("setsockopt", args([fd(&to), 1, option, value, 4])), 0);
    }
    for control in [0, 10, 16, 20, 40, 500] {
        writes("recvmsg", |l| {
            let rights = l.u32s(&[20, 0, 1, 1, from.as_raw_fd() as u32, 0]); // SCM_RIGHTS
            let out = [l.text("hello"), 5];
            let out = l.u64s(&out);
            let sent = raw(
                "sendmsg",
                args([fd(&from), l.u64s(&[0, 0, out, 1, rights, 24, 0]), 0]),
            );
            assert_eq!(sent, 5);
            let m = message(l, 100, [10, 10], control);
            args([fd(&to), l.u64s(&m), 0])
        });
    }
}

#[test]
fn many_messages_at_once() {
    let (a, b) = (
        UdpSocket::bind("127.0.0.1:0").unwrap(),
        UdpSocket::bind("127.0.0.1:0").unwrap(),
    );
    b.connect(a.local_addr().unwrap()).unwrap();
    let result = writes("recvmmsg", |l| {
        b.send(&[1; 50]).unwrap();
        b.send(&[2; 5]).unwrap();
        let mut words = Vec::new();
        for _ in 0..4 {
            words.extend(message(l, 100, [10, 20], 100));
            words.push(u64::MAX);
        }
        args([
            fd(&a),
            l.u64s(&words),
            4,
            libc::MSG_DONTWAIT as u64,
            l.u64s(&[3, 0]),
        ])
    });
    assert_eq!(result, 2);
    fails("recvmmsg", libc::EAGAIN, |l| {
        let m = message(l, 100, [10, 10], 100);
        let words = [&m[..], &[7]].concat();
        args([fd(&a), l.u64s(&words), 1, libc::MSG_DONTWAIT as u64, 0])
    });
    assert_eq!(
        writes("sendmmsg", |l| {
            let text = [l.text("hello"), 5];
            let text = l.u64s(&text);
            let words = [0, 0, text, 1, 0, 0, 0, u64::MAX].repeat(3);
            args([fd(&b), l.u64s(&words), 3, 0])
        }),
        3
    );
}

#[test]
fn requests_to_sockets() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    writes("ioctl", |l| {
        let conf = [100, l.out(100)];
        args([fd(&socket), 0x8912, l.u64s(&conf)])
    });
    ok("ioctl", |l| args([fd(&socket), 0x8912, l.u64s(&[0, 0])]));
    // Flags, address, destination, broadcast, netmask, metric, memory, MTU, hardware, index, queue, map
    for request in [
        0x8913, 0x8915, 0x8917, 0x8919, 0x891b, 0x891d, 0x891f, 0x8921, 0x8927, 0x8933, 0x8942, 0x8970,
    ] {
        check("ioctl", |l| {
            args([
                fd(&socket),
                request,
                l.u64s(&[u64::from(u16::from_le_bytes(*b"lo")), 0, 0, 0, 0]),
            ])
        });
    }
    writes("ioctl", |l| {
        args([
            fd(&socket),
            0x8933,
            l.u64s(&[u64::from(u16::from_le_bytes(*b"lo")), 0, 0, 0, 0]),
        ])
    });
    writes("ioctl", |l| args([fd(&socket), 0x8910, l.u64s(&[0, 0, 1, 0, 0])]));
    // SIOCOUTQ, SIOCGPGRP, FIOGETOWN
    for request in [0x5411, 0x8904, 0x8903] {
        writes("ioctl", |l| args([fd(&socket), request, l.out(4)]));
    }
    check("ioctl", |l| args([fd(&socket), 0x8906, l.out(16)]));
    // SIOCETHTOOL: driver, link, value, strings of the loopback device.
    for (command, room) in [
        (0x3, 196),
        (0xa, 8),
        (0x25, 8),
        (0x41, 44),
        (0x1, 44),
        (0x37, 400),
        (0x3a, 400),
    ] {
        check("ioctl", |l| {
            let data = l.out(room);
            let head = l.u32s(&[command]);
            // SAFETY: both are in the arena and hold 4 bytes.
            unsafe { std::ptr::copy_nonoverlapping(head as *const u8, data as *mut u8, 4) };
            args([
                fd(&socket),
                0x8946,
                l.u64s(&[u64::from(u16::from_le_bytes(*b"lo")), 0, data, 0, 0]),
            ])
        });
    }
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = TcpStream::connect(tcp.local_addr().unwrap()).unwrap();
    // SIOCATMARK, SIOCINQ, SIOCOUTQ, SIOCOUTQNSD
    for request in [0x8905, 0x541b, 0x5411, 0x894b] {
        writes("ioctl", |l| args([fd(&stream), request, l.out(4)]));
    }
}

#[test]
fn requests_to_terminals() {
    let Ok(pty) = std::fs::File::options().read(true).write(true).open("/dev/ptmx") else {
        eprintln!("no pseudo-terminals here: not tested");
        return;
    };
    assert_eq!(
        raw(
            "ioctl",
            args([fd(&pty), 0x4004_5431, std::ptr::from_ref(&0u32) as u64])
        ),
        0
    );
    let flags = (libc::O_RDWR | libc::O_NOCTTY) as u64;
    let terminal = take(raw("ioctl", args([fd(&pty), 0x5441, flags]))); // TIOCGPTPEER
    // TCGETS, TCGETA, TCGETS2, TIOCGWINSZ, TIOCOUTQ, FIONREAD, TIOCGETD, TIOCGLCKTRMIOS, TIOCGEXCL
    for request in [
        0x5401,
        0x5405,
        0x802c_542a,
        0x5413,
        0x5411,
        0x541b,
        0x5424,
        0x5456,
        0x8004_5440,
    ] {
        writes("ioctl", |l| args([fd(&terminal), request, l.out(64)]));
    }
    // TIOCGPTN, TIOCGPTLCK, TIOCGPKT, TIOCGDEV
    for request in [0x8004_5430, 0x8004_5439, 0x8004_5438, 0x8004_5432] {
        writes("ioctl", |l| args([fd(&pty), request, l.out(64)]));
    }
    // Not this process's terminal, no modem, no serial line: TIOCGPGRP, TIOCGSID, TIOCMGET, TIOCGSERIAL …
    for request in [0x540f, 0x5429, 0x5415, 0x5419, 0x541e, 0x545d, 0x5432, 0x541c] {
        check("ioctl", |l| args([fd(&terminal), request, l.out(100)]));
    }
    let size = 0x0050_0018_u64;
    ok("ioctl", |l| args([fd(&terminal), 0x5414, l.u64s(&[size])])); // TIOCSWINSZ
    ok("ioctl", |_| args([fd(&terminal), 0x5450])); // FIONCLEX
    ok("ioctl", |_| args([fd(&terminal), 0x5451])); // FIOCLEX
    ok("ioctl", |l| args([fd(&terminal), 0x5421, l.u32s(&[0])])); // FIONBIO
    writes("read", |l| {
        std::io::Write::write_all(&mut &pty, b"line\n").unwrap();
        args([fd(&terminal), l.out(100), 100])
    });
}
