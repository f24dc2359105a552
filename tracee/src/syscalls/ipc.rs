//! System V and POSIX message queues, semaphores, shared memory.

use super::forms::*;
use super::spec::{Emulated, Extent, Len, MemorySpec, Out, Spec};

#[rustfmt::skip] // one call, one line
pub(super) static CALLS: &[Spec] = &[
    call(29, "shmget"),
    call(30, "shmat").emulated(Emulated::Shmat),
    call(67, "shmdt").emulated(Emulated::Shmdt),
    call(31, "shmctl").commands(1, &[libc::IPC_RMID, libc::IPC_SET, libc::SHM_LOCK, libc::SHM_UNLOCK], SHMCTL_OUTS),

    call(64, "semget"),
    call(65, "semop").blocks(),
    call(220, "semtimedop").blocks(),
    call(66, "semctl").commands(2, SEMCTL_SILENT, SEMCTL_OUTS),

    call(68, "msgget"),
    call(69, "msgsnd").blocks_if(|r| r.arg(3) & IPC_NOWAIT == 0),
    call(70, "msgrcv").blocks_if(|r| r.arg(4) & IPC_NOWAIT == 0).outs(&[MESSAGE]),
    call(71, "msgctl").commands(1, &[libc::IPC_RMID, libc::IPC_SET], MSGCTL_OUTS),

    call(240, "mq_open"),
    call(241, "mq_unlink"),
    call(242, "mq_timedsend").blocks(),
    call(243, "mq_timedreceive").blocks().outs(&[buffer(1, 2), fixed(3, 4)]),
    call(244, "mq_notify"),
    call(245, "mq_getsetattr").outs(&[fixed(2, 64)]),
];

const IPC_NOWAIT: u64 = libc::IPC_NOWAIT as u64;

/// `struct msgbuf { long mtype; char mtext[]; }`. Size and result count only the text.
const MESSAGE: Out = Out {
    arg: 1,
    len: Len::Of(|r| r.arg(2).saturating_add(8)),
    max: MAX_RW,
    extent: Extent::Result { unit: 1, plus: 8 },
    copy_in: false,
};

const SHMID_DS: MemorySpec = MemorySpec::One(fixed(2, 112));
const SHMCTL_OUTS: &[(i32, MemorySpec)] = &[
    (libc::IPC_STAT, SHMID_DS),
    (13, SHMID_DS),                                  // SHM_STAT
    (15, SHMID_DS),                                  // SHM_STAT_ANY
    (libc::IPC_INFO, MemorySpec::One(fixed(2, 72))), // struct shminfo
    (14, MemorySpec::One(perhaps(2, 48))),           // SHM_INFO: struct shm_info
];

const MSQID_DS: MemorySpec = MemorySpec::One(fixed(2, 120));
const MSGINFO: MemorySpec = MemorySpec::One(perhaps(2, 32));
const MSGCTL_OUTS: &[(i32, MemorySpec)] = &[
    (libc::IPC_STAT, MSQID_DS),
    (11, MSQID_DS), // MSG_STAT
    (13, MSQID_DS), // MSG_STAT_ANY
    (libc::IPC_INFO, MSGINFO),
    (12, MSGINFO), // MSG_INFO
];

const SEMCTL_SILENT: &[i32] = &[
    libc::IPC_RMID,
    libc::IPC_SET,
    libc::GETPID,
    libc::GETVAL,
    libc::GETNCNT,
    libc::GETZCNT,
    libc::SETVAL,
    libc::SETALL,
];

const SEMID_DS: MemorySpec = MemorySpec::One(fixed(3, 104));
const SEMINFO: MemorySpec = MemorySpec::One(perhaps(3, 40));
const SEMCTL_OUTS: &[(i32, MemorySpec)] = &[
    (libc::IPC_STAT, SEMID_DS),
    (18, SEMID_DS), // SEM_STAT
    (20, SEMID_DS), // SEM_STAT_ANY
    (libc::IPC_INFO, SEMINFO),
    (19, SEMINFO), // SEM_INFO
    // A 16-bit value for each semaphore of the set. Only the kernel knows how many there are;
    // the default limit (SEMMSL) is 32000.
    (libc::GETALL, MemorySpec::One(perhaps(3, 2 * 32_000))),
];
