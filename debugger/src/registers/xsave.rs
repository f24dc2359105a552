//! The places of the components of the extended state (Intel SDM vol. 1, 13.4 and 13.5).

use std::arch::x86_64::__cpuid_count;

use rr_tracee::ExtendedState;

/// The offset at which the kernel leaves XCR0 in the legacy region that ptrace gives (`<asm/user.h>`: sw_reserved).
const XCR0: usize = 464;
/// The offset of the bits that say which components are in use.
const XSTATE_BV: usize = 512;
/// Length of the legacy region and the header.
const HEADER_END: usize = 576;

/// A component of the extended state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Component {
    /// x87, in the legacy region.
    X87 = 0,
    /// XMM and MXCSR, in the legacy region.
    Sse = 1,
    /// Upper halves of YMM0 to 15.
    Avx = 2,
    /// k0 to k7.
    Opmask = 5,
    /// Upper halves of ZMM0 to 15.
    ZmmHigh = 6,
    /// ZMM16 to 31.
    ZmmMore = 7,
    /// PKRU.
    Pkru = 9,
}

impl Component {
    fn bit(self) -> u64 {
        1 << self as u64
    }
}

/// The offsets of the components of a state; those that it does not have are missing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Areas {
    present: u64,
    offsets: [usize; 10],
}

fn word(state: &[u8], at: usize) -> Option<u64> {
    let bytes = state.get(at..at + 8)?;
    Some(u64::from_le_bytes(bytes.try_into().ok()?))
}

impl Areas {
    /// The areas of a state. The standard format puts them where CPUID leaf 13 says.
    pub fn of(state: &ExtendedState) -> Areas {
        let length = state.0.len();
        let leaf = |n| __cpuid_count(0xd, n);
        let supported = leaf(0);
        let supported = u64::from(supported.eax) | u64::from(supported.edx) << 32;
        // A state from a trace may have lost the kernel's word.
        let enabled = match word(&state.0, XCR0) {
            Some(xcr0) if xcr0 & 3 == 3 => xcr0 & supported,
            _ => supported,
        };
        let mut areas = Areas {
            present: 3,
            offsets: [0; 10],
        };
        for n in 2..10u32 {
            let leaf = leaf(n);
            let (size, offset) = (leaf.eax as usize, leaf.ebx as usize);
            if enabled & 1 << n != 0 && size != 0 && offset >= HEADER_END && offset + size <= length {
                areas.present |= 1 << n;
                areas.offsets[n as usize] = offset;
            }
        }
        areas
    }

    /// Says if the state has the component.
    pub fn has(&self, component: Component) -> bool {
        self.present & component.bit() != 0
    }

    /// The offset of a component.
    pub fn offset(&self, component: Component) -> usize {
        self.offsets[component as usize]
    }
}

/// Notes that a component is in use now.
pub fn mark_used(state: &mut ExtendedState, component: Component) {
    if let Some(bits) = word(&state.0, XSTATE_BV) {
        let bits = bits | component.bit();
        state.0[XSTATE_BV..XSTATE_BV + 8].copy_from_slice(&bits.to_le_bytes());
    }
}
