//! userfaultfd(2), and the device `/dev/userfaultfd`: a new object.

use std::fs::File;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};

use rr_tracee::memory::ReadMemory;
use rr_tracee::remote::Remote;
use rr_tracee::{Registers, Stopped, Tid, TraceeFd, procfs, rr_area};

use super::api::{NEW, USER_MODE_ONLY};
use super::key::ObjectKey;
use super::object::Object;
use crate::call::registers::returned;
use crate::error::Result;
use crate::policy::warnings::Warning;
use crate::session::RecordSession;
use crate::world::next::{Next, Record};

/// The flags of a descriptor.
const DESCRIPTOR_FLAGS: u64 = (libc::O_CLOEXEC | libc::O_NONBLOCK) as u64;

/// Handles userfaultfd(2).
pub(crate) fn begin_userfaultfd(
    session: &mut RecordSession,
    tid: Tid,
    stopped: Stopped,
    entry: &Registers,
) -> Result<Next> {
    let flags = entry.rdi & 0xffff_ffff;
    create(
        session,
        tid,
        stopped,
        entry,
        flags,
        (libc::SYS_userfaultfd, [flags, 0, 0]),
    )
}

/// Handles the request of the device for a new object.
pub(crate) fn create_by_device(
    session: &mut RecordSession,
    tid: Tid,
    stopped: Stopped,
    entry: &Registers,
) -> Result<Next> {
    let flags = entry.rdx & 0xffff_ffff;
    let call = (libc::SYS_ioctl, [entry.rdi, NEW.into(), flags]);
    create(session, tid, stopped, entry, flags, call)
}

/// Makes an object, if the kernel makes one by this call.
fn create(
    session: &mut RecordSession,
    tid: Tid,
    mut stopped: Stopped,
    entry: &Registers,
    flags: u64,
    (number, [a, b, c]): (i64, [u64; 3]),
) -> Result<Next> {
    let mut after = returned(entry, -i64::from(libc::ENOMEM));
    stopped.set_regs(&after)?;
    let (tgid, id) = (session.world.task(tid)?.tgid, session.world.task(tid)?.space);
    // The kernel knows who may have one. Its own is closed at once.
    let (mut remote, fd) = Remote::new(stopped, tgid)?.call(number, [a, b, c, 0, 0, 0])?;
    let mut result = fd;
    if fd >= 0 {
        remote = remote.close(TraceeFd(fd as i32))?;
        let args = [rr_area::PARAM.0, flags & DESCRIPTOR_FLAGS, 0, 0, 0, 0];
        (remote, result) = remote.call(libc::SYS_pipe2, args)?;
    }
    if result == 0 && fd >= 0 {
        let memory = &session.world.task(tid)?.memory;
        let (reading, writing) = (
            memory.read_u32(rr_area::PARAM)?,
            memory.read_u32(rr_area::PARAM + 4)?,
        );
        let path = procfs::fd_path(tid, TraceeFd(writing as i32));
        let opened = File::options()
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(path);
        remote = remote.close(TraceeFd(writing as i32))?;
        match opened.and_then(|file| Ok((file.metadata()?.ino(), file))) {
            Ok((inode, file)) => {
                result = reading.into();
                let objects = &mut session.world.space_mut(id).userfaults.objects;
                objects.insert(ObjectKey(inode), Object::new(file));
                session.world.must_trace.userfaults = true;
            }
            Err(error) => {
                remote = remote.close(TraceeFd(reading as i32))?;
                result = -i64::from(error.raw_os_error().unwrap_or(libc::ENOMEM));
            }
        }
        if flags & USER_MODE_ONLY == 0
            && session
                .policy
                .warnings
                .is_new(Warning::Call(libc::SYS_userfaultfd))
        {
            tracing::warn!(
                "the program uses userfaultfd; while it is recorded, a system call that needs a missing page fails with EFAULT, as if the \
                 program had asked for UFFD_USER_MODE_ONLY"
            );
        }
    }
    after.rax = result as u64;
    remote.set_saved(after);
    Ok(Record::of(entry, after).then_ready(remote.finish()?))
}
