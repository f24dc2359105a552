//! The shape of the table.

use crate::Registers;
use crate::syscalls::Emulated;
use crate::syscalls::{Blocking, Class, MemorySpec, all, lookup, may_exist, name, status_table};

/// The last call of Linux 6.18.
const LAST: i64 = 469;

#[test]
fn every_number_of_linux_6_18_is_there() {
    // 337 to 423 have never been given out on x86-64.
    let missing: Vec<i64> = (0..=336)
        .chain(424..=LAST)
        .filter(|n| lookup(*n).is_none())
        .collect();
    assert_eq!(missing, []);
    assert!((337..424).all(|n| lookup(n).is_none()));
    for n in [-1, i64::MIN, LAST + 1, 512, 547, i64::MAX] {
        assert!(lookup(n).is_none(), "{n}");
    }
}

#[test]
fn numbers_and_names_agree_with_the_kernels_header() {
    let Ok(header) = std::fs::read_to_string("/usr/include/x86_64-linux-gnu/asm/unistd_64.h") else {
        return;
    };
    let mut seen = 0;
    for line in header.lines() {
        let mut words = line.split_whitespace();
        let (Some("#define"), Some(symbol), Some(number)) = (words.next(), words.next(), words.next()) else {
            continue;
        };
        let (Some(header_name), Ok(number)) = (symbol.strip_prefix("__NR_"), number.parse::<i64>()) else {
            continue;
        };
        // Later kernels have calls that we do not know: they are refused.
        if number <= LAST {
            assert_eq!(lookup(number).map(|s| s.name), Some(header_name), "{number}");
            seen += 1;
        }
    }
    assert!(seen > 300);
}

#[test]
fn entries_stand_under_their_numbers() {
    for spec in all() {
        assert!(std::ptr::eq(lookup(spec.number).unwrap(), spec));
    }
    let mut names: Vec<_> = all().map(|s| s.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), all().count());
    assert_eq!(name(0), "read");
    assert_eq!(name(400), "syscall_400");
}

#[test]
fn a_call_that_is_not_in_the_table_may_exist_only_on_a_newer_kernel() {
    let (known, newer) = ((6, 18), (7, 0));
    for number in [499, 600, 2000, -5, i64::MIN, 400, 1 << 40] {
        assert!(!may_exist(number, known, false), "{number}");
    }
    for (number, exists) in [(499, true), (600, true), (400, false), (2000, false), (-5, false)] {
        assert_eq!(may_exist(number, newer, false), exists, "{number}");
    }
    // The x32 interface's read.
    assert!(may_exist(0x4000_0000, known, true));
    assert!(!may_exist(0x4000_0000, newer, false));
}

#[test]
fn refused_calls_have_an_errno_and_no_memory() {
    for spec in all() {
        if let Class::Refused { errno, .. } = spec.class {
            assert!((1..134).contains(&errno), "{}", spec.name);
            assert!(matches!(spec.memory, MemorySpec::None), "{}", spec.name);
            assert_eq!(spec.blocking, Blocking::Never, "{}", spec.name);
        }
    }
}

#[test]
fn the_status_table_has_a_line_for_each_call() {
    let table = status_table();
    assert_eq!(table.lines().count(), all().count() + 2);
    assert!(table.contains("| 0 | `read` | recorded | unless a file |"));
    assert!(table.contains("| 9 | `mmap` | performed |  |"));
    assert!(table.contains("| 101 | `ptrace` | carried out by rr |  |"));
    assert!(table.contains("| 202 | `futex` | recorded | in some forms |"));
}

fn registers(args: [u64; 6]) -> Registers {
    let mut r = Registers::default();
    for (n, value) in args.into_iter().enumerate() {
        r.set_arg(n, value);
    }
    r
}

#[test]
fn arguments_decide_whether_a_call_waits() {
    let blocking = |number: i64, args| lookup(number).unwrap().blocking_of(&registers(args));
    let (never, maybe) = (Blocking::Never, Blocking::Maybe);
    assert_eq!(blocking(0, [3, 0, 0, 0, 0, 0]), Blocking::Fd(0)); // read
    assert_eq!(blocking(7, [0, 0, 0, 0, 0, 0]), never); // poll with timeout 0
    assert_eq!(blocking(7, [0, 0, u64::from(u32::MAX), 0, 0, 0]), maybe);
    assert_eq!(blocking(61, [0, 0, 1, 0, 0, 0]), never); // wait4(WNOHANG)
    assert_eq!(blocking(61, [0; 6]), maybe);
    assert_eq!(blocking(202, [0x1000, 128, 0, 0, 0, 0]), maybe); // FUTEX_WAIT_PRIVATE
    assert_eq!(blocking(202, [0x1000, 129, 0, 0, 0, 0]), never); // FUTEX_WAKE_PRIVATE
    assert_eq!(blocking(202, [0x1000, 9 | 128 | 256, 0, 0, 0, 0]), maybe); // FUTEX_WAIT_BITSET
    assert_eq!(blocking(202, [0x1000, 6 | 128, 0, 0, 0, 0]), maybe); // FUTEX_LOCK_PI_PRIVATE
    assert_eq!(blocking(202, [0x1000, 7, 0, 0, 0, 0]), never); // FUTEX_UNLOCK_PI
    assert_eq!(blocking(72, [0, 3, 0, 0, 0, 0]), never); // F_GETFL
    assert_eq!(blocking(72, [0, 7, 0, 0, 0, 0]), maybe); // F_SETLKW
    assert_eq!(blocking(257, [0, 0, libc::O_NONBLOCK as u64, 0, 0, 0]), never); // openat
    assert_eq!(blocking(257, [0; 6]), maybe);
    assert_eq!(blocking(45, [0, 0, 0, libc::MSG_DONTWAIT as u64, 0, 0]), never); // recvfrom
    assert_eq!(blocking(16, [0, 0x5413, 0, 0, 0, 0]), never); // TIOCGWINSZ
    assert_eq!(blocking(16, [0, 0x5403, 0, 0, 0, 0]), maybe); // TCSETSW
    assert_eq!(blocking(16, [0, 0x1234_5678, 0, 0, 0, 0]), maybe); // who knows
}

#[test]
fn arguments_decide_what_is_refused() {
    let class = |number: i64, args| lookup(number).unwrap().class_of(&registers(args));
    let refused = |errno| Class::Refused { errno, quiet: false };
    assert_eq!(class(317, [1, 0, 0, 0, 0, 0]), Class::Emulated(Emulated::Seccomp));
    assert_eq!(class(317, [2, 0, 0, 0, 0, 0]), Class::Emulated(Emulated::Seccomp));
    assert_eq!(class(55, [3, 6, 35, 0, 0, 0]), refused(libc::EINVAL)); // TCP_ZEROCOPY_RECEIVE
    assert_eq!(class(16, [3, 0xc010_6400, 0, 0, 0, 0]), refused(libc::ENOTTY)); // DRM_IOCTL_VERSION
}

#[test]
fn success_of_an_unknown_command_is_reported() {
    let unknown =
        |number: i64, args, result| lookup(number).unwrap().unknown_effect(&registers(args), result);
    assert!(unknown(16, [0, 0x9999, 0x1000, 0, 0, 0], 0)); // ioctl
    assert!(!unknown(16, [0, 0x9999, 0x1000, 0, 0, 0], -25));
    assert!(!unknown(16, [0, 0x5401, 0x1000, 0, 0, 0], 0));
    assert!(unknown(72, [0, 9999, 0, 0, 0, 0], 0)); // fcntl
    assert!(!unknown(72, [0, 1, 0, 0, 0, 0], 0));
    assert!(unknown(157, [9999, 0, 0, 0, 0, 0], 0)); // prctl
    assert!(unknown(202, [0, 99, 0, 0, 0, 0], 0)); // futex
    assert!(!unknown(0, [0; 6], 0));
}
