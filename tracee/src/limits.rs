//! Resource limits of a process (prlimit(2)).

use crate::ids::Tid;

/// The soft limit of a process (0: our own). `None` if it cannot be read because the process is gone.
pub fn soft(tid: Tid, resource: libc::__rlimit_resource_t) -> Option<u64> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: sets nothing, and fills a valid rlimit.
    let r = unsafe { libc::prlimit(tid.0, resource, std::ptr::null(), &mut limit) };
    (r == 0).then_some(limit.rlim_cur)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_read_and_a_process_that_is_not_has_none() {
        let own = soft(Tid(0), libc::RLIMIT_NOFILE);
        assert!(own.is_some_and(|n| n > 2));
        assert_eq!(soft(Tid(std::process::id() as i32), libc::RLIMIT_NOFILE), own);
        assert_eq!(soft(Tid(i32::MAX), libc::RLIMIT_NOFILE), None);
    }
}
