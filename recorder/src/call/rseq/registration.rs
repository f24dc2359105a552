//! The structure that a task registers with rseq(2), and the kernel's conditions for it.

use nix::errno::Errno;

/// `RSEQ_CPU_ID_UNINITIALIZED`.
pub(crate) const NO_CPU: u32 = u32::MAX;

/// Size and alignment of the first `struct rseq`.
const FIRST_BYTES: u64 = 32;

/// Offset of the fields of Linux 6.3: `node_id` and `mm_cid`.
const NODE_ID: u64 = 20;

/// End of these fields.
const FEATURES: u64 = 28;

/// Auxiliary vector entries (getauxval(3)).
mod at {
    pub const RSEQ_FEATURE_SIZE: u64 = 27;
    pub const RSEQ_ALIGN: u64 = 28;
}

/// The structure that a task has registered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Rseq {
    pub addr: u64,
    pub len: u32,
    pub signature: u32,
}

/// The kernel's `rseq`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kernel {
    pub exists: bool,
    /// Size of the fields that the kernel fills. 0 for a kernel that does not say.
    features: u64,
    /// Alignment of larger structures than the first one.
    align: u64,
}

impl Kernel {
    pub fn ask() -> Kernel {
        // SAFETY: the kernel refuses this call (a structure of length 0), if it knows it.
        let exists =
            unsafe { libc::syscall(libc::SYS_rseq, 0, 0, 0, 0) } != -1 || Errno::last() != Errno::ENOSYS;
        // SAFETY: getauxval has no preconditions.
        let [features, align] =
            [at::RSEQ_FEATURE_SIZE, at::RSEQ_ALIGN].map(|entry| unsafe { libc::getauxval(entry) });
        Kernel {
            exists,
            features,
            align: align.max(FIRST_BYTES),
        }
    }

    /// Returns whether a structure can be registered there (`SYSCALL_DEFINE4(rseq)` in kernel/rseq.c).
    pub fn takes(&self, addr: u64, len: u64) -> bool {
        match len {
            FIRST_BYTES => addr.is_multiple_of(FIRST_BYTES),
            _ if self.features == 0 => false,
            _ => len >= self.features.max(FIRST_BYTES) && addr.is_multiple_of(self.align),
        }
    }
}

impl Rseq {
    /// The fields that show where the task runs, as writes.
    pub(crate) fn shows(&self, kernel: Kernel, [start, cpu, node, id]: [u32; 4]) -> Vec<(u64, Vec<u8>)> {
        let both = |a: u32, b: u32| [a.to_le_bytes(), b.to_le_bytes()].concat();
        let mut fields = vec![(self.addr, both(start, cpu))];
        if kernel.features >= FEATURES {
            fields.push((self.addr + NODE_ID, both(node, id)));
        }
        fields
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_are_taken_by_size_and_alignment() {
        let first = Kernel {
            exists: true,
            features: 0,
            align: 32,
        };
        assert!(first.takes(64, 32));
        assert!(!first.takes(64, 64) && !first.takes(48, 32) && !first.takes(64, 0));
        let larger = Kernel {
            exists: true,
            features: 40,
            align: 64,
        };
        assert!(larger.takes(32, 32) && larger.takes(64, 40) && larger.takes(128, 64));
        assert!(!larger.takes(32, 40) && !larger.takes(64, 36) && !larger.takes(16, 32));
    }
}
