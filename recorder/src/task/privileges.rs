//! Privileges of set-user-ID and set-group-ID files, which a program does not get while it is traced.
//!
//! The kernel ignores these bits if the tracer could not have the privileges itself (execve(2)), and
//! under `no_new_privs`, which an unprivileged rr must set. So the program runs without them, and may
//! fail without a visible reason. Therefore rr prints one warning.

use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use rr_tracee::{Tid, procfs};

use crate::policy::warnings::Warning;
use crate::session::RecordSession;

/// A set-group-ID bit has this meaning only if the group may execute the file (inode(7)).
const GROUP: u32 = libc::S_ISGID | libc::S_IXGRP;

/// Returns whether the file system is mounted so that its files give no privileges.
fn gives_none(file: &std::fs::File) -> bool {
    // SAFETY: all-zero is a valid statvfs; fstatvfs fills it.
    let mut found: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: as above.
    let result = unsafe { libc::fstatvfs(file.as_raw_fd(), &mut found) };
    result == 0 && found.f_flag & libc::ST_NOSUID != 0
}

/// Returns whether the program that a task has just executed should have privileges that the task
/// lacks.
fn lacks_privileges(tid: Tid) -> Option<bool> {
    let file = std::fs::File::open(format!("/proc/{tid}/exe")).ok()?;
    let found = file.metadata().ok()?;
    let mode = found.permissions().mode();
    if mode & libc::S_ISUID == 0 && mode & GROUP != GROUP || gives_none(&file) {
        return Some(false);
    }
    let (user, group) = procfs::effective_ids(tid)?;
    let lacks_user = mode & libc::S_ISUID != 0 && user != found.uid();
    let lacks_group = mode & GROUP == GROUP && group != found.gid();
    Some(lacks_user || lacks_group)
}

/// Warns if a task has executed a program whose privileges it does not get.
pub(crate) fn warn_of_lost_privileges(session: &mut RecordSession, tid: Tid, path: &str) {
    // (A file that cannot be opened is no set-user-ID program: nobody could have read it into the
    // trace.)
    let has_promised = session
        .world
        .tasks
        .get(&tid)
        .is_some_and(|t| t.settings.confined.no_new_privs);
    if !has_promised
        && lacks_privileges(tid).unwrap_or(false)
        && session.policy.warnings.is_new(Warning::LostPrivileges)
    {
        tracing::warn!(
            "the program executes {path}, which is set-user-ID or set-group-ID, and does not get these privileges while it is \
             traced; it does if root records it"
        );
    }
}
