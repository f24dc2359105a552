//! Thread-local variables: where glibc keeps them (`qGetTLSAddr`).
//!
//! glibc says how its structures are laid out in variables for debuggers (`_thread_db_…`): gdb looks their addresses up
//! for us (`qSymbol`), and the values are read from the program. So no version of glibc has to be known here.

use rr_tracee::{Addr, Tid};

use crate::target::Target;

/// The variables, each three words of 32 bits: size in bits, number of elements, offset.
const NAMES: [&str; 4] = [
    "_thread_db_pthread_dtvp",
    "_thread_db_link_map_l_tls_modid",
    "_thread_db_dtv_dtv",
    "_thread_db_dtv_t_pointer_val",
];

/// The addresses of glibc's descriptions, as far as gdb knows them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Symbols {
    addresses: [Option<Addr>; NAMES.len()],
    /// The next to be asked for.
    next: usize,
}

impl Symbols {
    /// gdb offers to look symbols up: those that are known may have moved.
    pub fn begin(&mut self) {
        *self = Symbols::default();
    }

    /// The name that is to be looked up next.
    pub fn wanted(&mut self) -> Option<&'static str> {
        let name = NAMES.get(self.next)?;
        self.next += 1;
        Some(name)
    }

    /// gdb has found one.
    pub fn found(&mut self, name: &str, addr: Addr) {
        if let Some(at) = NAMES.iter().position(|known| *known == name) {
            self.addresses[at] = Some(addr);
        }
    }

    /// The address of a thread-local variable of the module that `link_map` describes; None if it has none yet, or if
    /// the program has no glibc that can be asked.
    pub fn address(&self, target: &dyn Target, tid: Tid, offset: u64, link_map: Addr) -> Option<Addr> {
        let fs_base = Addr(target.registers(tid).ok()?.general.fs_base);
        let [dtvp, module_id, dtv, pointer] = self.addresses;
        let module = word(target, link_map + field(target, module_id?)?.offset)?;
        let vector = Addr(word(target, fs_base + field(target, dtvp?)?.offset)?);
        let dtv = field(target, dtv?)?;
        // The first element is a generation; each has a pointer and what is to be freed.
        let slot = vector + dtv.offset + module.wrapping_mul(dtv.size);
        let block = word(target, slot + field(target, pointer?)?.offset)?;
        // Not allocated yet (it is at the first use by the thread).
        (block != u64::MAX && block != 0).then_some(Addr(block) + offset)
    }
}

struct Field {
    size: u64,
    offset: u64,
}

fn field(target: &dyn Target, at: Addr) -> Option<Field> {
    let mut bytes = [0; 12];
    (target.read_memory(at, &mut bytes) == bytes.len()).then_some(())?;
    let number = |n: usize| {
        u64::from(u32::from_le_bytes([
            bytes[n],
            bytes[n + 1],
            bytes[n + 2],
            bytes[n + 3],
        ]))
    };
    Some(Field {
        size: number(0) / 8,
        offset: number(8),
    })
}

fn word(target: &dyn Target, at: Addr) -> Option<u64> {
    let mut bytes = [0; 8];
    (target.read_memory(at, &mut bytes) == bytes.len()).then_some(u64::from_le_bytes(bytes))
}
