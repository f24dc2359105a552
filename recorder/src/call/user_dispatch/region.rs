//! The setting of `PR_SET_SYSCALL_USER_DISPATCH`.

use rr_tracee::{Addr, Registers};

/// `PR_SYS_DISPATCH_OFF`.
pub(crate) const OFF: u64 = 0;

/// `PR_SYS_DISPATCH_EXCLUSIVE_ON`.
const EXCLUSIVE: u64 = 1;

/// `PR_SYS_DISPATCH_INCLUSIVE_ON`.
pub(crate) const INCLUSIVE: u64 = 2;

/// A setting as the program asks for it, or as a tracer sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setting {
    /// `PR_SYS_DISPATCH_*`.
    pub(crate) mode: u64,
    pub(crate) start: u64,
    pub(crate) len: u64,
    pub(crate) selector: Addr,
}

/// A task's system calls that become signals: those from outside of a region of code, while a byte says so.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Region {
    /// Start of the region, as the kernel counts: it may end beyond the last address, at its beginning.
    start: u64,
    len: u64,
    /// Address of the byte that decides about calls from outside. Null: all of them become signals.
    pub(crate) selector: Addr,
}

impl Region {
    /// The region of a valid setting.
    pub(crate) fn new(setting: Setting) -> Region {
        let Setting {
            mode,
            start,
            len,
            selector,
        } = setting;
        // The other way round, the region holds the calls that become signals.
        let (start, len) = match mode {
            INCLUSIVE => (start.wrapping_add(len), len.wrapping_neg()),
            _ => (start, len),
        };
        Region { start, len, selector }
    }

    /// The setting as a tracer sees it: as the kernel keeps it.
    pub(crate) fn shown(&self) -> Setting {
        Setting {
            mode: EXCLUSIVE,
            start: self.start,
            len: self.len,
            selector: self.selector,
        }
    }

    /// Returns whether a call is made as usual, whatever the selector says.
    pub(crate) fn holds(&self, entry: &Registers) -> bool {
        entry.rip.wrapping_sub(self.start) < self.len
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_holds_its_calls_or_all_others() {
        let at = |rip| Registers {
            rip,
            ..Registers::default()
        };
        let region = |mode, start, len| {
            let selector = Addr::NULL;
            Region::new(Setting {
                mode,
                start,
                len,
                selector,
            })
        };
        let exclusive = region(EXCLUSIVE, 0x1000, 0x100);
        assert!(exclusive.holds(&at(0x1000)) && exclusive.holds(&at(0x10ff)));
        assert!(!exclusive.holds(&at(0xfff)) && !exclusive.holds(&at(0x1100)));
        let none = region(EXCLUSIVE, 0, 0);
        assert!(!none.holds(&at(0)) && !none.holds(&at(0x1000)));
        let inclusive = region(INCLUSIVE, 0x1000, 0x100);
        assert!(!inclusive.holds(&at(0x1000)) && !inclusive.holds(&at(0x10ff)));
        assert!(inclusive.holds(&at(0xfff)) && inclusive.holds(&at(0x1100)));
    }
}
