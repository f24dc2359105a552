//! The window of a site: the instructions before a call that a jump overwrites, and how they are moved to a stub.
//!
//! A window that was decoded once can be written down, and be moved again without a decoder. The tables of iced take as long to build
//! as a short program runs, and most recordings meet only sites that are known ([`crate::site`]).
//!
//! ```text
//! r2803d31330e0000j7417p31c0
//! │││             │    └ plain: xor eax, eax
//! │││             └ a conditional branch: je +0x17
//! ││└ its bytes: cmp byte [rip+0xe3331], 0
//! │└ offset of the displacement in the instruction, one hexadecimal digit
//! └ it addresses memory relative to rip
//! ```
//!
//! Keeps: the bytes are whole instructions, each of which leads to the next, and the last one to the call.

use std::fmt::{self, Display};
use std::str::FromStr;

use iced_x86::{Decoder, DecoderOptions, FlowControl, Mnemonic, Register};

use crate::code::{
    INSTRUCTION_MOST, conditional_jump, displacement_offset, is_event, short_condition, shows_stepping,
    with_displacement_from,
};
use crate::ids::Addr;

/// Maximum length of a window.
pub const WINDOW_MOST: usize = 24;

/// The way in which an instruction is moved.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Form {
    /// It does the same everywhere.
    Plain,
    /// It does nothing.
    Padding,
    /// It addresses memory relative to `rip`, with a displacement of 32 bits at this offset.
    Relative { displacement: u8 },
    /// It is a conditional branch.
    Branch,
}

/// An instruction of a window.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Part {
    len: usize,
    form: Form,
}

/// Why a text is no window.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("not the window of a site")]
pub struct NotAWindow;

/// The instructions before a call.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SiteWindow {
    bytes: Vec<u8>,
    parts: Vec<Part>,
}

impl SiteWindow {
    /// Decodes the instructions in `code`, which a call follows. `None` if the bytes are not instructions, or if one of these cannot
    /// be moved, does not lead on, or [is an event](is_event).
    pub fn decode(code: &[u8]) -> Option<SiteWindow> {
        let mut decoder = Decoder::new(64, code, DecoderOptions::NONE);
        let mut parts = Vec::new();
        while decoder.can_decode() {
            let instruction = decoder.decode();
            let form = match instruction.flow_control() {
                _ if instruction.is_invalid() || is_event(&instruction) || shows_stepping(&instruction) => {
                    return None;
                }
                FlowControl::ConditionalBranch => Form::Branch,
                FlowControl::Next if instruction.mnemonic() == Mnemonic::Nop => Form::Padding,
                FlowControl::Next => match instruction.memory_base() {
                    Register::RIP => Form::Relative {
                        displacement: displacement_offset(&decoder, &instruction),
                    },
                    Register::EIP => return None,
                    _ => Form::Plain,
                },
                _ => return None,
            };
            let len = instruction.len();
            parts.push(Part { len, form });
        }
        SiteWindow::of(code.to_vec(), parts)
    }

    /// The window of these instructions, which have these bytes.
    fn of(bytes: Vec<u8>, parts: Vec<Part>) -> Option<SiteWindow> {
        let window = SiteWindow { bytes, parts };
        let movable = |(bytes, form): (&[u8], Form)| match form {
            Form::Plain | Form::Padding => true,
            Form::Relative { displacement } => usize::from(displacement) + 4 <= bytes.len(),
            Form::Branch => short_condition(bytes).is_some(),
        };
        let is_one = (1..=WINDOW_MOST).contains(&window.bytes.len()) && window.instructions().all(movable);
        is_one.then_some(window)
    }

    /// The bytes and the form of each instruction. (The lengths of the instructions add up to the bytes.)
    fn instructions(&self) -> impl Iterator<Item = (&[u8], Form)> {
        let mut rest = &self.bytes[..];
        self.parts.iter().map(move |part| {
            let (bytes, behind) = rest.split_at(part.len);
            rest = behind;
            (bytes, part.form)
        })
    }

    /// The bytes of the window.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Offsets below `end` where instructions of the window begin, except the first.
    pub(super) fn inner_boundaries(&self, end: usize) -> Vec<usize> {
        let ends = self.parts.iter().scan(0, |at, part| {
            *at += part.len;
            Some(*at)
        });
        ends.filter(|at| *at < end.min(self.bytes.len())).collect()
    }

    /// Lengths of the padding that the window begins with, and of the instruction behind it.
    pub(super) fn padding(&self) -> Option<(usize, usize)> {
        match &self.parts[..] {
            [padding, next, ..] if padding.form == Form::Padding => Some((padding.len, next.len)),
            _ => None,
        }
    }

    /// The window, which lies at `from`, moved to `to`. `None` if something that an instruction addresses is too far from there.
    pub(super) fn relocated(&self, from: Addr, to: Addr) -> Option<Vec<u8>> {
        let mut moved = Vec::new();
        let mut at = from.0;
        for (bytes, form) in self.instructions() {
            let next = at.checked_add(bytes.len() as u64)?;
            match form {
                Form::Plain | Form::Padding => moved.extend(bytes),
                Form::Relative { displacement } => {
                    let place = to.0.checked_add(moved.len() as u64)?;
                    moved.extend(with_displacement_from(bytes, displacement, at, place)?);
                }
                Form::Branch => {
                    let branch = short_condition(bytes)?;
                    let target = next.wrapping_add_signed(branch.distance.into());
                    conditional_jump(&mut moved, &branch.opcode, target);
                }
            }
            at = next;
        }
        Some(moved)
    }
}

impl Display for SiteWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (bytes, form) in self.instructions() {
            match form {
                Form::Plain => f.write_str("p")?,
                Form::Padding => f.write_str("n")?,
                Form::Relative { displacement } => write!(f, "r{displacement:x}")?,
                Form::Branch => f.write_str("j")?,
            }
            bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        }
        Ok(())
    }
}

impl FromStr for SiteWindow {
    type Err = NotAWindow;

    fn from_str(text: &str) -> Result<SiteWindow, NotAWindow> {
        let (mut all, mut parts) = (Vec::new(), Vec::new());
        let mut rest = text;
        while !rest.is_empty() {
            let (form, bytes, behind) = read_instruction(rest).ok_or(NotAWindow)?;
            let len = bytes.len();
            parts.push(Part { len, form });
            all.extend(bytes);
            rest = behind;
        }
        SiteWindow::of(all, parts).ok_or(NotAWindow)
    }
}

/// The instruction that `text` begins with, and the text behind it.
fn read_instruction(text: &str) -> Option<(Form, Vec<u8>, &str)> {
    const FORMS: [char; 4] = ['p', 'n', 'r', 'j'];
    let (form, text) = match text.split_at_checked(1)? {
        ("p", text) => (Form::Plain, text),
        ("n", text) => (Form::Padding, text),
        ("j", text) => (Form::Branch, text),
        ("r", text) => {
            let (digit, text) = text.split_at_checked(1)?;
            let displacement = u8::from_str_radix(digit, 16).ok()?;
            (Form::Relative { displacement }, text)
        }
        _ => return None,
    };
    let (digits, behind) = text.split_at(text.find(FORMS).unwrap_or(text.len()));
    let (pairs, odd) = digits.as_bytes().as_chunks::<2>();
    let byte = |pair: &[u8; 2]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let bytes: Vec<u8> = pairs.iter().map(byte).collect::<Option<_>>()?;
    let is_one = odd.is_empty() && (1..=INSTRUCTION_MOST).contains(&bytes.len()) && !digits.contains('+');
    is_one.then_some((form, bytes, behind))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FROM: Addr = Addr(0x7f00_0000_1000);

    #[test]
    fn every_form_is_written_down_and_read() {
        // cmp byte [rip+x], 0; je +0x17; xor eax, eax
        let code = [0x80, 0x3d, 0x31, 0x33, 0x0e, 0, 0, 0x74, 0x17, 0x31, 0xc0];
        let window = SiteWindow::decode(&code).unwrap();
        assert_eq!(window.to_string(), "r2803d31330e0000j7417p31c0");
        // nopw; mov eax, 13
        let code = [0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0, 0xb8, 13, 0, 0, 0];
        let padded = SiteWindow::decode(&code).unwrap();
        assert_eq!(padded.to_string(), "n0f1f840000000000pb80d000000");
        assert_eq!((padded.padding(), window.padding()), (Some((8, 5)), None));
        // A far branch, and jrcxz.
        let far = SiteWindow::decode(&[0x0f, 0x84, 0, 1, 0, 0, 0xe3, 4]).unwrap();
        for window in [window, padded, far] {
            let again: SiteWindow = window.to_string().parse().unwrap();
            assert_eq!(again, window);
            let to = FROM + 0x1000;
            assert_eq!(again.relocated(FROM, to), window.relocated(FROM, to));
        }
    }

    #[test]
    fn operands_and_branches_lead_where_they_led() {
        let window: SiteWindow = "r2803d31330e0000j7417p31c0".parse().unwrap();
        let to = FROM + 0x1000;
        let moved = window.relocated(FROM, to).unwrap();
        assert_eq!(moved[2..6], (0xe_3331i32 - 0x1000).to_le_bytes());
        assert_eq!(moved[7..11], [0x74, 2, 0xeb, 14]);
        assert_eq!(moved[17..25], (FROM.0 + 9 + 0x17).to_le_bytes());
        assert_eq!(window.relocated(FROM, Addr(0x1000)), None, "too far");
        // jne to itself; je far back
        let window = SiteWindow::decode(&[0x75, 0xfe, 0x0f, 0x84, 0, 0xff, 0xff, 0xff]).unwrap();
        let moved = window.relocated(FROM, to).unwrap();
        assert_eq!(moved[10..18], FROM.0.to_le_bytes());
        assert_eq!(moved[28..36], (FROM.0 + 8 - 0x100).to_le_bytes());
    }

    #[test]
    fn what_cannot_be_moved_is_none() {
        let none: [&[u8]; 8] = [
            &[],
            &[0xc3],                                  // ret
            &[0xe8, 0, 0, 0, 0],                      // call
            &[0x9c],                                  // pushfq
            &[0x0f, 0x31],                            // rdtsc
            &[0x67, 0x48, 0x8d, 0x05, 0x10, 0, 0, 0], // lea rax, [eip+0x10]
            &[0xb8, 1, 0],                            // half an instruction
            &[0x90; WINDOW_MOST + 1],
        ];
        for code in none {
            assert_eq!(SiteWindow::decode(code), None, "{code:x?}");
        }
    }

    #[test]
    fn what_is_no_window_is_refused() {
        for text in [
            "",
            "90",
            "p",
            "p9",
            "p9g",
            "p+9",
            "x90",
            "r",
            "rg90",
            "r2803d3133",
            "j90",
            "j74",
            "p90p",
            "p90 ",
            &format!("p{}", "90".repeat(16)),
            &"p90".repeat(WINDOW_MOST + 1),
            "pé90",
        ] {
            assert_eq!(text.parse::<SiteWindow>(), Err(NotAWindow), "{text}");
        }
    }
}
