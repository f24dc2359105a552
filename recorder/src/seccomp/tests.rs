//! Compares [`Program`] with the kernel: both must accept the same programs, and must give the same
//! answers. The programs are random, from seeds that a failure prints.

use nix::errno::Errno;

use super::filter::Filter;
use super::program::{DATA, Invalid, Program, Raw};
use super::run;
use super::verdict::{Arch, Asked, Verdict};

/// From this number on there are no calls: a call that a filter allows fails with `ENOSYS`, and has no
/// effect.
const FIRST: u32 = 1000;
const NUMBERS: u32 = 4;
/// Number of calls that each program is asked about.
const CALLS: usize = 12;

/// xorshift64*.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(2_685_821_657_736_338_717)
    }

    fn below(&mut self, bound: u64) -> u64 {
        (self.next() >> 32) % bound
    }

    /// Returns a number that is often small, and often near a limit.
    fn number(&mut self) -> u32 {
        let any = self.next() as u32;
        match self.below(5) {
            0 => any,
            1 => any % 40,
            2 => (any % 8).wrapping_neg(),
            3 => 1 << (any % 32),
            _ => FIRST + any % NUMBERS,
        }
    }

    fn call(&mut self) -> (u32, [u64; 6]) {
        let number = FIRST + self.below(NUMBERS.into()) as u32;
        let args = std::array::from_fn(|_| u64::from(self.number()) << 32 | u64::from(self.number()));
        (number, args)
    }
}

const fn raw(code: u16, k: u32) -> Raw {
    Raw {
        code,
        yes: 0,
        no: 0,
        k,
    }
}

/// Returns the beginning of a program: it allows all calls that do not belong to the test.
fn beginning() -> Vec<Raw> {
    let ge = Raw {
        code: 0x35,
        yes: 1,
        no: 0,
        k: FIRST,
    };
    vec![raw(0x20, 0), ge, raw(0x06, libc::SECCOMP_RET_ALLOW)]
}

/// Returns the end of a program: it answers with an error number that depends on every bit of the
/// accumulator.
fn ending() -> Vec<Raw> {
    let fold = [raw(0x07, 0), raw(0x74, 12), raw(0xac, 0)];
    [
        &fold[..],
        &fold,
        &[raw(0x54, 0xfff), raw(0x44, libc::SECCOMP_RET_ERRNO), raw(0x16, 0)],
    ]
    .concat()
}

/// Returns a program that the kernel is likely to accept.
fn likely(random: &mut Random) -> Vec<Raw> {
    // All codes but returns and jumps.
    const CODES: &[u16] = &[
        0x00, 0x01, 0x20, 0x20, 0x20, 0x60, 0x61, 0x80, 0x81, 0x02, 0x03, 0x04, 0x0c, 0x14, 0x1c, 0x24, 0x2c,
        0x34, 0x3c, 0x44, 0x4c, 0x54, 0x5c, 0x64, 0x6c, 0x74, 0x7c, 0x84, 0xa4, 0xac, 0x07, 0x87,
    ];
    const BRANCHES: &[u16] = &[0x15, 0x1d, 0x25, 0x2d, 0x35, 0x3d, 0x45, 0x4d];
    let mut program = beginning();
    // Writes the memory first.
    program.extend([
        raw(0x20, 16),
        raw(0x02, 0),
        raw(0x20, 20),
        raw(0x03, 1),
        raw(0x02, 2),
    ]);
    for _ in 0..random.below(24) {
        let k = random.number();
        if random.below(4) == 0 {
            let code = BRANCHES[random.below(BRANCHES.len() as u64) as usize];
            let (yes, no) = (random.below(6) as u8, random.below(6) as u8);
            program.push(Raw { code, yes, no, k });
            continue;
        }
        let code = CODES[random.below(CODES.len() as u64) as usize];
        let k = match code {
            0x20 => 4 * (k % DATA as u32),
            0x60 | 0x61 | 0x02 | 0x03 => k % 3,
            0x64 | 0x74 => k % 32,
            0x34 => k.max(1),
            _ => k,
        };
        program.push(raw(code, k));
    }
    // (Jumps lead no further than this.)
    program.extend([raw(0x04, 0); 6]);
    program.extend(ending());
    program
}

/// Returns a program that the kernel is likely to refuse.
fn unlikely(random: &mut Random) -> Vec<Raw> {
    let mut program = likely(random);
    for _ in 0..1 + random.below(2) {
        // The beginning stays as it is, because it lets the child exit.
        let start = beginning().len();
        let at = start + random.below((program.len() - start) as u64) as usize;
        program[at] = match random.below(3) {
            0 => raw(random.below(0x100) as u16, random.number()),
            1 => raw(random.next() as u16, random.number()),
            _ => Raw {
                k: random.number(),
                ..program[at]
            },
        };
    }
    program
}

/// The kernel's answer: the error with which it refuses the program, or the results of the calls.
type Said = Result<[i64; CALLS], Errno>;

/// Makes a call that does not exist. Returns its result, and the address that it returns to.
#[inline(never)]
fn call(number: u32, [a, b, c, d, e, f]: &[u64; 6]) -> (i64, u64) {
    let (mut rax, mut rcx) = (u64::from(number), 0u64);
    // SAFETY: the call has no effect. The kernel leaves the return address in `rcx`.
    unsafe {
        std::arch::asm!(
            "syscall",
            inlateout("rax") rax,
            inlateout("rcx") rcx,
            lateout("r11") _,
            in("rdi") *a, in("rsi") *b, in("rdx") *c, in("r10") *d, in("r8") *e, in("r9") *f,
        );
    }
    (rax as i64, rcx)
}

/// Asks the kernel, in a child. The memory shared with the child holds the error, the address that
/// calls are made from, and the results.
fn ask_kernel(program: &[Raw], calls: &[(u32, [u64; 6]); CALLS]) -> (Said, u64) {
    let code: Vec<libc::sock_filter> = program
        .iter()
        .map(|raw| libc::sock_filter {
            code: raw.code,
            jt: raw.yes,
            jf: raw.no,
            k: raw.k,
        })
        .collect();
    let fprog = libc::sock_fprog {
        len: code.len() as u16,
        filter: code.as_ptr().cast_mut(),
    };
    const WORDS: usize = CALLS + 2;
    // SAFETY: a fresh mapping.
    let shared = unsafe {
        let (prot, flags) = (
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | libc::MAP_ANONYMOUS,
        );
        libc::mmap(std::ptr::null_mut(), WORDS * 8, prot, flags, -1, 0)
    };
    assert_ne!(shared, libc::MAP_FAILED);
    let words = shared.cast::<i64>();
    // SAFETY: the child makes only system calls, and uses only memory that exists already.
    match unsafe { libc::fork() } {
        -1 => panic!("fork: {}", Errno::last()),
        // SAFETY: as above; the words are in the mapping.
        0 => unsafe {
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
            if libc::syscall(
                libc::SYS_seccomp,
                libc::SECCOMP_SET_MODE_FILTER,
                0,
                &raw const fprog,
            ) != 0
            {
                *words = (*libc::__errno_location()).into();
                libc::_exit(0);
            }
            for (n, (number, args)) in calls.iter().enumerate() {
                let (result, place) = call(*number, args);
                *words.add(2 + n) = result;
                *words.add(1) = place as i64;
            }
            libc::_exit(0);
        },
        child => {
            let mut status = 0;
            // SAFETY: waits for the child, whose status goes to the variable.
            assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
            assert_eq!(status, 0, "the child's status");
        }
    }
    // SAFETY: the mapping has `WORDS` words.
    let said: Vec<i64> = (0..WORDS).map(|n| unsafe { *words.add(n) }).collect();
    // SAFETY: nobody uses the mapping any more.
    unsafe { libc::munmap(shared, WORDS * 8) };
    let results = match said[0] {
        0 => Ok(std::array::from_fn(|n| said[2 + n])),
        errno => Err(Errno::from_raw(errno as i32)),
    };
    (results, said[1] as u64)
}

/// Asks our own implementation the same.
fn ask_us(
    program: &[Raw],
    calls: &[(u32, [u64; 6]); CALLS],
    place: u64,
) -> Result<[Verdict; CALLS], Invalid> {
    let filter = Filter::new(Program::new(program)?, Vec::new(), None);
    Ok(calls.map(|(number, args)| {
        filter.verdict(&Asked {
            number: number as i32,
            arch: Arch::X86_64,
            instruction_pointer: place,
            args,
        })
    }))
}

fn check(seed: u64, make: fn(&mut Random) -> Vec<Raw>) -> bool {
    let mut random = Random(seed | 1);
    random.next();
    let program = make(&mut random);
    let calls = std::array::from_fn(|_| random.call());
    let ours = ask_us(&program, &calls, 0);
    // A division by 0 kills the child, which then cannot report its result.
    let kills = |verdicts: &[Verdict; CALLS]| {
        let is_survived = |v: &Verdict| matches!(v, Verdict::Errno(_) | Verdict::Allow);
        !verdicts.iter().all(is_survived)
    };
    if ours.as_ref().is_ok_and(kills) {
        return false;
    }
    let (kernel, place) = ask_kernel(&program, &calls);
    let Ok(results) = kernel else {
        assert_eq!(
            (kernel, ours),
            (Err(Errno::EINVAL), Err(Invalid)),
            "seed {seed}: {program:x?}"
        );
        return true;
    };
    let expected = ask_us(&program, &calls, place).map(|verdicts| {
        verdicts.map(|verdict| match verdict {
            Verdict::Errno(errno) => -i64::from(errno.min(4095)),
            _ => -i64::from(libc::ENOSYS),
        })
    });
    assert_eq!(expected, Ok(results), "seed {seed}: {program:x?} {calls:x?}");
    true
}

#[test]
fn programs_answer_as_in_the_kernel() {
    let checked = (1..800).filter(|seed| check(*seed, likely)).count();
    assert!(checked > 400, "{checked}");
}

#[test]
fn programs_are_taken_as_by_the_kernel() {
    let checked = (1..800).filter(|seed| check(*seed << 20, unlikely)).count();
    assert!(checked > 400, "{checked}");
}

/// If a number is always allowed, each call of that number is allowed.
#[test]
fn what_is_always_allowed_is_allowed() {
    let mut always = 0;
    for seed in 1..4000u64 {
        let mut random = Random(seed << 8 | 1);
        let mut program = likely(&mut random);
        // The end gives one of two answers, so that some calls are allowed.
        let end = program.len() - 3;
        program.truncate(end);
        let mask = 1 << random.below(12);
        program.push(Raw {
            code: 0x45,
            yes: 0,
            no: 1,
            k: mask,
        });
        program.extend([
            raw(0x06, libc::SECCOMP_RET_ERRNO),
            raw(0x06, libc::SECCOMP_RET_ALLOW),
        ]);
        let Ok(program) = Program::new(&program) else {
            continue;
        };
        for number in FIRST..FIRST + NUMBERS {
            let mut known = [None; DATA];
            (known[0], known[1]) = (Some(number), Some(Arch::X86_64 as u32));
            let is_allowed = |answer| Verdict::of(answer) == Verdict::Allow;
            if !run::always_allows(&program, &known, is_allowed) {
                continue;
            }
            always += 1;
            for _ in 0..40 {
                let (_, args) = random.call();
                let asked = Asked {
                    number: number as i32,
                    arch: Arch::X86_64,
                    instruction_pointer: random.next(),
                    args,
                };
                let answer = run::answer(&program, &asked.words());
                assert!(is_allowed(answer), "seed {seed}: {program:x?} {asked:x?}");
            }
        }
    }
    assert!(always > 100, "{always}");
}

/// Common filters leave the library the calls whose arguments they do not check.
#[test]
fn a_list_of_numbers_is_told_apart_from_arguments() {
    let eq = |k: u32, yes: u8, no: u8| Raw {
        code: 0x15,
        yes,
        no,
        k,
    };
    let program = [
        raw(0x20, 4),
        eq(Arch::X86_64 as u32, 1, 0),
        raw(0x06, libc::SECCOMP_RET_KILL_PROCESS),
        raw(0x20, 0),
        eq(libc::SYS_read as u32, 5, 0),
        eq(libc::SYS_ioctl as u32, 0, 3),
        // Allows one request of ioctl.
        raw(0x20, 24),
        eq(0x5401, 2, 0),
        raw(0x06, libc::SECCOMP_RET_ERRNO | 1),
        eq(libc::SYS_write as u32, 0, 1),
        raw(0x06, libc::SECCOMP_RET_ALLOW),
        raw(0x06, libc::SECCOMP_RET_ERRNO | 2),
    ];
    let filter = Filter::new(Program::new(&program).expect("a program"), Vec::new(), None);
    let words = filter.allowed.words();
    let allowed: Vec<u32> = (0..512)
        .filter(|n| words[*n as usize / 64] >> (n % 64) & 1 != 0)
        .collect();
    assert_eq!(allowed, [libc::SYS_read as u32, libc::SYS_write as u32]);
}
