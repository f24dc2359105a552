//! Between the shared messages (`schema/common.capnp`) and the types of `rr-tracee`.
//!
//! Writing never fails. Reading checks everything that the types promise, so that what came out of a file can be
//! used like what a recorder made: ranges are in order and of whole pages where they must be, enumerations are known.

use std::sync::Arc;

use rr_schema::common_capnp::{ForkPolicy as WireFork, addr_range, backing, mapping, registers, space_op};
use rr_tracee::ids::PAGE;
use rr_tracee::{Addr, AddrRange, Backing, FileId, ForkPolicy, Mapping, ObjectId, Prot, Registers, SpaceOp};

use crate::error::Malformed;

type Result<T> = std::result::Result<T, Malformed>;

/// Both directions for the registers, from one list of names.
macro_rules! registers {
    ($($field:ident $set:ident $get:ident),* $(,)?) => {
        /// Writes registers.
        pub fn write_registers(mut out: registers::Builder<'_>, regs: &Registers) {
            $(out.$set(regs.$field);)*
        }

        /// Reads registers.
        pub fn read_registers(from: registers::Reader<'_>) -> Registers {
            Registers { $($field: from.$get(),)* }
        }
    };
}

registers! {
    r15 set_r15 get_r15, r14 set_r14 get_r14, r13 set_r13 get_r13, r12 set_r12 get_r12,
    rbp set_rbp get_rbp, rbx set_rbx get_rbx, r11 set_r11 get_r11, r10 set_r10 get_r10,
    r9 set_r9 get_r9, r8 set_r8 get_r8, rax set_rax get_rax, rcx set_rcx get_rcx,
    rdx set_rdx get_rdx, rsi set_rsi get_rsi, rdi set_rdi get_rdi,
    orig_rax set_orig_rax get_orig_rax, rip set_rip get_rip, cs set_cs get_cs,
    eflags set_eflags get_eflags, rsp set_rsp get_rsp, ss set_ss get_ss,
    fs_base set_fs_base get_fs_base, gs_base set_gs_base get_gs_base,
    ds set_ds get_ds, es set_es get_es, fs set_fs get_fs, gs set_gs get_gs,
}

/// The two halves of a content hash: high, low.
pub fn file_halves(file: FileId) -> (u64, u64) {
    ((file.0 >> 64) as u64, file.0 as u64)
}

/// The inverse of [`file_halves`].
pub fn file_from_halves(high: u64, low: u64) -> FileId {
    FileId(u128::from(high) << 64 | u128::from(low))
}

/// A range from its ends.
pub fn range(start: u64, end: u64) -> Result<AddrRange> {
    if start > end {
        return Err(Malformed::new(format!(
            "range {start:#x}-{end:#x} ends before it starts"
        )));
    }
    Ok(AddrRange {
        start: Addr(start),
        end: Addr(end),
    })
}

/// A range of whole pages from its ends.
fn pages(start: u64, end: u64) -> Result<AddrRange> {
    if !start.is_multiple_of(PAGE) || !end.is_multiple_of(PAGE) {
        return Err(Malformed::new(format!(
            "range {start:#x}-{end:#x} is not of whole pages"
        )));
    }
    range(start, end)
}

/// Writes a range.
pub fn write_range(mut out: addr_range::Builder<'_>, range: AddrRange) {
    out.set_start(range.start.0);
    out.set_end(range.end.0);
}

/// Reads a range.
pub fn read_range(from: addr_range::Reader<'_>) -> Result<AddrRange> {
    range(from.get_start(), from.get_end())
}

/// Writes what a fork does to a mapping.
pub fn write_fork(policy: ForkPolicy) -> WireFork {
    match policy {
        ForkPolicy::Copy => WireFork::Copy,
        ForkPolicy::Omit => WireFork::Omit,
        ForkPolicy::Wipe => WireFork::Wipe,
    }
}

/// Reads what a fork does to a mapping.
pub fn read_fork(policy: WireFork) -> ForkPolicy {
    match policy {
        WireFork::Copy => ForkPolicy::Copy,
        WireFork::Omit => ForkPolicy::Omit,
        WireFork::Wipe => ForkPolicy::Wipe,
    }
}

/// Writes a mapping's backing.
pub fn write_backing(mut out: backing::Builder<'_>, from: &Backing) {
    match *from {
        Backing::Anonymous => out.set_anonymous(()),
        Backing::Rr => out.set_rr(()),
        Backing::File { file, offset } => {
            let mut out = out.init_file();
            let (high, low) = file_halves(file);
            out.set_hash_high(high);
            out.set_hash_low(low);
            out.set_offset(offset);
        }
        Backing::Shared { object, offset } => {
            let mut out = out.init_shared();
            out.set_object(object.0);
            out.set_object_offset(offset);
        }
        Backing::CopyOnWrite { object, offset } => {
            let mut out = out.init_copy_on_write();
            out.set_private_object(object.0);
            out.set_private_offset(offset);
        }
    }
}

/// Reads a mapping's backing.
pub fn read_backing(from: backing::Reader<'_>) -> Result<Backing> {
    Ok(match from.which()? {
        backing::Anonymous(()) => Backing::Anonymous,
        backing::Rr(()) => Backing::Rr,
        backing::File(f) => Backing::File {
            file: file_from_halves(f.get_hash_high(), f.get_hash_low()),
            offset: f.get_offset(),
        },
        backing::Shared(s) => Backing::Shared {
            object: ObjectId(s.get_object()),
            offset: s.get_object_offset(),
        },
        backing::CopyOnWrite(c) => Backing::CopyOnWrite {
            object: ObjectId(c.get_private_object()),
            offset: c.get_private_offset(),
        },
    })
}

/// The access rights that a byte stands for.
fn prot(bits: u8) -> Result<Prot> {
    if bits > 7 {
        Err(Malformed::new(format!("unknown access rights {bits:#x}")))
    } else {
        Ok(Prot(bits))
    }
}

/// Writes a mapping.
pub fn write_mapping(mut out: mapping::Builder<'_>, from: &Mapping) {
    out.set_start(from.range.start.0);
    out.set_end(from.range.end.0);
    out.set_prot(from.prot.0);
    out.set_fork(write_fork(from.fork));
    if !from.name.is_empty() {
        out.set_name(&*from.name);
    }
    write_backing(out.init_backing(), &from.backing);
}

/// Reads a mapping.
pub fn read_mapping(from: mapping::Reader<'_>) -> Result<Mapping> {
    Ok(Mapping {
        range: pages(from.get_start(), from.get_end())?,
        prot: prot(from.get_prot())?,
        backing: read_backing(from.get_backing()?)?,
        fork: read_fork(from.get_fork()?),
        name: Arc::from(from.get_name()?.to_str()?),
    })
}

/// Says if [`read_space_op`] will accept the message that [`write_space_op`] writes for this operation.
pub fn check_space_op(op: &SpaceOp) -> Result<()> {
    let ordered = |r: &AddrRange| range(r.start.0, r.end.0).map(drop);
    match op {
        SpaceOp::Map(m) => {
            pages(m.range.start.0, m.range.end.0)?;
            prot(m.prot.0).map(drop)
        }
        SpaceOp::Protect(range, rights) => {
            prot(rights.0)?;
            ordered(range)
        }
        SpaceOp::Unmap(range)
        | SpaceOp::Move { from: range, .. }
        | SpaceOp::Discard(range)
        | SpaceOp::SetFork(range, _) => ordered(range),
        SpaceOp::CreateObject { .. } | SpaceOp::ResizeObject { .. } => Ok(()),
    }
}

/// Writes an operation on an address space.
pub fn write_space_op(out: space_op::Builder<'_>, op: &SpaceOp) {
    match op {
        SpaceOp::Map(mapping) => write_mapping(out.init_map(), mapping),
        SpaceOp::Unmap(range) => write_range(out.init_unmap(), *range),
        SpaceOp::Protect(range, prot) => {
            let mut out = out.init_protect();
            out.set_prot(prot.0);
            write_range(out.init_protect_range(), *range);
        }
        SpaceOp::Move { from, to, keep } => {
            let mut out = out.init_move();
            out.set_to(to.0);
            out.set_keep(*keep);
            write_range(out.init_from(), *from);
        }
        SpaceOp::Discard(range) => write_range(out.init_discard(), *range),
        SpaceOp::SetFork(range, policy) => {
            let mut out = out.init_set_fork();
            out.set_policy(write_fork(*policy));
            write_range(out.init_set_fork_range(), *range);
        }
        SpaceOp::ResizeObject { object, size } => {
            let mut out = out.init_resize_object();
            out.set_resized_object(object.0);
            out.set_new_size(*size);
        }
        SpaceOp::CreateObject {
            object,
            size,
            content,
        } => {
            let mut out = out.init_create_object();
            out.set_object(object.0);
            out.set_size(*size);
            if let Some(file) = content {
                let (high, low) = file_halves(*file);
                out.set_has_content(true);
                out.set_hash_high(high);
                out.set_hash_low(low);
            }
        }
    }
}

/// Reads an operation on an address space.
pub fn read_space_op(from: space_op::Reader<'_>) -> Result<SpaceOp> {
    Ok(match from.which()? {
        space_op::Map(mapping) => SpaceOp::Map(read_mapping(mapping?)?),
        space_op::Unmap(range) => SpaceOp::Unmap(read_range(range?)?),
        space_op::Protect(p) => SpaceOp::Protect(read_range(p.get_protect_range()?)?, prot(p.get_prot())?),
        space_op::Move(m) => {
            let from = read_range(m.get_from()?)?;
            SpaceOp::Move {
                from,
                to: Addr(m.get_to()),
                keep: m.get_keep(),
            }
        }
        space_op::Discard(range) => SpaceOp::Discard(read_range(range?)?),
        space_op::SetFork(s) => {
            SpaceOp::SetFork(read_range(s.get_set_fork_range()?)?, read_fork(s.get_policy()?))
        }
        space_op::ResizeObject(r) => SpaceOp::ResizeObject {
            object: ObjectId(r.get_resized_object()),
            size: r.get_new_size(),
        },
        space_op::CreateObject(c) => SpaceOp::CreateObject {
            object: ObjectId(c.get_object()),
            size: c.get_size(),
            content: c
                .get_has_content()
                .then(|| file_from_halves(c.get_hash_high(), c.get_hash_low())),
        },
    })
}
