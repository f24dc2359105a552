//! Computed entries and untrusted lengths, tested with invented memory.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::ids::PAGE;
use crate::memory::ReadMemory;
use crate::syscalls::{Holder, Part, Spec, Written, all};
use crate::{Addr, Registers, Tid};

/// Whole pages at invented addresses.
#[derive(Default)]
struct Fake {
    pages: BTreeMap<u64, Vec<u8>>,
    dead: bool,
}

impl Fake {
    /// Memory with these bytes at `addr`; the rest of their pages is 0.
    fn with(mut self, addr: u64, bytes: &[u8]) -> Fake {
        for (i, byte) in bytes.iter().enumerate() {
            let at = addr + i as u64;
            let page = self
                .pages
                .entry(at / PAGE)
                .or_insert_with(|| vec![0; PAGE as usize]);
            page[(at % PAGE) as usize] = *byte;
        }
        self
    }

    fn words(self, addr: u64, words: &[u64]) -> Fake {
        self.with(
            addr,
            &words.iter().flat_map(|w| w.to_le_bytes()).collect::<Vec<u8>>(),
        )
    }
}

impl ReadMemory for Fake {
    fn read(&self, addr: Addr, buf: &mut [u8]) -> Result<()> {
        if self.dead {
            return Err(Error::Died(Tid(1)));
        }
        let len = buf.len();
        for (i, byte) in buf.iter_mut().enumerate() {
            let at = addr.0.wrapping_add(i as u64);
            let Some(page) = self.pages.get(&(at / PAGE)) else {
                let errno = nix::errno::Errno::EIO;
                return Err(Error::Memory {
                    tid: Tid(1),
                    what: "reading",
                    addr,
                    len,
                    errno,
                });
            };
            *byte = page[(at % PAGE) as usize];
        }
        Ok(())
    }
}

fn entry<const N: usize>(args: [u64; N]) -> Registers {
    let mut r = Registers::default();
    args.into_iter()
        .enumerate()
        .for_each(|(n, value)| r.set_arg(n, value));
    r
}

fn spec(name: &str) -> &'static Spec {
    all().find(|s| s.name == name).unwrap()
}

fn parts<const N: usize>(name: &str, args: [u64; N], mem: &Fake) -> Vec<Part> {
    spec(name).parts(&entry(args), mem).unwrap()
}

/// The written bytes, reading the parts at the program's addresses.
fn written<const N: usize>(name: &str, args: [u64; N], mem: &Fake, result: i64) -> Vec<Written> {
    let parts = parts(name, args, mem);
    let read = |part: usize, offset: u64, buf: &mut [u8]| mem.read(parts[part].addr + offset, buf);
    spec(name).written(&entry(args), &parts, result, &read).unwrap()
}

fn arg(n: u8, addr: u64, len: u64, copy_in: bool) -> Part {
    Part {
        holder: Holder::Arg(n),
        addr: Addr(addr),
        len,
        copy_in,
    }
}

fn within(part: usize, offset: u64, addr: u64, len: u64, copy_in: bool) -> Part {
    Part {
        holder: Holder::Within { part, offset },
        addr: Addr(addr),
        len,
        copy_in,
    }
}

fn w(part: usize, offset: u64, len: u64) -> Written {
    Written { part, offset, len }
}

#[test]
fn readv_spreads_its_result_over_the_buffers() {
    let mem = Fake::default().words(0x1000, &[0x5000, 64, 0, 10, 0x6000, 0, 0x7000, 64]);
    let args = [3, 0x1000, 4];
    assert_eq!(
        parts("readv", args, &mem),
        [
            arg(1, 0x1000, 64, true),
            within(0, 0, 0x5000, 64, false),
            within(0, 48, 0x7000, 64, false)
        ]
    );
    assert_eq!(written("readv", args, &mem, 100), [w(1, 0, 64), w(2, 0, 36)]);
    assert_eq!(written("readv", args, &mem, 0), []);
    assert_eq!(written("readv", args, &mem, -11), []);
}

#[test]
fn hostile_vectors_give_no_parts() {
    let mem = Fake::default().words(0x1000, &[0x5000, 64, 0x6000, u64::MAX]);
    assert_eq!(parts("readv", [3, 0x1000, 2], &mem), []); // a negative length
    assert_eq!(parts("readv", [3, 0x1000, 1 << 60], &mem), []); // too many
    assert_eq!(parts("readv", [3, 0x1000, u64::MAX], &mem), []);
    assert_eq!(parts("readv", [3, 0x9000, 1], &mem), []); // unreadable
    assert_eq!(parts("readv", [3, 0, 1], &mem), []);
    assert_eq!(parts("readv", [3, 0x1ff8, 1], &mem), []); // unreadable in its second half
    assert_eq!(parts("readv", [3, u64::MAX - 7, 1], &mem), []); // beyond the end of all memory
}

#[test]
fn the_total_of_a_vector_is_limited() {
    let mem = Fake::default().words(0x1000, &[0x10_0000, 0x7fff_0000, 0x10_0000, 0x7fff_0000]);
    let lens: Vec<u64> = parts("preadv", [3, 0x1000, 2], &mem)
        .iter()
        .map(|p| p.len)
        .collect();
    assert_eq!(lens, [32, 0x7fff_0000, 0xf000]);
}

#[test]
fn lengths_are_cut_to_what_the_kernel_takes() {
    let mem = Fake::default();
    assert_eq!(
        parts("read", [3, 0x1000, u64::MAX], &mem),
        [arg(1, 0x1000, 0x7fff_f000, false)]
    );
    assert_eq!(parts("read", [3, 0, 10], &mem), []);
    assert_eq!(parts("read", [3, u64::MAX, 10], &mem), []);
    assert_eq!(
        parts("rt_sigprocmask", [0, 0, 0x1000, 1 << 40], &mem),
        [arg(2, 0x1000, 8, false)]
    );
    // 2⁶⁴ elements of 12 bytes do not overflow.
    assert_eq!(
        parts("epoll_wait", [3, 0x1000, u64::MAX], &mem)[0].len,
        0x7fff_f000
    );
    assert_eq!(parts("mincore", [0, u64::MAX, 0x1000], &mem), []);
}

#[test]
fn parts_that_are_copied_in_end_where_memory_ends() {
    let mem = Fake::default().with(0x1000, &[0; 16]);
    // 600 pollfds would need 4800 bytes; one page is there.
    assert_eq!(
        parts("poll", [0x1000, 600, 0], &mem),
        [arg(0, 0x1000, 4096, true)]
    );
    assert_eq!(parts("nanosleep", [0x1000, 0x5000], &mem), []);
    assert_eq!(
        parts("nanosleep", [0x1000, 0x1ff8], &mem),
        [arg(1, 0x1ff8, 8, true)]
    );
}

#[test]
fn poll_declares_only_the_answers() {
    let mem = Fake::default().with(0x1000, &[0; 16]);
    assert_eq!(
        written("poll", [0x1000, 2, 0], &mem, 1),
        [w(0, 6, 2), w(0, 14, 2)]
    );
    assert_eq!(
        written("poll", [0x1000, 2, 9], &mem, -514),
        [w(0, 6, 2), w(0, 14, 2)]
    );
    assert_eq!(
        written("poll", [0x1000, 2, 9], &mem, -i64::from(libc::EINVAL)),
        []
    );
}

#[test]
fn the_death_of_the_task_is_an_error() {
    let mem = Fake {
        dead: true,
        ..Fake::default()
    };
    for (name, args) in [
        ("readv", [3, 0x1000, 1, 0, 0]),
        ("recvmsg", [3, 0x1000, 0, 0, 0]),
        ("accept", [3, 0x1000, 0x1100, 0, 0]),
        ("nanosleep", [0x1000, 0x1000, 0, 0, 0]),
        ("capget", [0x1000, 0x1000, 0, 0, 0]),
    ] {
        assert!(
            matches!(spec(name).parts(&entry(args), &mem), Err(Error::Died(Tid(1)))),
            "{name}"
        );
    }
}

/// name at 0x5000 (namelen 32), iov at 0x2000, control at 0x6000 (64 bytes).
fn message(name_len: u64, control_len: u64) -> [u64; 7] {
    [0x5000, name_len, 0x2000, 1, 0x6000, control_len, 0]
}

#[test]
fn recvmsg_declares_the_words_that_it_answers_in() {
    let before = || {
        Fake::default()
            .words(0x1000, &message(32, 64))
            .words(0x2000, &[0x7000, 100])
            .with(0x6000, &[0])
    };
    let args = [3, 0x1000, 0];
    let p = parts("recvmsg", args, &before());
    assert_eq!(
        p,
        [
            arg(1, 0x1000, 56, true),
            within(0, 0, 0x5000, 32, false),
            within(0, 16, 0x2000, 16, true),
            within(2, 0, 0x7000, 100, false),
            within(0, 32, 0x6000, 64, true),
        ]
    );
    // The kernel answers: 16 bytes of name, 20 of control messages.
    let after = before().words(0x1000, &message(16, 20));
    let read = |part: usize, offset: u64, buf: &mut [u8]| after.read(p[part].addr + offset, buf);
    let spec = spec("recvmsg");
    assert_eq!(
        spec.written(&entry(args), &p, 77, &read).unwrap(),
        [w(1, 0, 16), w(4, 0, 20), w(3, 0, 77), w(0, 8, 4), w(0, 40, 12)]
    );
    assert_eq!(spec.written(&entry(args), &p, -11, &read).unwrap(), []);
    // MSG_TRUNC: the result is the length of the datagram, not of what was stored.
    assert!(
        spec.written(&entry(args), &p, 5000, &read)
            .unwrap()
            .contains(&w(3, 0, 100))
    );
}

#[test]
fn hostile_messages_do_no_harm() {
    // Meaningless lengths: a negative name length, 2⁶³ bytes of control, 2⁶⁰ buffers.
    let header = [0x5000, 0xffff_ffff, 0x2000, 1 << 60, 0x6000, 1 << 63, 0];
    let mem = Fake::default().words(0x1000, &header).with(0x6000, &[0]);
    assert_eq!(
        parts("recvmsg", [3, 0x1000, 0], &mem),
        [arg(1, 0x1000, 56, true), within(0, 32, 0x6000, 4096, true)]
    );
    // A header that is cut off by the end of memory.
    let mem = Fake::default().with(0x1fe0, &[1; 32]);
    assert_eq!(parts("recvmsg", [3, 0x1fe0, 0], &mem), []);
}

#[test]
fn recvmmsg_counts_messages() {
    let mut words = Vec::new();
    for i in 0..3 {
        // No name, one buffer each, no control; msg_len is 5, 6, 7.
        words.extend([0, 0, 0x2000 + 16 * i, 1, 0, 0, 0, 5 + i]);
    }
    let vectors = [0x7000, 100, 0x8000, 100, 0x9000, 100];
    let mem = Fake::default()
        .words(0x1000, &words)
        .words(0x2000, &vectors)
        .words(0x3000, &[1, 2]);
    let args = [3, 0x1000, 3, 0, 0x3000];
    let p = parts("recvmmsg", args, &mem);
    assert_eq!(p.len(), 1 + 3 * 2 + 1);
    assert_eq!(p[0], arg(1, 0x1000, 192, true));
    assert_eq!(p[3], within(0, 80, 0x2010, 16, true));
    assert_eq!(p[4], within(3, 0, 0x8000, 100, false));
    assert_eq!(p[7], arg(4, 0x3000, 16, true));
    let got = written("recvmmsg", args, &mem, 2);
    assert_eq!(
        got,
        [
            w(7, 0, 16),
            w(2, 0, 5),
            w(0, 8, 4),
            w(0, 40, 12),
            w(0, 56, 4),
            w(4, 0, 6),
            w(0, 64 + 8, 4),
            w(0, 64 + 40, 12),
            w(0, 64 + 56, 4),
        ]
    );
}

#[test]
fn a_socket_address_is_as_long_as_both_sides_say() {
    let mem = Fake::default().words(0x1000, &[16]);
    let args = [3, 0x5000, 0x1000];
    assert_eq!(
        parts("accept", args, &mem),
        [arg(1, 0x5000, 16, false), arg(2, 0x1000, 4, true)]
    );
    // The kernel has 110 bytes and stores the 16 that there is room for.
    let p = parts("accept", args, &mem);
    let read = |_: usize, _: u64, buf: &mut [u8]| {
        buf.copy_from_slice(&110u32.to_le_bytes());
        Ok(())
    };
    let got = spec("accept").written(&entry(args), &p, 4, &read).unwrap();
    assert_eq!(got, [w(0, 0, 16), w(1, 0, 4)]);
    // No buffer wanted.
    assert_eq!(parts("accept", [3, 0, 0], &mem), []);
    // A length that claims more than any address has.
    let mem = Fake::default().words(0x1000, &[0x7fff_ffff]);
    assert_eq!(parts("accept", args, &mem)[0].len, 128);
}

#[test]
fn sched_and_capability_structures_depend_on_what_they_hold() {
    let version = |v: u64| Fake::default().words(0x1000, &[v]);
    assert_eq!(
        parts("capget", [0x1000, 0x5000], &version(0x1998_0330))[1].len,
        12
    );
    assert_eq!(
        parts("capget", [0x1000, 0x5000], &version(0x2008_0522))[1].len,
        24
    );
    // A probe for the version: the kernel answers in the header.
    assert_eq!(written("capget", [0x1000, 0], &version(0), -22), [w(0, 0, 4)]);
}

#[test]
fn clone_writes_only_what_its_flags_say() {
    let mem = Fake::default();
    assert_eq!(parts("clone", [17, 0, 0x1000], &mem), []);
    let thread = libc::CLONE_PARENT_SETTID as u64;
    assert_eq!(written("clone", [thread, 0, 0x1000], &mem, 5), [w(0, 0, 4)]);
}

#[test]
fn clone3_finds_its_words_in_its_structure() {
    let flags = (libc::CLONE_PIDFD | libc::CLONE_PARENT_SETTID) as u64;
    let mem = Fake::default().words(0x1000, &[flags, 0x5000, 0x6000, 0x7000, 17]);
    let args = arg(0, 0x1000, 64, true);
    assert_eq!(
        parts("clone3", [0x1000, 64], &mem),
        [
            args,
            within(0, 8, 0x5000, 4, false),
            within(0, 24, 0x7000, 4, false)
        ]
    );
    assert_eq!(written("clone3", [0x1000, 64], &mem, 5), [w(1, 0, 4), w(2, 0, 4)]);
    assert_eq!(written("clone3", [0x1000, 64], &mem, -11), []);
    let none = Fake::default().words(0x1000, &[0, 0x5000, 0x6000, 0x7000, 17]);
    assert_eq!(parts("clone3", [0x1000, 64], &none), [args]);
    // Too short, too long, not there.
    for (addr, size) in [(0x1000, 63), (0x1000, 4097), (0x2000, 64)] {
        assert_eq!(parts("clone3", [addr, size], &mem), []);
    }
}

#[test]
fn commands_choose_the_output() {
    let mem = Fake::default().with(0x1000, &[0; 64]);
    assert_eq!(parts("fcntl", [3, 5, 0x1000], &mem), [arg(2, 0x1000, 32, true)]); // F_GETLK
    assert_eq!(parts("fcntl", [3, 6, 0x1000], &mem), []); // F_SETLK
    assert_eq!(parts("prctl", [16, 0x1000], &mem), [arg(1, 0x1000, 16, false)]); // PR_GET_NAME
    assert_eq!(
        parts("arch_prctl", [0x1003, 0x1000], &mem),
        [arg(1, 0x1000, 8, false)]
    );
    assert_eq!(
        parts("futex", [0x1000, 133, 1, 1, 0x1010], &mem),
        [arg(4, 0x1010, 4, true)]
    ); // WAKE_OP
    assert_eq!(parts("futex", [0x1000, 128, 1, 0, 0x1010], &mem), []);
    // Q_GETQUOTA for users: the command above the lower 8 bits.
    assert_eq!(parts("quotactl", [0x8000_0700, 0, 0, 0x5000, 0], &mem), []); // unreadable
    assert_eq!(
        parts("quotactl", [0x8000_0700, 0, 0, 0x1000], &mem),
        [arg(3, 0x1000, 72, true)]
    );
}

#[test]
fn ioctl_structures_with_arrays() {
    let ifconf = Fake::default().words(0x1000, &[80, 0x5000]).with(0x5000, &[0]);
    assert_eq!(
        parts("ioctl", [3, 0x8912, 0x1000], &ifconf),
        [arg(2, 0x1000, 16, true), within(0, 8, 0x5000, 80, true)]
    );
    assert_eq!(
        written("ioctl", [3, 0x8912, 0x1000], &ifconf, 0),
        [w(0, 0, 4), w(1, 0, 80)]
    );
    // struct fiemap with room for 3 extents.
    let fiemap = Fake::default().words(0x1000, &[0, 0, 0, 3]);
    assert_eq!(
        parts("ioctl", [3, 0xc020_660b, 0x1000], &fiemap)[0].len,
        32 + 3 * 56
    );
    // ETHTOOL_GDRVINFO behind the ifreq's pointer.
    let ethtool = Fake::default()
        .words(0x1000, &[0, 0, 0x5000, 0, 0])
        .words(0x5000, &[3]);
    assert_eq!(
        parts("ioctl", [3, 0x8946, 0x1000], &ethtool)[1],
        within(0, 16, 0x5000, 196, true)
    );
    // The interface request comes back as well.
    assert_eq!(
        written("ioctl", [3, 0x8946, 0x1000], &ethtool, 0),
        [w(0, 0, 40), w(1, 0, 196)]
    );
    // BRCTL_GET_BRIDGES with room for 5 numbers; BRCTL_GET_VERSION.
    let bridges = Fake::default().words(0x1000, &[1, 0x5000, 5]).with(0x5000, &[0]);
    assert_eq!(
        parts("ioctl", [3, 0x8940, 0x1000], &bridges),
        [arg(2, 0x1000, 24, true), within(0, 8, 0x5000, 20, true)]
    );
    let version = Fake::default().words(0x1000, &[0, 0x5000, 5]).with(0x5000, &[0]);
    assert_eq!(parts("ioctl", [3, 0x8940, 0x1000], &version).len(), 1);
    // PAGEMAP_SCAN with room for 2 regions.
    let scan = Fake::default()
        .words(0x1000, &[96, 0, 0, 0, 0, 0x5000, 2, 0, 0, 0, 0, 0])
        .with(0x5000, &[0]);
    assert_eq!(
        parts("ioctl", [3, 0xc060_6610, 0x1000], &scan)[1],
        within(0, 40, 0x5000, 48, true)
    );
}

#[test]
fn counters_of_replaced_rules() {
    // IPT_SO_SET_REPLACE: three counters; the table is as long as the call says.
    let table = Fake::default()
        .with(0x1000 + 84, &[3])
        .words(0x1000 + 88, &[0x5000])
        .with(0x5000, &[0]);
    for level in [0, 41] {
        assert_eq!(
            parts("setsockopt", [3, level, 64, 0x1000, 200], &table),
            [arg(3, 0x1000, 200, true), within(0, 88, 0x5000, 48, true)]
        );
        assert_eq!(
            written("setsockopt", [3, level, 64, 0x1000, 200], &table, 0),
            [w(0, 0, 200), w(1, 0, 48)]
        );
    }
    assert!(parts("setsockopt", [3, 0, 64, 0x1000, 90], &table).is_empty());
    assert!(parts("setsockopt", [3, 1, 64, 0x1000, 200], &table).is_empty());
    // ARPT_SO_SET_REPLACE, EBT_SO_SET_ENTRIES
    let arp = Fake::default()
        .with(0x1000 + 68, &[2])
        .words(0x1000 + 72, &[0x5000])
        .with(0x5000, &[0]);
    assert_eq!(
        parts("setsockopt", [3, 0, 96, 0x1000, 100], &arp)[1],
        within(0, 72, 0x5000, 32, true)
    );
    let bridge = Fake::default()
        .with(0x1000 + 40, &[100])
        .with(0x1000 + 96, &[2])
        .words(0x1000 + 104, &[0x5000, 0x6000])
        .with(0x5000, &[0])
        .with(0x6000, &[0])
        .words(0x2000, &[120]);
    assert_eq!(
        parts("setsockopt", [3, 0, 128, 0x1000, 120], &bridge)[1],
        within(0, 104, 0x5000, 32, true)
    );
    assert_eq!(
        parts("getsockopt", [3, 0, 129, 0x1000, 0x2000], &bridge),
        [
            arg(3, 0x1000, 120, true),
            within(0, 104, 0x5000, 32, true),
            within(0, 112, 0x6000, 100, true),
            arg(4, 0x2000, 4, true)
        ]
    );
}

#[test]
fn touchable_ends_at_the_first_bad_page() {
    let mem = Fake::default().with(0x1000, &[0]).with(0x2000, &[0]);
    let all = [arg(1, 0x1800, 0x4000, false), arg(2, 0x9000, 8, false)];
    let read = |part: usize, offset: u64, buf: &mut [u8]| mem.read(all[part].addr + offset, buf);
    assert_eq!(Spec::touchable(&all, &read).unwrap(), [w(0, 0, 0x1800)]);
}
