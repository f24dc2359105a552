//! Registers in the order of the target description, which is made from the same table.
//!
//! The order is fixed up to `gs_base`, as gdb's own descriptions have it, so that conditions of breakpoints can name
//! registers without knowing the machine. The rest depends on the components of the extended state. A register that a state is
//! too short for is unavailable, and never an error.

mod description;
mod xsave;

use rr_tracee::{ExtendedState, Registers};
pub use xsave::{Areas, Component};

use crate::target::RegisterFile;

/// Numbers of registers that stop replies tell.
pub const RBP: usize = 6;
/// See [`RBP`].
pub const RSP: usize = 7;
/// See [`RBP`].
pub const RIP: usize = 16;

/// The places in [`Registers::words`] of the first 24 registers of the description: rax, rbx, … r15, rip, eflags, cs, …
const CORE: [(&str, usize); 24] = [
    ("rax", 10),
    ("rbx", 5),
    ("rcx", 11),
    ("rdx", 12),
    ("rsi", 13),
    ("rdi", 14),
    ("rbp", 4),
    ("rsp", 19),
    ("r8", 9),
    ("r9", 8),
    ("r10", 7),
    ("r11", 6),
    ("r12", 3),
    ("r13", 2),
    ("r14", 1),
    ("r15", 0),
    ("rip", 16),
    ("eflags", 18),
    ("cs", 17),
    ("ss", 20),
    ("ds", 23),
    ("es", 24),
    ("fs", 25),
    ("gs", 26),
];
/// The number of `orig_rax`, which `fs_base` and `gs_base` follow.
const ORIG_RAX: usize = 57;

/// Control registers of the x87 unit with their places in the legacy region (Intel SDM vol. 1, 10.5.1).
const X87: [(&str, usize, usize); 8] = [
    ("fctrl", 0, 2),
    ("fstat", 2, 2),
    ("ftag", TAGS, 1),
    ("fiseg", 12, 2),
    ("fioff", 8, 4),
    ("foseg", 20, 2),
    ("fooff", 16, 4),
    ("fop", 6, 2),
];
const STATUS: usize = 2;
const TAGS: usize = 4;

/// The place of a register's bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    /// A word of the general registers.
    Word(usize),
    /// Bytes of the extended state; a register that is longer is zero above.
    Area(Component, usize, usize),
    /// The x87 tag word: kept in short form, shown in full.
    Tags,
}

/// A register of the description.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Register {
    /// As gdb calls it.
    pub name: String,
    /// Its length in bytes.
    pub len: usize,
    kind: &'static str,
    group: Option<&'static str>,
    feature: &'static str,
    place: Place,
}

/// The registers of a machine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Layout {
    registers: Vec<Register>,
}

impl Layout {
    /// The registers of a thread with this state.
    pub fn of(state: &ExtendedState) -> Layout {
        let areas = Areas::of(state);
        let mut layout = Layout {
            registers: Vec::new(),
        };
        layout.add_core();
        layout.add_sse();
        for (name, word, feature) in [
            ("orig_rax", 15, "linux"),
            ("fs_base", 21, "segments"),
            ("gs_base", 22, "segments"),
        ] {
            layout.add(name.into(), 8, "int", feature, Place::Word(word));
        }
        if areas.has(Component::Avx) {
            let at = areas.offset(Component::Avx);
            layout.add_many("ymm", "h", 0..16, 16, "uint128", "avx", Component::Avx, at, 16);
        }
        if [Component::Opmask, Component::ZmmHigh, Component::ZmmMore]
            .iter()
            .all(|component| areas.has(*component))
        {
            layout.add_avx512(&areas);
        }
        if areas.has(Component::Pkru) {
            let place = Place::Area(Component::Pkru, areas.offset(Component::Pkru), 4);
            layout.add("pkru".into(), 4, "uint32", "pkeys", place);
        }
        layout
    }

    fn add(&mut self, name: String, len: usize, kind: &'static str, feature: &'static str, place: Place) {
        let group = match name.as_str() {
            "orig_rax" => Some("system"),
            "mxcsr" => Some("vector"),
            _ if X87.iter().any(|(x87, ..)| *x87 == name) => Some("float"),
            _ => None,
        };
        self.registers.push(Register {
            name,
            len,
            kind,
            group,
            feature,
            place,
        });
    }

    /// Registers that lie `stride` apart.
    #[allow(clippy::too_many_arguments)] // a row of a table
    fn add_many(
        &mut self,
        prefix: &str,
        suffix: &str,
        numbers: std::ops::Range<usize>,
        len: usize,
        kind: &'static str,
        feature: &'static str,
        component: Component,
        first: usize,
        stride: usize,
    ) {
        for (i, n) in numbers.enumerate() {
            let place = Place::Area(component, first + i * stride, len);
            self.add(format!("{prefix}{n}{suffix}"), len, kind, feature, place);
        }
    }

    fn add_core(&mut self) {
        for (name, word) in CORE {
            let (len, kind) = match name {
                "rip" => (8, "code_ptr"),
                "rsp" | "rbp" => (8, "data_ptr"),
                "eflags" => (4, "i386_eflags"),
                _ if word >= 17 => (4, "int32"),
                _ => (8, "int64"),
            };
            self.add(name.into(), len, kind, "core", Place::Word(word));
        }
        self.add_many("st", "", 0..8, 10, "i387_ext", "core", Component::X87, 32, 16);
        for (name, at, len) in X87 {
            let place = if at == TAGS {
                Place::Tags
            } else {
                Place::Area(Component::X87, at, len)
            };
            self.add(name.into(), 4, "int", "core", place);
        }
    }

    fn add_sse(&mut self) {
        self.add_many("xmm", "", 0..16, 16, "vec128", "sse", Component::Sse, 160, 16);
        self.add(
            "mxcsr".into(),
            4,
            "i386_mxcsr",
            "sse",
            Place::Area(Component::Sse, 24, 4),
        );
    }

    fn add_avx512(&mut self, areas: &Areas) {
        const FEATURE: &str = "avx512";
        let more = areas.offset(Component::ZmmMore);
        let high = areas.offset(Component::ZmmHigh);
        let opmask = areas.offset(Component::Opmask);
        self.add_many(
            "xmm",
            "",
            16..32,
            16,
            "vec128",
            FEATURE,
            Component::ZmmMore,
            more,
            64,
        );
        self.add_many(
            "ymm",
            "h",
            16..32,
            16,
            "uint128",
            FEATURE,
            Component::ZmmMore,
            more + 16,
            64,
        );
        self.add_many("k", "", 0..8, 8, "uint64", FEATURE, Component::Opmask, opmask, 8);
        self.add_many(
            "zmm",
            "h",
            0..16,
            32,
            "v2ui128",
            FEATURE,
            Component::ZmmHigh,
            high,
            32,
        );
        self.add_many(
            "zmm",
            "h",
            16..32,
            32,
            "v2ui128",
            FEATURE,
            Component::ZmmMore,
            more + 32,
            64,
        );
    }

    /// All registers, in the order of their numbers.
    pub fn registers(&self) -> &[Register] {
        &self.registers
    }

    /// The length of all registers, in bytes: that of a `g` packet is twice this.
    pub fn len(&self) -> usize {
        self.registers.iter().map(|register| register.len).sum()
    }

    /// Never.
    pub fn is_empty(&self) -> bool {
        self.registers.is_empty()
    }
}

impl Register {
    /// Its bytes, least significant first; None if the state is too short for it.
    pub fn read(&self, file: &RegisterFile) -> Option<Vec<u8>> {
        let mut bytes = match self.place {
            Place::Word(n) => file.general.words().get(n)?.to_le_bytes().to_vec(),
            Place::Area(_, at, len) => file.extended.0.get(at..at + len)?.to_vec(),
            Place::Tags => full_tags(&file.extended)?.to_le_bytes().to_vec(),
        };
        bytes.resize(self.len, 0);
        Some(bytes)
    }

    /// Changes it; false if the bytes are too few, or the state is too short for it.
    pub fn write(&self, file: &mut RegisterFile, bytes: &[u8]) -> bool {
        let Some(bytes) = bytes.get(..self.len) else {
            return false;
        };
        let component = match self.place {
            Place::Word(n) => {
                let mut words = file.general.words();
                let mut word = [0; 8];
                word[..self.len].copy_from_slice(bytes);
                words[n] = u64::from_le_bytes(word);
                file.general = Registers::from_words(&words);
                return true;
            }
            Place::Area(component, at, len) => {
                let Some(place) = file.extended.0.get_mut(at..at + len) else {
                    return false;
                };
                place.copy_from_slice(&bytes[..len]);
                component
            }
            Place::Tags => {
                let tags = u16::from_le_bytes([bytes[0], bytes[1]]);
                let Some(place) = file.extended.0.get_mut(TAGS) else {
                    return false;
                };
                *place = (0..8).fold(0, |short, n| short | u8::from(tags >> (2 * n) & 3 != 3) << n);
                Component::X87
            }
        };
        xsave::mark_used(&mut file.extended, component);
        true
    }
}

/// The tag word in full: two bits for each physical register (Intel SDM vol. 1, 8.1.7).
fn full_tags(state: &ExtendedState) -> Option<u16> {
    let legacy = state.0.get(..160)?;
    let top = usize::from(legacy[STATUS + 1] >> 3 & 7);
    let tag = |physical: usize| {
        if legacy[TAGS] >> physical & 1 == 0 {
            return 3;
        }
        let at = 32 + (physical + 8 - top) % 8 * 16;
        let exponent = u16::from_le_bytes([legacy[at + 8], legacy[at + 9]]) & 0x7fff;
        let whole = legacy[at + 7] & 0x80 != 0;
        let zero = legacy[at..at + 8].iter().all(|byte| *byte == 0);
        match exponent {
            0x7fff => 2,
            0 if zero => 1,
            0 => 2,
            _ => 2 * u16::from(!whole),
        }
    };
    Some((0..8).fold(0, |tags, n| tags | tag(n) << (2 * n)))
}

/// A general register by its number in the description; None for others.
pub fn general(registers: &Registers, number: usize) -> Option<u64> {
    let words = registers.words();
    match number {
        0..24 => {
            let word = words[CORE[number].1];
            Some(if number >= 17 { word & 0xffff_ffff } else { word })
        }
        ORIG_RAX => Some(registers.orig_rax),
        58 => Some(registers.fs_base),
        59 => Some(registers.gs_base),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
