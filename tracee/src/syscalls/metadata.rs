//! Names and attributes of files: directories, links, modes, times, extended attributes, mounts.

use super::forms::*;
use super::spec::{Extent, Holder, Out, Part, Spec, Written};
use crate::error::Result;
use crate::ids::{Addr, PAGE};
use crate::memory::ReadMemory;
use crate::regs::Registers;

/// `struct stat`.
const STAT: u64 = 144;
/// `struct statx`.
const STATX: u64 = 256;
/// `struct statfs`.
const STATFS: u64 = 120;

#[rustfmt::skip] // one call, one line
pub(super) static CALLS: &[Spec] = &[
    call(4, "stat").outs(&[fixed(1, STAT)]),
    call(5, "fstat").outs(&[fixed(1, STAT)]),
    call(6, "lstat").outs(&[fixed(1, STAT)]),
    call(262, "newfstatat").outs(&[fixed(2, STAT)]),
    call(332, "statx").outs(&[fixed(4, STATX)]),
    call(137, "statfs").outs(&[fixed(1, STATFS)]),
    call(138, "fstatfs").outs(&[fixed(1, STATFS)]),
    call(136, "ustat").outs(&[fixed(1, 32)]),
    call(468, "file_getattr").outs(&[sized(2, 3).with_holes().at_most(PAGE)]),
    call(469, "file_setattr"),

    call(21, "access"),
    call(269, "faccessat"),
    call(439, "faccessat2"),
    call(90, "chmod"),
    call(91, "fchmod"),
    call(268, "fchmodat"),
    call(452, "fchmodat2"),
    call(92, "chown"),
    call(93, "fchown"),
    call(94, "lchown"),
    call(260, "fchownat"),
    call(95, "umask"),
    call(132, "utime"),
    call(235, "utimes"),
    call(261, "futimesat"),
    call(280, "utimensat"),

    // The kernel does not write the bytes between a name and the next entry.
    call(78, "getdents").outs(&[buffer(1, 2).with_holes()]),
    call(217, "getdents64").outs(&[buffer(1, 2).with_holes()]),
    call(79, "getcwd").outs(&[buffer(0, 1)]),
    call(80, "chdir"),
    call(81, "fchdir"),
    call(83, "mkdir"),
    call(258, "mkdirat"),
    call(84, "rmdir"),
    call(133, "mknod"),
    call(259, "mknodat"),
    call(82, "rename"),
    call(264, "renameat"),
    call(316, "renameat2"),
    call(86, "link"),
    call(265, "linkat"),
    call(87, "unlink"),
    call(263, "unlinkat"),
    call(88, "symlink"),
    call(266, "symlinkat"),
    call(89, "readlink").outs(&[buffer(1, 2)]),
    call(267, "readlinkat").outs(&[buffer(2, 3)]),

    // With a size of 0 these calls return the needed size and write nothing.
    call(191, "getxattr").outs(&[buffer(2, 3)]),
    call(192, "lgetxattr").outs(&[buffer(2, 3)]),
    call(193, "fgetxattr").outs(&[buffer(2, 3)]),
    call(464, "getxattrat").computed(getxattrat_parts, getxattrat_written),
    call(194, "listxattr").outs(&[buffer(1, 2)]),
    call(195, "llistxattr").outs(&[buffer(1, 2)]),
    call(196, "flistxattr").outs(&[buffer(1, 2)]),
    call(465, "listxattrat").outs(&[buffer(3, 4)]),
    call(188, "setxattr"),
    call(189, "lsetxattr"),
    call(190, "fsetxattr"),
    call(463, "setxattrat"),
    call(197, "removexattr"),
    call(198, "lremovexattr"),
    call(199, "fremovexattr"),
    call(466, "removexattrat"),

    call(165, "mount"),
    call(166, "umount2"),
    call(155, "pivot_root"),
    call(161, "chroot"),
    call(428, "open_tree"),
    call(467, "open_tree_attr"),
    call(429, "move_mount"),
    call(430, "fsopen"),
    call(431, "fsconfig"),
    call(432, "fsmount"),
    call(433, "fspick"),
    call(442, "mount_setattr"),
    // The strings lie behind the structure. Its first word is the total size.
    call(457, "statmount").outs(&[Out { extent: Extent::Count { arg: 1, offset: 0 }, ..sized(1, 2) }.with_holes()]),
    call(458, "listmount").outs(&[elements(1, 2, 8)]),
];

/// ```text
/// struct xattr_args   0 value (u64, a pointer)   8 size (u32)   12 flags (u32)
/// ```
fn getxattrat_parts(r: &Registers, mem: &dyn ReadMemory) -> Result<Vec<Part>> {
    const ARGS: u64 = 16;
    let mut parts = Vec::new();
    let args = Part {
        holder: Holder::Arg(4),
        addr: Addr(r.arg(4)),
        len: ARGS,
        copy_in: true,
    };
    let Some(args) = push_whole(&mut parts, args, mem)? else {
        return Ok(parts);
    };
    let Some(value) = unless_died(mem.read_u64(parts[args].addr))? else {
        return Ok(parts);
    };
    let Some(size) = unless_died(mem.read_u32(parts[args].addr + 8))? else {
        return Ok(parts);
    };
    let holder = Holder::Within {
        part: args,
        offset: 0,
    };
    push(
        &mut parts,
        Part {
            holder,
            addr: Addr(value),
            len: u64::from(size),
            copy_in: false,
        },
        mem,
    )?;
    Ok(parts)
}

fn getxattrat_written(
    _: &Registers,
    parts: &[Part],
    result: i64,
    _: &super::ReadPart<'_>,
) -> Result<Vec<Written>> {
    let value = parts.get(1).map(|p| Written {
        part: 1,
        offset: 0,
        len: p.len.min(result.max(0) as u64),
    });
    Ok(value.filter(|w| w.len > 0).into_iter().collect())
}
