//! Identity of a task: ids of tasks, users, groups, sessions; capabilities; security modules.

use super::forms::*;
use super::spec::{Holder, Part, ReadPart, Spec, Written};
use crate::error::Result;
use crate::ids::Addr;
use crate::memory::ReadMemory;
use crate::regs::Registers;

#[rustfmt::skip] // one call, one line
pub(super) static CALLS: &[Spec] = &[
    call(39, "getpid"),
    call(110, "getppid"),
    call(186, "gettid"),
    call(121, "getpgid"),
    call(111, "getpgrp"),
    call(109, "setpgid"),
    call(124, "getsid"),
    call(112, "setsid"),

    call(102, "getuid"),
    call(104, "getgid"),
    call(107, "geteuid"),
    call(108, "getegid"),
    call(118, "getresuid").outs(&[fixed(0, 4), fixed(1, 4), fixed(2, 4)]),
    call(120, "getresgid").outs(&[fixed(0, 4), fixed(1, 4), fixed(2, 4)]),
    // With a size of 0 the call returns the number of groups and writes none.
    call(115, "getgroups").outs(&[elements(1, 0, 4)]),
    call(105, "setuid"),
    call(106, "setgid"),
    call(113, "setreuid"),
    call(114, "setregid"),
    call(117, "setresuid"),
    call(119, "setresgid"),
    call(122, "setfsuid"),
    call(123, "setfsgid"),
    call(116, "setgroups"),

    call(125, "capget").computed(capget_parts, capget_written),
    // For an unknown version the kernel writes its preferred one.
    call(126, "capset").outs(&[perhaps(0, 4)]),

    call(459, "lsm_get_self_attr").outs(&[counted(1, 2).with_holes(), count_word(2)]),
    call(460, "lsm_set_self_attr"),
    call(461, "lsm_list_modules").outs(&[counted(0, 1), count_word(1)]),
];

/// ```text
/// header   0 version (written if the kernel does not know it)   4 pid
/// data     one or, from version 2 on, two times 12 bytes: effective, permitted, inheritable
/// ```
fn capget_parts(r: &Registers, mem: &dyn ReadMemory) -> Result<Vec<Part>> {
    const VERSION_1: u32 = 0x1998_0330;
    let mut parts = Vec::new();
    let header = Part {
        holder: Holder::Arg(0),
        addr: Addr(r.arg(0)),
        len: 8,
        copy_in: true,
    };
    let Some(header) = push_whole(&mut parts, header, mem)? else {
        return Ok(parts);
    };
    let Some(version) = unless_died(mem.read_u32(parts[header].addr))? else {
        return Ok(parts);
    };
    let len = if version == VERSION_1 { 12 } else { 24 };
    push(
        &mut parts,
        Part {
            holder: Holder::Arg(1),
            addr: Addr(r.arg(1)),
            len,
            copy_in: false,
        },
        mem,
    )?;
    Ok(parts)
}

fn capget_written(_: &Registers, parts: &[Part], result: i64, _: &ReadPart<'_>) -> Result<Vec<Written>> {
    let header = parts.first().map(|_| Written {
        part: 0,
        offset: 0,
        len: 4,
    });
    let data = parts.get(1).filter(|_| result >= 0).map(|p| Written {
        part: 1,
        offset: 0,
        len: p.len,
    });
    Ok(header.into_iter().chain(data).collect())
}
