//! Extended state of a task: the x87 unit, SSE, AVX and what later processors have (Intel SDM vol. 1, 13).
//!
//! Processors differ in the components that they have, and so in the length of the state. A trace that is to be replayed on
//! other ones has only the part that is the same on all ([`ExtendedState::portable`]); it gets the length of the processor
//! here when a task gets it (`fitted`). Keeps: no component that is in use is ever dropped.

use crate::cpuid::{self, Level};

/// Extended state as `PTRACE_GETREGSET(NT_X86_XSTATE)` gives it: the standard
/// (non-compacted) XSAVE format, Intel SDM vol. 1, 13.4. The part from some place on may be missing; it is zero.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ExtendedState(pub Vec<u8>);

/// The length and the components of the states that this machine's kernel takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Layout {
    length: usize,
    components: u64,
}

impl Layout {
    /// The layout of a state that the kernel has given.
    pub(crate) fn of(state: &ExtendedState) -> Layout {
        Layout {
            length: state.0.len(),
            components: state.word(ExtendedState::XCR0),
        }
    }
}

impl ExtendedState {
    /// MXCSR_MASK: a constant of the processor.
    const MXCSR_MASK: usize = 28;
    /// Bytes for software: the kernel's. They begin with the components that the kernel knows.
    const XCR0: usize = 464;
    const XSTATE_BV: usize = 512;
    /// The end of the header. Components beyond x87 and SSE follow: first AVX, if the processor has it.
    const LEGACY: usize = 576;
    /// The end of AVX.
    const AVX_END: usize = Self::LEGACY + 256;
    /// The number of the component PKRU.
    const PKRU: u32 = 9;

    /// The state with everything that does not matter to a program cleared, so that equal states
    /// compare equal. This clears the bytes that the kernel keeps for software use (464 to 511), the mask of MXCSR, and the
    /// last-instruction pointers of the x87 unit (bytes 6 to 23), which AMD processors save only while
    /// an exception is pending. Zeros at the end are left out, because they may be missing.
    pub fn normalised(&self) -> ExtendedState {
        let mut bytes = self.0.clone();
        if bytes.len() >= Self::LEGACY {
            bytes[Self::XCR0..Self::XSTATE_BV].fill(0);
            bytes[Self::MXCSR_MASK..Self::MXCSR_MASK + 4].fill(0);
            bytes[6..24].fill(0);
            // A component whose XSTATE_BV bit is clear is in its initial state, and the kernel has
            // filled in that state's bytes. The bit only says if the processor tracks the component as
            // in use, which does not change what a program computes.
            bytes[Self::XSTATE_BV..Self::XSTATE_BV + 8].fill(0);
            bytes.truncate(end_of_data(&bytes).max(Self::LEGACY));
        }
        ExtendedState(bytes)
    }

    /// The state of this processor for a trace of a level: without what other processors of the level may not have. If the
    /// program uses more than the level, the state stays as it is: the trace can be replayed where the processor has that.
    pub fn portable(&self, level: Level) -> ExtendedState {
        let pkru = match self.word(Self::XCR0) >> Self::PKRU & 1 {
            0 => 0..0,
            _ => {
                let [size, offset, ..] = cpuid::native(0xd, Self::PKRU);
                offset as usize..(offset + size) as usize
            }
        };
        self.without(level, pkru)
    }

    /// The rights of protection keys are at `pkru`. No program gets a key, so they do not matter.
    fn without(&self, level: Level, pkru: std::ops::Range<usize>) -> ExtendedState {
        let end = match level {
            Level::V2 => Self::LEGACY,
            Level::V3 => Self::AVX_END,
        };
        let mut bytes = self.0.clone();
        if let Some(rights) = bytes.get_mut(pkru) {
            rights.fill(0);
        }
        if bytes.len() < Self::LEGACY || end_of_data(&bytes) > end {
            return self.clone();
        }
        bytes.truncate(end);
        let mut state = ExtendedState(bytes);
        state.keep_components(level.components());
        state
    }

    /// The state as the kernel of this machine takes it. `None` if it has more than that.
    pub(crate) fn fitted(&self, here: Layout) -> Option<ExtendedState> {
        if self.0.len() == here.length {
            return Some(self.clone());
        }
        if self.0.len() < Self::LEGACY || end_of_data(&self.0) > here.length {
            return None;
        }
        let mut state = self.clone();
        state.0.resize(here.length, 0);
        state.keep_components(here.components);
        Some(state)
    }

    /// Marks all other components as being in their initial state.
    fn keep_components(&mut self, components: u64) {
        let kept = self.word(Self::XSTATE_BV) & components;
        self.0[Self::XSTATE_BV..Self::XSTATE_BV + 8].copy_from_slice(&kept.to_le_bytes());
    }

    fn word(&self, at: usize) -> u64 {
        let bytes = self.0.get(at..).and_then(<[u8]>::first_chunk);
        bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes))
    }
}

/// The number of bytes up to the last one that is not zero.
fn end_of_data(bytes: &[u8]) -> usize {
    bytes
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |last| last + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A state of a processor with AVX-512 and protection keys, in which these components are in use.
    fn state(in_use: u64) -> ExtendedState {
        let mut bytes = vec![0; 2696];
        bytes[0..2].copy_from_slice(&[0x7f, 3]);
        bytes[28..32].copy_from_slice(&0xffff_u32.to_le_bytes());
        bytes[160] = 5;
        bytes[ExtendedState::XCR0..][..8].copy_from_slice(&0x2e7_u64.to_le_bytes());
        bytes[ExtendedState::XSTATE_BV..][..8].copy_from_slice(&in_use.to_le_bytes());
        ExtendedState(bytes)
    }

    const PKRU: std::ops::Range<usize> = 2688..2696;

    #[test]
    fn a_portable_state_has_what_the_level_has() {
        let mut all = state(0x2e7);
        all.0[600] = 7;
        all.0[PKRU].copy_from_slice(&0x5555_5554_u64.to_le_bytes());
        let v3 = all.without(Level::V3, PKRU);
        assert_eq!(v3.0.len(), 832);
        assert_eq!(v3.0[512..520], 7_u64.to_le_bytes());
        assert_eq!(v3.0[600], 7);
        // AVX is in use, which is more than the level has.
        assert_eq!(all.without(Level::V2, PKRU), all);
        all.0[600] = 0;
        let v2 = all.without(Level::V2, PKRU);
        assert_eq!(v2.0.len(), 576);
        assert_eq!(v2.0[512..520], 3_u64.to_le_bytes());
        assert_eq!(v2.0[160], 5);
        // So is AVX-512.
        all.0[1100] = 1;
        assert_eq!(all.without(Level::V3, PKRU), all);
    }

    #[test]
    fn a_state_fits_where_its_components_are() {
        let old = Layout {
            length: 832,
            components: 7,
        };
        let new = Layout::of(&state(3));
        assert_eq!((new.length, new.components), (2696, 0x2e7));
        let v2 = state(0xe7).without(Level::V2, PKRU);
        let fitted = v2.fitted(old).unwrap();
        assert_eq!(fitted.0.len(), 832);
        assert_eq!(fitted.0[..576], v2.0[..]);
        assert_eq!(fitted.normalised(), state(0).normalised());
        // To a newer processor, and back.
        let grown = fitted.fitted(new).unwrap();
        assert_eq!(grown.0.len(), 2696);
        assert_eq!(grown.0[512..520], 3_u64.to_le_bytes());
        assert_eq!(grown.fitted(old), Some(fitted));
        // What is marked as in use and is zero can be left out; what has data cannot.
        let mut wide = state(0xe7);
        assert_eq!(wide.fitted(old).unwrap().0[512..520], 7_u64.to_le_bytes());
        wide.0[1100] = 1;
        assert_eq!(wide.fitted(old), None);
        assert_eq!(wide.fitted(new), Some(wide));
        assert_eq!(ExtendedState::default().fitted(old), None);
    }

    #[test]
    fn equal_states_of_two_processors_compare_equal() {
        let intel = state(3);
        let mut amd = ExtendedState(intel.0[..832].to_vec());
        amd.0[28..32].copy_from_slice(&0x2_ffff_u32.to_le_bytes());
        amd.0[ExtendedState::XCR0..][..8].copy_from_slice(&7_u64.to_le_bytes());
        assert_eq!(intel.normalised(), amd.normalised());
        amd.0[600] = 1;
        assert_ne!(intel.normalised(), amd.normalised());
    }
}
