//! Registers that the user has asked for, and their form.

use std::str::FromStr;

use rr_trace::event::EventNumber;
use rr_tracee::{ExtendedState, Registers};

use crate::registers::named;

/// General registers in the order of their numbers in machine code.
const GENERAL: [&str; 16] = [
    "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14",
    "r15",
];

/// Number of vector registers.
const VECTORS: usize = 16;

/// Offsets in the extended state (Intel SDM vol. 1, 13.4): the lower halves of the vector registers, the components in use, the upper
/// halves; and the bits of these components.
const LOWER: usize = 160;
const IN_USE: usize = 512;
const UPPER: usize = 576;
const LOWER_BIT: u64 = 1 << 1;
const UPPER_BIT: u64 = 1 << 2;

/// One word of a list of registers.
#[derive(Clone, Debug)]
enum Item {
    Event,
    Count,
    General,
    Lower,
    Whole,
    InUse,
    /// The registers of the program by this name, and the name that is printed.
    One(&'static str, &'static str),
}

/// A list of registers.
#[derive(Clone, Debug)]
pub struct Shown(Vec<Item>);

/// A state of a task.
pub struct Moment {
    /// The last event.
    pub event: EventNumber,
    /// Number of instructions executed.
    pub count: u64,
    pub regs: Registers,
    /// If it is needed.
    pub extended: Option<ExtendedState>,
}

impl FromStr for Shown {
    type Err = String;

    fn from_str(text: &str) -> Result<Shown, String> {
        let items = text.split(',').map(|name| {
            Ok(match name {
                "event" => Item::Event,
                "icount" => Item::Count,
                "ip" => Item::One("rip", "ip"),
                "flags" => Item::One("eflags", "flags"),
                "gp_x16" => Item::General,
                "xmm_x16" => Item::Lower,
                "ymm_x16" => Item::Whole,
                "xinuse" => Item::InUse,
                _ => {
                    let all = named(&Registers::default()).map(|(name, _)| name);
                    let found = all.into_iter().find(|known| *known == name);
                    found.map_or_else(|| Err(unknown(name)), |name| Ok(Item::One(name, name)))?
                }
            })
        });
        items.collect::<Result<_, String>>().map(Shown)
    }
}

fn unknown(name: &str) -> String {
    format!("there is no register {name:?} (rr rerun --help lists the names)")
}

impl Shown {
    /// Returns whether the list has registers of the extended state.
    pub fn needs_extended(&self) -> bool {
        let is_extended = |item: &Item| matches!(item, Item::Lower | Item::Whole | Item::InUse);
        self.0.iter().any(is_extended)
    }

    /// The names and values, in order; a value is as long as its register.
    fn values(&self, moment: &Moment) -> Vec<(String, Vec<u8>)> {
        let word = |name: &str, value: u64| (name.to_owned(), value.to_le_bytes().to_vec());
        let all = named(&moment.regs);
        let register = |name: &str| {
            all.iter()
                .find(|(known, _)| *known == name)
                .map_or(0, |(_, value)| *value)
        };
        let extended = moment.extended.as_ref().map_or(&[][..], |state| &state.0);
        self.0
            .iter()
            .flat_map(|item| match item {
                Item::Event => vec![word("event", moment.event.0)],
                Item::Count => vec![word("icount", moment.count)],
                Item::One(name, printed) => vec![word(printed, register(name))],
                Item::General => GENERAL.map(|name| word(name, register(name))).to_vec(),
                Item::InUse => vec![word("xinuse", in_use(extended))],
                Item::Lower => (0..VECTORS)
                    .map(|n| (format!("xmm{n}"), half(extended, LOWER, LOWER_BIT, n)))
                    .collect(),
                Item::Whole => (0..VECTORS)
                    .map(|n| {
                        let mut whole = half(extended, LOWER, LOWER_BIT, n);
                        whole.extend(half(extended, UPPER, UPPER_BIT, n));
                        (format!("ymm{n}"), whole)
                    })
                    .collect(),
            })
            .collect()
    }

    /// The values as text: `event:0x12 ip:0x401000`.
    pub fn line(&self, moment: &Moment) -> String {
        let words = self.values(moment).into_iter().map(|(name, value)| {
            let digits: String = value.iter().rev().map(|byte| format!("{byte:02x}")).collect();
            let digits = match digits.trim_start_matches('0') {
                "" => "0",
                digits => digits,
            };
            format!("{name}:0x{digits}")
        });
        words.collect::<Vec<_>>().join(" ")
    }

    /// The values as bytes.
    pub fn bytes(&self, moment: &Moment) -> Vec<u8> {
        self.values(moment)
            .into_iter()
            .flat_map(|(_, value)| value)
            .collect()
    }
}

/// The components of the extended state that are not in their initial state.
fn in_use(extended: &[u8]) -> u64 {
    let word = extended.get(IN_USE..).and_then(|rest| rest.first_chunk());
    word.map_or(0, |word| u64::from_le_bytes(*word))
}

/// The `n`th half of a vector register, at `start` of the extended state. In the initial state it is zero.
fn half(extended: &[u8], start: usize, bit: u64, n: usize) -> Vec<u8> {
    const BYTES: usize = 16;
    let at = start + n * BYTES;
    let found = extended
        .get(at..at + BYTES)
        .filter(|_| in_use(extended) & bit != 0);
    found.map_or_else(|| vec![0; BYTES], <[u8]>::to_vec)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment() -> Moment {
        let mut state = vec![0; 832];
        state[IN_USE] = 0b110;
        state[LOWER] = 0x12;
        state[UPPER + 15] = 0x80;
        Moment {
            event: EventNumber(7),
            count: 300,
            regs: Registers {
                rax: 1,
                rip: 0x401000,
                r15: u64::MAX,
                ..Registers::default()
            },
            extended: Some(ExtendedState(state)),
        }
    }

    fn shown(text: &str) -> Shown {
        text.parse().unwrap()
    }

    #[test]
    fn registers_are_shown_in_the_order_of_the_list() {
        assert_eq!(
            shown("event,icount,ip,rax,flags").line(&moment()),
            "event:0x7 icount:0x12c ip:0x401000 rax:0x1 flags:0x0"
        );
        let general = shown("gp_x16").line(&moment());
        assert!(
            general.starts_with("rax:0x1 rcx:0x0 rdx:0x0 rbx:0x0 rsp:0x0 "),
            "{general}"
        );
        assert!(general.ends_with(" r15:0xffffffffffffffff"), "{general}");
    }

    #[test]
    fn vector_registers_are_zero_in_their_initial_state() {
        let mut moment = moment();
        let whole = format!("ymm0:0x80{}12 ymm1:0x0 ", "0".repeat(60));
        assert!(shown("ymm_x16").line(&moment).starts_with(&whole));
        assert!(
            shown("xmm_x16,xinuse")
                .line(&moment)
                .starts_with("xmm0:0x12 xmm1:0x0 ")
        );
        moment.extended.as_mut().unwrap().0[IN_USE] = 0;
        assert!(shown("ymm_x16").line(&moment).starts_with("ymm0:0x0 "));
    }

    #[test]
    fn raw_values_have_the_size_of_their_registers() {
        let bytes = shown("rax,xmm_x16,ymm_x16").bytes(&moment());
        assert_eq!(bytes.len(), 8 + 16 * 16 + 16 * 32);
        assert_eq!(bytes[..9], [1, 0, 0, 0, 0, 0, 0, 0, 0x12]);
    }

    #[test]
    fn an_unknown_name_is_an_error() {
        let error = "rax,bogus".parse::<Shown>().unwrap_err();
        assert!(error.contains("bogus"), "{error}");
        assert!("".parse::<Shown>().is_err());
    }
}
