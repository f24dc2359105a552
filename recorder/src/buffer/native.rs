//! Code that may see the processor without rr knowing: its instructions are not made to trap ([`crate::buffer::trapping`]).
//!
//! Keeps: a recording that has noted no such code hides the CPU that it ran on from the program. A replay may use any CPU then.

use rr_tracee::stubs::STUBS;
use rr_tracee::{Mapping, Prot, SpaceId, SpaceOp, rr_area};

use crate::buffer::searched::Searched;
use crate::buffer::sites::code_of;
use crate::world::model::World;

/// Notes the code that may see the processor without rr knowing, once the model of `id` follows `ops`. `is_searched`: they were
/// carried out by the kernel for `execve`, or by the program's loader, so that what is proven will trap.
pub(crate) fn note_native(world: &mut World, id: SpaceId, ops: &[SpaceOp], is_searched: bool) {
    let sites = world.spaces.get(&id).map(|space| &space.library.sites);
    let loses_traps = |range| sites.is_some_and(|sites| sites.has_trap_in(range));
    let searched = &mut world.mapped.searched;
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
            SpaceOp::Discard(range) | SpaceOp::Move { from: range, .. } if loses_traps(*range) => {
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
