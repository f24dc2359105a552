//! Code that may see the processor without rr knowing: its instructions are not made to trap ([`crate::buffer::trapping`]).
//!
//! Keeps: a recording that has noted no such code hides the CPU that it ran on from the program. A replay may use any CPU then.

use rr_tracee::stubs::STUBS;
use rr_tracee::{Mapping, Prot, SpaceOp, rr_area};

use crate::buffer::searched::Searched;
use crate::buffer::sites::{Sites, code_of};

/// Notes the code in `ops` that may see the processor without rr knowing. `sites` need not follow `ops`, and must not if `ops` may
/// discard or move code. `is_searched`: the
/// kernel has carried `ops` out for `execve`, or the program's loader has, so that the proven instructions trap.
pub(crate) fn note_native(sites: &Sites, searched: &mut Searched, ops: &[SpaceOp], is_searched: bool) {
    for op in ops {
        match op {
            SpaceOp::Map(mapping) if mapping.prot.has(Prot::EXEC) && !is_of_rr(mapping) => {
                match code_of(mapping) {
                    Some((file, offset)) if is_searched => {
                        if searched.is_unproven(file, offset..offset + mapping.range.len()) {
                            searched.native.insert(mapping.name.to_string());
                        }
                    }
                    Some(_) => {
                        let name = format!("{} (mapped by the program itself)", mapping.name);
                        searched.native.insert(name);
                    }
                    None => note_generated(searched),
                }
            }
            SpaceOp::Protect(_, prot) if prot.has(Prot::EXEC) => note_generated(searched),
            SpaceOp::Discard(range) | SpaceOp::Move { from: range, .. } if sites.has_trap_in(*range) => {
                note_generated(searched);
            }
            _ => {}
        }
    }
}

/// Notes that the program may execute code that is in no file.
pub(crate) fn note_generated(searched: &mut Searched) {
    if !searched.native.contains(GENERATED) {
        searched.native.insert(GENERATED.to_owned());
    }
}

const GENERATED: &str = "code that the program generates or changes";

fn is_of_rr(mapping: &Mapping) -> bool {
    &*mapping.name == STUBS || mapping.range.intersect(rr_area::area()).is_some()
}
