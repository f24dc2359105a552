//! Sockets.

use super::spec::{Extent, Len, MemorySpec, Out, Spec};
use libc::EINVAL;

use super::forms::*;
use super::{options, vectors};
use crate::regs::Registers;

#[rustfmt::skip] // one call, one line
pub(super) static CALLS: &[Spec] = &[
    call(41, "socket"),
    // The kernel writes the descriptors before it makes the sockets, which can fail.
    call(53, "socketpair").outs(&[perhaps(3, 8)]),
    call(49, "bind"),
    call(50, "listen"),
    call(42, "connect").blocks(),
    call(43, "accept").blocks().outs(&[sockaddr(1, 2), count_word(2)]),
    call(288, "accept4").blocks().outs(&[sockaddr(1, 2), count_word(2)]),
    call(51, "getsockname").outs(&[sockaddr(1, 2), count_word(2)]),
    call(52, "getpeername").outs(&[sockaddr(1, 2), count_word(2)]),
    call(48, "shutdown"),
    call(54, "setsockopt").memory(MemorySpec::Choice(options::set)),
    call(55, "getsockopt").memory(MemorySpec::Choice(options::get)).refused_if(EINVAL, "TCP_ZEROCOPY_RECEIVE or TCP_AO_GET_KEYS", is_unknown),

    call(44, "sendto").blocks_if(|r| r.arg(3) & DONTWAIT == 0),
    call(46, "sendmsg").blocks_if(|r| r.arg(2) & DONTWAIT == 0),
    call(307, "sendmmsg").blocks_if(|r| r.arg(3) & DONTWAIT == 0).outs(&[SENT_MESSAGES]),
    call(45, "recvfrom").blocks_if(|r| r.arg(3) & DONTWAIT == 0).outs(&[buffer(1, 2), sockaddr(4, 5), count_word(5)]),
    call(47, "recvmsg").blocks_if(|r| r.arg(2) & DONTWAIT == 0).computed(vectors::recvmsg_parts, vectors::recvmsg_written),
    call(299, "recvmmsg").blocks_if(|r| r.arg(3) & DONTWAIT == 0).computed(vectors::recvmmsg_parts, vectors::recvmmsg_written),
];

const DONTWAIT: u64 = libc::MSG_DONTWAIT as u64;

/// `struct mmsghdr { struct msghdr msg_hdr; unsigned msg_len; }[vlen]`. The kernel writes only
/// `msg_len`.
const SENT_MESSAGES: Out = Out {
    arg: 1,
    len: Len::Arg {
        arg: 2,
        unit: vectors::MMSGHDR,
    },
    max: vectors::MAX_VECTOR * vectors::MMSGHDR,
    extent: Extent::Field {
        stride: vectors::MMSGHDR,
        offset: vectors::MSGHDR,
        len: 4,
    },
    copy_in: true,
};

/// `TCP_ZEROCOPY_RECEIVE` maps the received pages into the program, which must work without it.
/// `TCP_AO_GET_KEYS` writes many times its length.
fn is_unknown(r: &Registers) -> bool {
    r.arg(1) as i32 == libc::IPPROTO_TCP && matches!(r.arg(2) as i32, 35 | 41)
}
