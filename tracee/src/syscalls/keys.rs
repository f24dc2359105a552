//! Keys and quotas.

use super::forms::*;
use super::spec::{Commands, Extent, Len, MemorySpec, Out, Spec};

#[rustfmt::skip] // one call, one line
pub(super) static CALLS: &[Spec] = &[
    call(248, "add_key"),
    call(249, "request_key").blocks(), // a helper program may be asked
    call(250, "keyctl").commands(0, KEYCTL_SILENT, KEYCTL_OUTS),
    call(179, "quotactl").memory(MemorySpec::Commands(quota(0))),
    call(443, "quotactl_fd").memory(MemorySpec::Commands(quota(1))),
];

/// GET_KEYRING_ID to SETPERM, CLEAR to SEARCH, INSTANTIATE to ASSUME_AUTHORITY, SESSION_TO_PARENT to
/// GET_PERSISTENT, PKEY_VERIFY, RESTRICT_KEYRING, MOVE, WATCH_KEY (keyctl(2)).
const KEYCTL_SILENT: &[i32] = &[
    0, 1, 2, 3, 4, 5, 7, 8, 9, 10, 12, 13, 14, 15, 16, 18, 19, 20, 21, 22, 28, 29, 30, 32,
];

/// If the buffer is too small it is not written, and the result is the size that it should have.
const TEXT: MemorySpec = MemorySpec::One(buffer(2, 3).with_holes());

/// `struct keyctl_pkey_params { key_id, in_len, out_len, … }` is argument 1.
const PKEY_OUTPUT: MemorySpec = MemorySpec::One(Out {
    arg: 4,
    len: Len::At {
        arg: 1,
        offset: 8,
        unit: 1,
        plus: 0,
    },
    max: MAX_RW,
    extent: Extent::Result { unit: 1, plus: 0 },
    copy_in: false,
});

const KEYCTL_OUTS: &[(i32, MemorySpec)] = &[
    (6, TEXT),                                       // DESCRIBE
    (11, TEXT),                                      // READ
    (17, TEXT),                                      // GET_SECURITY
    (23, TEXT),                                      // DH_COMPUTE
    (24, MemorySpec::One(fixed(4, 56))),             // PKEY_QUERY
    (25, PKEY_OUTPUT),                               // PKEY_ENCRYPT
    (26, PKEY_OUTPUT),                               // PKEY_DECRYPT
    (27, PKEY_OUTPUT),                               // PKEY_SIGN
    (31, MemorySpec::One(sized(1, 2).with_holes())), // CAPABILITIES: the rest is cleared
];

/// The command is in the upper 24 bits of argument `arg`, the structure behind argument 3.
const fn quota(arg: u8) -> Commands {
    Commands {
        arg,
        shift: 8,
        silent: QUOTA_SILENT,
        cases: QUOTA_OUTS,
    }
}

/// Q_SYNC, Q_QUOTAON, Q_QUOTAOFF, Q_SETINFO, Q_SETQUOTA; Q_XQUOTAON, Q_XQUOTAOFF, Q_XSETQLIM, Q_XQUOTARM, Q_XQUOTASYNC.
const QUOTA_SILENT: &[i32] = &[
    0x80_0001, 0x80_0002, 0x80_0003, 0x80_0006, 0x80_0008, 0x5801, 0x5802, 0x5804, 0x5806, 0x5807,
];

const QUOTA_OUTS: &[(i32, MemorySpec)] = &[
    (0x80_0004, MemorySpec::One(fixed(3, 4))),    // Q_GETFMT
    (0x80_0005, MemorySpec::One(perhaps(3, 24))), // Q_GETINFO: struct if_dqinfo
    (0x80_0007, MemorySpec::One(perhaps(3, 72))), // Q_GETQUOTA: struct if_dqblk
    (0x80_0009, MemorySpec::One(perhaps(3, 72))), // Q_GETNEXTQUOTA: struct if_nextdqblk
    (0x5803, MemorySpec::One(perhaps(3, 112))),   // Q_XGETQUOTA: struct fs_disk_quota
    (0x5805, MemorySpec::One(perhaps(3, 80))),    // Q_XGETQSTAT: struct fs_quota_stat
    (0x5808, MemorySpec::One(perhaps(3, 160))),   // Q_XGETQSTATV: struct fs_quota_statv
    (0x5809, MemorySpec::One(perhaps(3, 112))),   // Q_XGETNEXTQUOTA
];
